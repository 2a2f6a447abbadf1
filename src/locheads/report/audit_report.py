"""audit.json: which choices matter. Typed values, and the terminal's tables."""

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from rich.table import Table

from locheads.evaluation.metric_table import METRIC, PRIMARY, percent
from locheads.records.audit_file import AuditDifference, AuditedChoice, AuditFile
from locheads.records.metrics_file import Estimate, few_legend, few_mark
from locheads.terminal import new_table

if TYPE_CHECKING:
    from locheads.report.run_record import RunRecord


@dataclass(frozen=True)
class AuditRow:
    """One combination. Metrics in [0, 1]."""

    changes: str
    """What makes it differ from the run's own settings; "none" for these themselves."""
    heads: str
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    """Metric -> difference to the run's own settings on the same samples; an empty one has none."""
    contradicts: tuple[str, ...]
    """Documented choices of the paper that it goes against."""
    error: str | None
    option: str = ""
    """The one option that is changed, where there is one."""
    value: str = ""

    def cell(self, metric: str) -> str:
        """In percent with its interval."""
        return self.metrics[metric].text(METRIC[metric].unit) if metric in self.metrics else "failed"

    def difference(self, metric: str) -> str:
        """In percent points with its interval."""
        found = self.differences.get(metric)
        if found is None:
            return "failed"
        return found.text(METRIC[metric].unit, sign="+")


@dataclass(frozen=True)
class AuditRecord:
    """What stage=audit found."""

    split: str
    n_images: int
    n_expressions: int
    n_failed: int
    confidence: float
    mode: str
    seconds: float
    metric: str
    target: float | None
    n_choices: int
    n_failed_choices: int
    base: AuditRow
    base_contradicts: tuple[str, ...]
    effects: tuple[AuditRow, ...]
    best: tuple[AuditRow, ...]
    closest: tuple[AuditRow, ...]

    def by_option(self) -> list[AuditRow]:
        """The effects, the option with the largest one first; within an option in the order of its values."""
        size: dict[str, float] = {}
        for row in self.effects:
            found = row.differences.get(PRIMARY[0])
            size[row.option] = max(size.get(row.option, 0.0), abs(found.value) if found else 0.0)
        return sorted(self.effects, key=lambda row: (-size[row.option], row.option))

    def ranked(self) -> tuple[AuditRow, ...]:
        """The closest to the target, or without one the best."""
        return self.closest or self.best

    def ranked_title(self) -> str:
        name = METRIC[self.metric].label
        if self.target is None:
            return f"The {len(self.best)} best by {name}"
        return f"The {len(self.closest)} closest to {name} = {percent(self.target)}"

    def caption(self) -> str:
        """What was measured; shared by the terminal and the page."""
        failed = f", {self.n_failed_choices} of them impossible" if self.n_failed_choices else ""
        return (
            f"{self.split}: {self.n_images} images, {self.n_expressions} expressions, {self.n_failed} failed (count "
            f"as misses). {self.n_choices} combinations{failed}, mode {self.mode}, {self.seconds:.0f} s. Brackets: "
            f"{100 * self.confidence:.0f} % interval over images; differences are paired."
            + few_legend(*self.base.metrics.values())
        )


def parse_audit(file: AuditFile) -> AuditRecord:
    """Raises ValueError where it ranks by a metric that is none."""
    values = {name: getattr(file, name) for name in AuditFile.model_fields}
    values |= {name: tuple(_row(row, file.n_images) for row in values[name]) for name in ("effects", "best", "closest")}
    return AuditRecord(**values | {"metric": _metric(file.metric), "base": _row(file.base, file.n_images)})


def _metric(name: str) -> str:
    if name not in METRIC:
        raise ValueError(f"metric is {name!r}, which is none")
    return name


def _row(row: AuditedChoice, n_images: int) -> AuditRow:
    metrics, differences = {}, {}
    for name, found in row.metrics.items():
        if found.value is not None:
            metrics[name] = _estimate(found, name, n_images)
            if found.difference is not None:
                differences[name] = _estimate(found.difference, name, n_images)
    return AuditRow(row.changes, row.heads, metrics, differences, row.contradicts, row.error, row.option, row.value)


def _estimate(found: AuditDifference, name: str, n_images: int) -> Estimate:
    if found.value is None:
        raise ValueError(f"the difference in {name} has no value")
    low, high = (nan if end is None else end for end in (found.low, found.high))
    return Estimate(found.value, low, high, few_mark(n_images))


def audit_tables(record: "RunRecord") -> list[Table]:
    """The effects of every option alone, and the best or closest combinations.

    Raises StoreError where the run has no readable audit.json.
    """
    audit = record.need_audit()
    effects = new_table("Effect of each option alone, in percent points", audit.caption())
    for name in ("option", "value"):
        effects.add_column(name, overflow="fold")
    for metric in PRIMARY:
        effects.add_column(METRIC[metric].label, justify="right", no_wrap=True)
    base = [audit.base.cell(metric) for metric in PRIMARY]
    effects.add_row("this run's settings", "", *base, style="bold")
    for row in audit.by_option():
        cells = [row.difference(metric) for metric in PRIMARY]
        effects.add_row(row.option, row.value, *cells, style=None if row.metrics else "red")
    ranked = new_table(audit.ranked_title(), "Contradictions are with what the paper says of its choices.")
    ranked.add_column(METRIC[audit.metric].label, justify="right", no_wrap=True)
    for name in ("changes", "contradicts"):
        ranked.add_column(name, overflow="fold")
    for row in audit.ranked():
        ranked.add_row(row.cell(audit.metric), row.changes, "; ".join(row.contradicts) or "nothing")
    return [effects, ranked]
