"""audit.json, which choices matter: its figures as text for the page and the terminal, and the terminal's tables."""

from rich.console import RenderableType

from locheads.evaluation.metric_table import METRIC, PRIMARY, percent
from locheads.fitted_table import Row, figures, fitted_table, label, words
from locheads.records.audit_file import AuditDifference, AuditedChoice, AuditFile
from locheads.records.metrics_file import Estimate, few_legend, few_mark
from locheads.report.run_record import RunRecord


def estimate(audit: AuditFile, found: AuditDifference | None) -> Estimate | None:
    """A metric or a difference with its interval; None where the choice failed."""
    if found is None or found.value is None:
        return None
    return Estimate(found.value, found.low, found.high, few_mark(audit.n_images))  # type: ignore[arg-type]


def difference(audit: AuditFile, row: AuditedChoice, metric: str, by: str = "difference") -> Estimate | None:
    """To the run's own settings on the same samples, or what `planting` heads changed; None where the choice failed."""
    return estimate(audit, getattr(row.metrics[metric], by)) if metric in row.metrics else None


def cell(audit: AuditFile, row: AuditedChoice, metric: str) -> str:
    """The metric with its interval."""
    found = estimate(audit, row.metrics.get(metric))
    return found.text(METRIC[metric].unit) if found else "failed"


def difference_cell(audit: AuditFile, row: AuditedChoice, metric: str, by: str = "difference") -> str:
    """See `difference`."""
    found = difference(audit, row, metric, by)
    return found.text(METRIC[metric].unit, sign="+") if found else "failed"


def by_option(audit: AuditFile) -> list[AuditedChoice]:
    """The effects, the option with the largest one first; within an option in the order of its values."""
    size: dict[str, float] = {}
    for row in audit.effects:
        found = difference(audit, row, PRIMARY[0])
        size[row.option] = max(size.get(row.option, 0.0), abs(found.value) if found else 0.0)
    return sorted(audit.effects, key=lambda row: (-size[row.option], row.option))


def ranked(audit: AuditFile) -> tuple[str, tuple[AuditedChoice, ...]]:
    """Title and rows of the combinations closest to the target, or without one of the best."""
    name = METRIC[audit.metric].label
    closest = f"The {len(audit.closest)} closest to {name} = {percent(audit.target or 0)}"
    title = f"The {len(audit.best)} best by {name}" if audit.target is None else closest
    return title, audit.closest or audit.best


def caption(audit: AuditFile) -> str:
    """What was measured."""
    failed = f", {audit.n_failed_choices} of them impossible" if audit.n_failed_choices else ""
    return (
        f"{audit.split}: {audit.n_images} images, {audit.n_expressions} expressions, {audit.n_failed} failed (count "
        f"as misses). {audit.n_choices} combinations{failed}, mode {audit.mode}, {audit.seconds:.0f} s. Brackets: "
        f"{100 * audit.confidence:.0f} % interval over images; differences are paired."
        + few_legend(*(estimate(audit, found) for found in audit.base.metrics.values()))
    )


def audit_tables(record: RunRecord) -> list[RenderableType]:
    """The effects of every option alone, and the best or closest combinations.

    Raises StoreError where the run has no readable audit.json.
    """
    audit = record.need(AuditFile)
    effects = [Row(["this run", "its own settings", *(cell(audit, audit.base, metric) for metric in PRIMARY)], "bold")]
    for row in by_option(audit):
        cells = [difference_cell(audit, row, metric) for metric in PRIMARY]
        effects.append(Row([row.option, row.value, *cells], "red" if row.error else None))
    headings = [*label("option", "value"), *figures(*(METRIC[metric].label for metric in PRIMARY))]
    title, rows = ranked(audit)
    combinations = [
        Row([cell(audit, row, audit.metric), row.changes, "; ".join(row.contradicts) or "nothing"]) for row in rows
    ]
    return [
        fitted_table("Effect of each option alone, in percent points", headings, effects, caption(audit)),
        fitted_table(
            title,
            [*figures(METRIC[audit.metric].label), *words("changes", "contradicts")],
            combinations,
            "Contradictions are with what the paper says of its choices.",
        ),
    ]
