"""The tables of a run for a paper, as LaTeX: its figures beside the baselines, its heads, slices, further looks and the
audit. What a mark or a bracket is stands in each caption, from the record."""

import math
from collections.abc import Collection, Iterable, Iterator

from locheads.errors import StoreError
from locheads.evaluation.metric_table import (
    ABSENT,
    METHODS,
    METRIC,
    Metric,
    Outputs,
    Place,
    Unit,
    headline,
    method_label,
    percent,
    shown,
    told,
)
from locheads.evaluation.slices import SLICES
from locheads.records.audit_file import AuditFile
from locheads.records.heads_file import FoundHead, HeadsFile
from locheads.records.metrics_file import Estimate, MetricsRecord, few_legend, few_mark
from locheads.records.zoom_file import ZoomFile
from locheads.report.audit_report import by_option, difference
from locheads.report.dossier.pairs import Pairs, read_pairs
from locheads.report.interval_words import interval_words, level_of, paired_mark, paired_words
from locheads.report.latex_table import Figure, TexRow, TexTable, booktabs
from locheads.report.run_record import RunRecord
from locheads.report.tables import heads_caption

ANSWERS = {
    Outputs.BOX: "Boxes",
    Outputs.MASK: "Masks",
    Outputs.POINT: "Pointing",
    Outputs.MAP: "Heat maps",
    Outputs.ABSENCE: "Absence",
}
"""What metrics compare -> the title of their table."""


def run_tables(record: RunRecord) -> str:
    """All tables of the run, one after the other; those of records that it does not have are left out.

    Paired differences come from the run's scores.parquet; where it is not what the run wrote, no figure is marked and
    the captions say why.
    """
    found: list[TexTable] = []
    if record.metrics is not None:
        try:
            pairs, why = read_pairs(record.folder, record.metrics), ""
        except StoreError as error:
            # What is wrong, without where the folder lies and what to do: a caption is no place for that.
            pairs, why = {}, str(error).replace(str(record.folder), "the run folder").split(": ")[0] + "."
        found += [*results_tables(record, record.metrics, pairs, why), *slices_tables(record, record.metrics)]
    found += heads_tables(record.heads) if record.heads is not None else []
    found += zoom_tables(record.zoom) if record.zoom is not None else []
    found += audit_tables(record.audit) if record.audit is not None else []
    return "\n".join(map(booktabs, found))


def results_tables(record: RunRecord, metrics: MetricsRecord, pairs: Pairs, why: str = "") -> Iterator[TexTable]:
    """Methods x metrics, a table for each kind of answer. `why`: there are no pairs, as a sentence."""
    for kind, title in ANSWERS.items():
        columns = [
            m for m in told(shown(Place.PAGE), metrics.measured).values() if m.needs == kind and _has(metrics, m)
        ]
        if columns:
            yield _results(record, metrics, columns, title, pairs, why)


def _has(metrics: MetricsRecord, metric: Metric) -> bool:
    return any(metric.key in found for found in metrics.methods.values())


def _results(
    record: RunRecord, metrics: MetricsRecord, columns: list[Metric], title: str, pairs: Pairs, why: str
) -> TexTable:
    methods = [m for m in metrics.rows() if any(metrics.get(m, column.key) for column in columns)]
    rows = []
    for method in methods:
        cells = [estimate(metrics.get(method, c.key), c.unit, _mark(pairs.get(method, {}).get(c.key))) for c in columns]
        below_own = methods[0] == metrics.own() and method in methods[1:2]
        rows.append(TexRow((method_label(method), *cells), "midrule" if below_own else ""))
    own = _own(metrics)
    marked = [key for method in methods for key in pairs.get(method, {}) if key in {c.key for c in columns}]
    notes = [
        f"{title} on {_where(record, metrics.split)}, {_units(columns)}: {metrics.n_images:,} images, "
        f"{metrics.n_expressions:,} expressions, {metrics.n_failed:,} of which failed.",
        interval_words(level_of(metrics.confidence), [column.key for column in columns]),
        paired_words(level_of(metrics.confidence), f"\u201c{own}\u201d") if marked else "",
        f"No paired difference is known: {why}" if why else "",
        "* chosen with ground truth, of the discovery set." if any(_with_truth(m) for m in methods) else "",
    ]
    return TexTable(f"results-{title.lower()}", (" ", *(c.label for c in columns)), tuple(rows), _caption(notes, rows))


def _own(metrics: MetricsRecord) -> str:
    return method_label(metrics.own() or "")


def _with_truth(method: str) -> bool:
    return method in METHODS and METHODS[method].with_truth


def slices_tables(record: RunRecord, metrics: MetricsRecord) -> Iterator[TexTable]:
    """The run's own method on parts of the expressions, by the headline's metrics."""
    keys = [key for key in headline(metrics.measured) if any(key in part.metrics for part in metrics.slices)]
    if not keys:
        return
    rows: list[TexRow] = []
    by = ""
    for part in metrics.slices:
        cells = [estimate(part.metrics.get(key), METRIC[key].unit) for key in keys]
        count = Figure(f"{part.n_expressions:,}")
        named = SLICES.get(part.by, part.by) if part.by != by else ""
        new = bool(rows) and part.by != by
        rows.append(TexRow((named, part.name, count, *cells), "midrule" if new else ""))
        by = part.by
    notes = [
        f"{_own(metrics)} by parts of {_where(record, metrics.split)}, {_units([METRIC[key] for key in keys])}.",
        interval_words(level_of(metrics.confidence), keys),
    ]
    headings = ("of", "part", "expressions", *(METRIC[key].label for key in keys))
    yield TexTable("slices", headings, tuple(rows), _caption(notes, rows))


