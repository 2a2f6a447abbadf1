"""audit.json, which choices matter: its figures as text for the page and the terminal, and the terminal's tables."""

from rich.console import RenderableType
from rich.text import Text

from locheads.evaluation.metric_table import ABSENT, METRIC, PRIMARY, Unit, percent
from locheads.fitted_table import Row, figures, fitted_table, label, words
from locheads.records.audit_file import AuditDifference, AuditedChoice, AuditFile, PromptEstimate
from locheads.records.metrics_file import Estimate, few_legend, few_mark
from locheads.report.audit_outcome import audit_outcome
from locheads.report.interval_words import level_of
from locheads.report.run_record import RunRecord

BEST_NOTE = (
    "Contradictions are with what the paper says of its choices. What is best where it was picked is so partly by "
    "chance; the other images had no say."
)

PROMPTS_TITLE = "What a segmenter would be asked, in percent"


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


def best_title(audit: AuditFile) -> str:
    """Where the readings were picked, and where they are confirmed."""
    name = METRIC[audit.metric].label
    if audit.n_confirming is None:
        return f"The {len(audit.best)} best by {name}, on the images by which they were picked"
    return f"The {len(audit.best)} best by {name} on {audit.n_images - audit.n_confirming} images, and on the others"


def picked_cells(audit: AuditFile, row: AuditedChoice) -> tuple[str, str, str]:
    """The metric where the reading was picked and where it was confirmed, and there the difference to this run's
    settings; of earlier versions on all images, and no more."""
    if row.confirmed is None or row.picked is None:
        return cell(audit, row, audit.metric), ABSENT, ABSENT
    unit, mark = METRIC[audit.metric].unit, few_mark(audit.n_confirming or 0)
    both = (row.confirmed, row.confirmed.difference)
    found, difference = (Estimate(e.value, e.low, e.high, mark) for e in both if e is not None)  # type: ignore[arg-type]
    return unit.text(row.picked), found.text(unit), difference.text(unit, sign="+")


def target_rows(audit: AuditFile) -> list[tuple[str, str, str, str]]:
    """Per target: metric and value, with which settings, where, how many readings are compatible with it alone."""
    return [
        (f"{METRIC[t.metric].label} = {percent(t.value)}", t.settings or "its own", f"{t.split} {t.source}".strip(),
         str(t.alone))
        for t in audit.targets
    ]  # fmt: skip


def common_rows(audit: AuditFile, most: int = 12) -> list[tuple[str, str, str, str]]:
    """Option, value, its share of the compatible readings and of all; the most telling first."""
    of_all = audit.n_choices
    return [
        (c.option, c.value, f"{c.members} of {audit.n_compatible}", f"{c.readings} of {of_all}")
        for c in audit.in_common[:most]
    ]


def _prompt_shares(audit: AuditFile) -> list[str]:
    """The metrics that any of the prompts has, in the order of the tables."""
    return [key for key in METRIC if any(key in asked.metrics for asked in audit.prompts)]


def prompt_labels(audit: AuditFile) -> list[str]:
    """Theirs."""
    return [METRIC[key].label for key in _prompt_shares(audit)]


def prompt_rows(audit: AuditFile) -> list[list[str]]:
    """Per prompt: option, value, and each share with its difference to the run's own below."""
    return [
        [asked.option or "this run", asked.value or "its own prompt",
         *(_prompt_cell(audit, asked.metrics.get(key)) for key in _prompt_shares(audit))]
        for asked in audit.prompts
    ]  # fmt: skip


def _prompt_cell(audit: AuditFile, found: PromptEstimate | None) -> str:
    share, change = estimate(audit, found), estimate(audit, found.difference if found else None)
    if share is None:
        return ABSENT
    return str(share) if change is None else f"{share}\n({change.text(Unit.PERCENT, sign='+')})"


