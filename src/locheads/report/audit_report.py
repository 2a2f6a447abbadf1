"""audit.json: which choices matter. Typed values, the chart of the effects, and the terminal's tables."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from rich.table import Table

from locheads.evaluation.metric_table import METRIC, PRIMARY, percent
from locheads.records.metrics_file import Estimate, few_legend, parse_estimate
from locheads.report import parse
from locheads.report.theme import FONT, LIGHT, Theme, label_axes
from locheads.terminal import new_table

if TYPE_CHECKING:
    from locheads.report.run_record import RunRecord

MAX_NAME = 58
"""Letters of a row's name in the chart."""


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


def parse_audit(raw: Any) -> AuditRecord:
    """Raises KeyError or ValueError where a field is absent or malformed."""
    raw = parse.mapping(raw, "it")
    lists = {name: parse.listing(raw[name], name) for name in ("effects", "best", "closest")}
    n_images = parse.count(raw["n_images"], "n_images")
    rows = {name: tuple(_row(entry, n_images) for entry in entries) for name, entries in lists.items()}
    return AuditRecord(
        split=str(raw["split"]),
        n_images=n_images,
        n_expressions=parse.count(raw["n_expressions"], "n_expressions"),
        n_failed=parse.count(raw["n_failed"], "n_failed"),
        confidence=parse.number(raw["confidence"], "confidence"),
        mode=str(raw["mode"]),
        seconds=parse.number(raw["seconds"], "seconds"),
        metric=_metric(raw["metric"]),
        target=parse.optional_number(raw["target"], "target"),
        n_choices=parse.count(raw["n_choices"], "n_choices"),
        n_failed_choices=parse.count(raw["n_failed_choices"], "n_failed_choices"),
        base=_row(raw["base"], n_images),
        base_contradicts=tuple(map(str, parse.listing(raw["base_contradicts"], "base_contradicts"))),
        **rows,
    )


def _metric(name: Any) -> str:
    if name not in METRIC:
        raise ValueError(f"metric is {name!r}, which is none")
    return str(name)


def _row(raw: Any, n_images: int) -> AuditRow:
    raw = parse.mapping(raw, "a row")
    metrics, differences = {}, {}
    for name, values in parse.mapping(raw["metrics"], "metrics").items():
        if values["value"] is not None:
            metrics[name] = parse_estimate(values, name, n_images)
            if "difference" in values:
                differences[name] = parse_estimate(values["difference"], name, n_images)
    return AuditRow(
        changes=str(raw["changes"]),
        heads=str(raw["heads"]),
        metrics=metrics,
        differences=differences,
        contradicts=tuple(map(str, parse.listing(raw["contradicts"], "contradicts"))),
        error=None if raw["error"] is None else str(raw["error"]),
        option=str(raw.get("option", "")),
        value=str(raw.get("value", "")),
    )


def audit_effects(record: "RunRecord", theme: Theme = LIGHT) -> Figure:
    """What each option alone does to REC Acc@0.5 and RES cIoU, in percent points, with paired intervals.

    Strong colour: the interval leaves out zero. Raises StoreError where the run has no readable audit.json.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    audit = record.need_audit()
    rows = [row for row in audit.by_option() if row.differences]
    figure = Figure(figsize=(8.4, 1.2 + 0.24 * max(len(rows), 1)), layout="constrained", facecolor=theme.surface)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PRIMARY), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, PRIMARY, strict=True):
        axes.set_facecolor(theme.surface)
        axes.tick_params(colors=theme.muted, labelsize=FONT - 2.5)
        for name, spine in axes.spines.items():
            spine.set_color(theme.muted)
            spine.set_visible(name == "bottom")
        axes.axvline(0, color=theme.muted, linewidth=1)
        _bands(axes, rows, theme)
        for y, row in enumerate(rows):
            found = row.differences[metric]
            clear = found.low > 0 or found.high < 0
            colour = theme.accent if clear else theme.muted
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=2)
            axes.plot([100 * found.value], [y], "o", color=colour, markersize=5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", color=theme.faint)
        axes.set_axisbelow(True)
        value = percent(audit.base.metrics[metric].value) if metric in audit.base.metrics else "?"
        label_axes(axes, theme, "percent points", "", f"{METRIC[metric].label}, from {value}")
    names = [_short(f"{row.option} = {row.value}") for row in rows]
    panels[0].set_yticks(range(len(rows)), names, color=theme.ink, fontsize=FONT - 2.5, parse_math=False)
    return figure


def _bands(axes: Any, rows: list[AuditRow], theme: Theme) -> None:
    """Every other option on a band, so that the values of one belong together."""
    options = list(dict.fromkeys(row.option for row in rows))
    for y, row in enumerate(rows):
        if options.index(row.option) % 2:
            axes.axhspan(y - 0.5, y + 0.5, color=theme.faint, linewidth=0, zorder=0)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


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