def heads_tables(heads: HeadsFile) -> Iterator[TexTable]:
    """The localization heads, as the run ranked them."""
    rows = []
    for found in heads.found:
        at = (found.layer, found.head)
        iou, dependence = (
            math.nan if grid is None else float(grid[at])
            for grid in (heads.head_iou, None if heads.dependence is None else heads.dependence.dependence)
        )
        figures = (
            Figure(percent(float(heads.frequency_std[at]))),
            Figure(f"{heads.mean_attention_sum[at]:.3f}"),
            Figure(percent(iou)),
            Figure(ABSENT if math.isnan(dependence) else f"{dependence:.2f}"),
        )
        rows.append(TexRow((str(found.index), _frequency(heads, found), *figures)))
    headings = ("head", "frequency (%)", "\N{PLUS-MINUS SIGN} (%)", "attention sum", "head IoU (%)", "dependence")
    yield TexTable("heads", headings, tuple(rows), f"Localization heads: {heads_caption(heads)}")


def _frequency(heads: HeadsFile, found: FoundHead) -> Figure:
    """Without an interval where the file has none."""
    value = percent(float(heads.frequency_mean[found.layer, found.head]))
    low, high = found.frequency_low, found.frequency_high
    if low is None or high is None or heads.n_images is None:
        return Figure(value)
    return Figure(value, percent(low), percent(high), few_mark(heads.n_images))


def zoom_tables(zoom: ZoomFile) -> Iterator[TexTable]:
    """What further looks changed; the differences are paired, so they are what is marked."""
    rows: list[TexRow] = []
    for gain in zoom.gains:
        for key, change in gain.metrics.items():
            unit, new_part = METRIC[key].unit, bool(rows) and key == next(iter(gain.metrics))
            looks = (Figure(unit.text(change.a)), Figure(unit.text(change.b)))
            ends = Estimate(change.difference, change.low, change.high, few_mark(gain.n_images))
            changed = estimate(ends, unit, paired_mark(change.low, change.high), "+")
            cells = (gain.part, METRIC[key].label, *looks, changed)
            rows.append(TexRow(cells, "midrule" if new_part else ""))
    notes = [
        f"Further looks ({zoom.name}, combined by {zoom.combine}), by the object's share of the image, in percent.",
        paired_words(level_of(zoom.confidence), "the first look"),
        "Brackets are the same intervals.",
    ]
    headings = ("part", "metric", "first look", "after all looks", "change")
    yield TexTable("further-looks", headings, tuple(rows), _caption(notes, rows))


def audit_tables(audit: AuditFile) -> Iterator[TexTable]:
    """What each option alone changes; the differences are paired, so they are what is marked."""
    keys = headline(audit.base.metrics.keys())
    rows: list[TexRow] = []
    for row in by_option(audit):
        found = [difference(audit, row, key) for key in keys]
        cells = [
            estimate(one, METRIC[key].unit, _mark((one.value, one.low, one.high) if one else None), "+", "failed")
            for key, one in zip(keys, found, strict=True)
        ]
        rows.append(TexRow((row.option, row.value, *cells)))
    notes = [
        f"What one other choice changes on {audit.split}, in percentage points: {audit.n_images:,} images, "
        f"{audit.n_expressions:,} expressions.",
        paired_words(level_of(audit.confidence), "the run's own settings"),
        "Brackets are the same intervals.",
    ]
    headings = ("option", "value", *(METRIC[key].label for key in keys))
    yield TexTable("audit", headings, tuple(rows), _caption(notes, rows))


def estimate(found: Estimate | None, unit: Unit, mark: str = "", sign: str = "", absent: str = ABSENT) -> Figure:
    """With its interval and its marks."""
    if found is None:
        return Figure(absent)
    value, low, high = (unit.text(end, sign) for end in (found.value, found.low, found.high))
    return Figure(value, low, high, found.mark + mark)


def _mark(pair: tuple[float, float, float] | None) -> str:
    return "" if pair is None else paired_mark(pair[1], pair[2])


def _units(columns: Collection[Metric]) -> str:
    others = [column.label for column in columns if column.unit is not Unit.PERCENT]
    if not others:
        return "in percent"
    return f"in percent but for {', '.join(others)}" if len(others) < len(columns) else "in the units of the headings"


def _where(record: RunRecord, split: str) -> str:
    return f"{record.setting('dataset.name', 'the data set')} {split} ({record.setting('model.name', 'the model')})"


def _caption(notes: Iterable[str], rows: Iterable[TexRow]) -> str:
    """The sentences, and what the mark of few images says where there is one."""
    marks = [cell.mark for row in rows for cell in row.cells if isinstance(cell, Figure)]
    return " ".join(note for note in (*notes, few_legend(*marks).strip()) if note)