def prompt_note(audit: AuditFile) -> str:
    """What the prompts are made from, how good that is by itself, and how to read the table."""
    return (
        f"No segmenter runs. Boxes, peaks and pseudo-masks are those of this run's settings: RES mIoU "
        f"{cell(audit, audit.base, 'res_miou')}, RES cIoU {cell(audit, audit.base, 'res_ciou')}. Points inside: on the "
        "object, in its true mask; beside: of those for the background, outside it. The box that is asked covers so "
        "much of the true mask, and has this IoU with the true box: a wide one covers all. In parentheses: the paired "
        "difference to this run's own prompt."
    )


def caption(audit: AuditFile) -> str:
    """What was measured."""
    failed = f", {audit.n_failed_choices} of them impossible" if audit.n_failed_choices else ""
    return (
        f"{audit.split}: {audit.n_images} images, {audit.n_expressions} expressions, {audit.n_failed} failed (count "
        f"as misses). {audit.n_choices} combinations{failed}, mode {audit.mode}, {audit.seconds:.0f} s. Brackets: "
        f"{level_of(audit.confidence)} interval over images; differences are paired."
        + few_legend(*(estimate(audit, found) for found in audit.base.metrics.values()))
    )


def audit_tables(record: RunRecord) -> list[RenderableType]:
    """The outcome in sentences, the effects of every option alone, the best readings and the compatible ones.

    Raises StoreError where the run has no readable audit.json.
    """
    audit = record.need(AuditFile)
    headline, found = audit_outcome(audit)
    return [
        Text("\n".join([headline, *(f"- {sentence}" for sentence in found)])),
        _effects_table(audit),
        _best_table(audit),
        *([_prompts_table(audit)] if audit.prompts else []),
        *([_targets_table(audit)] if audit.targets else []),
        *([_common_table(audit), _members_table(audit)] if audit.n_compatible else []),
    ]


def _effects_table(audit: AuditFile) -> RenderableType:
    effects = [Row(["this run", "its own settings", *(cell(audit, audit.base, metric) for metric in PRIMARY)], "bold")]
    for row in by_option(audit):
        cells = [difference_cell(audit, row, metric) for metric in PRIMARY]
        effects.append(Row([row.option, row.value, *cells], "red" if row.error else None))
    headings = [*label("option", "value"), *figures(*(METRIC[metric].label for metric in PRIMARY))]
    return fitted_table("Effect of each option alone, in percent points", headings, effects, caption(audit))


def _best_table(audit: AuditFile) -> RenderableType:
    rows = [
        Row([*picked_cells(audit, row), row.changes, "; ".join(row.contradicts) or "nothing"]) for row in audit.best
    ]
    headings = [*figures("picked", "confirmed", "difference"), *words("changes", "contradicts")]
    return fitted_table(best_title(audit), headings, rows, BEST_NOTE)


def _prompts_table(audit: AuditFile) -> RenderableType:
    headings = [*label("option", "value"), *figures(*(METRIC[key].heading for key in _prompt_shares(audit)))]
    return fitted_table(PROMPTS_TITLE, headings, [Row(row) for row in prompt_rows(audit)], prompt_note(audit))


def _targets_table(audit: AuditFile) -> RenderableType:
    headings = [*label("target"), *words("with", "of"), *figures("compatible, alone")]
    return fitted_table("Targets", headings, [Row(row) for row in target_rows(audit)])


def _common_table(audit: AuditFile) -> RenderableType:
    headings = [*label("option", "value"), *figures("compatible", "all")]
    return fitted_table("What compatible readings share", headings, [Row(row) for row in common_rows(audit)])


def _members_table(audit: AuditFile) -> RenderableType:
    rows = [
        Row([cell(audit, row, audit.metric), row.changes, "; ".join(row.contradicts) or "nothing"])
        for row in audit.compatible
    ]
    title = f"{len(rows)} of the {audit.n_compatible} compatible readings, those first that contradict the paper least"
    headings = [*figures(METRIC[audit.metric].label), *words("changes", "contradicts")]
    return fitted_table(title, headings, rows, "audit.csv marks all of them.")
