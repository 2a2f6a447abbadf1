"""The charts of a run. Each function returns a matplotlib Figure that no global state holds.

All raise StoreError where the record that they show is missing or cannot be read.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from locheads.discovery.headset import HeadSet
from locheads.errors import StoreError
from locheads.evaluation.metric_table import METRIC, PRIMARY, method_label, percent
from locheads.records.audit_file import AuditedChoice, AuditFile
from locheads.records.heads_file import HeadsFile
from locheads.records.metrics_file import MetricsRecord, spearman_text
from locheads.report.audit_outcome import is_clear, joint_ends
from locheads.report.audit_report import by_option, difference, estimate
from locheads.report.interval_words import level_of
from locheads.report.run_record import RunRecord
from locheads.report.theme import FONT, LIGHT, MAX_LABELS, Theme, label_axes, margin_labels, new_charts
from locheads.types import HeadIndex

MIN_FREQUENCY = 0.01
"""The paper's Fig. 6 leaves out heads that fewer than 1 % of the samples chose."""
MANY_CELLS = 2000
"""Above this the grid's cells are drawn as pixels: thousands of SVG shapes make a page slow."""
MAX_NAME = 58
"""Letters of a row's name in the audit's chart."""


def attention_sum_curve(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """The admitted layers' mean attention sums, ascending, with tau, its elbow and the localization heads."""
    heads = record.need(HeadsFile)
    first = min(heads.skip_layers, len(heads.mean_attention_sum) - 1)
    values = np.nan_to_num(heads.mean_attention_sum[first:]).ravel()
    ascending = np.sort(values)
    rank_of = 1 + np.argsort(np.argsort(values, kind="stable"))
    figure, (axes,) = new_charts(theme)
    axes.plot(np.arange(1, len(values) + 1), ascending, color=theme.data, linewidth=2)
    axes.set_xlim(0, len(values) + 1)
    axes.set_ylim(0, max(float(values.max()) * 1.08, 1e-6))
    if heads.tau is not None:
        _mark_tau(axes, theme, ascending, heads.tau)
    per_layer = heads.mean_attention_sum.shape[1]
    chosen = [(h, (h.layer - first) * per_layer + h.head) for h in heads.heads if h.layer >= first]
    points = [(float(rank_of[i]), float(values[i])) for _, i in chosen]
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color=theme.accent, markersize=6, zorder=4)
    label_axes(axes, theme, "heads, sorted", "mean attention on the image", "Attention sum of every head", grid="y")
    margin_labels(axes, theme, points, [str(h) for h, _ in chosen])
    return figure


def _mark_tau(axes: Axes, theme: Theme, ascending: np.ndarray, tau: float) -> None:
    n = len(ascending)
    elbow = int(np.searchsorted(ascending, tau, side="left"))
    axes.axhline(tau, color=theme.muted, linewidth=1.2, linestyle="--")
    # An ascending curve leaves room over its left part, and where it starts high, under its right part.
    high = tau > 0.6 * axes.get_ylim()[1]
    x, y, side = (0.97, 0.02 * tau, "right") if high else (0.02, tau, "left")
    text = f"threshold τ = {tau:.3f}\n{n - elbow} of {n} heads reach it"
    axes.text(x * n, y, text, color=theme.ink, fontsize=FONT - 1, ha=side, va="bottom", linespacing=1.4)
    if elbow < n:
        axes.axvspan(elbow + 0.5, n + 1, color=theme.data, alpha=0.1, linewidth=0)
        at = [elbow + 1], [ascending[elbow]]
        axes.plot(*at, "D", color=theme.surface, markeredgecolor=theme.ink, markersize=7, zorder=5)


def figure6_scatter(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """IoU of each head's map against its selection frequency, for heads that >= 1 % of the samples chose."""
    metrics = record.need(MetricsRecord)
    check = metrics.figure6
    figure, (axes,) = new_charts(theme)
    points = [] if check is None else [p for p in check.points if p.frequency >= MIN_FREQUENCY]
    grid: Literal["both"] | None = "both" if points else None
    words = "selection frequency (%)", "mean IoU of the head's map (%)", spearman_text(check)
    label_axes(axes, theme, *words, grid=grid)
    if not points:
        axes.text(0.5, 0.5, "No head was chosen by 1 % of the samples.", ha="center", color=theme.ink, fontsize=FONT)
        return figure
    chosen = [str(h) for h in record.heads.heads] if record.heads else list(metrics.heads)
    marked = sorted((p for p in points if str(p.index) in chosen), key=lambda p: chosen.index(str(p.index)))
    axes.scatter([100 * p.frequency for p in points], [100 * p.iou for p in points], s=26, color=theme.data, alpha=0.75)
    ends = [(100 * p.frequency, 100 * p.iou) for p in marked]
    axes.scatter([x for x, _ in ends], [y for _, y in ends], s=52, color=theme.accent, zorder=3)
    axes.set_xlim(0, 108 * max(p.frequency for p in points))
    axes.set_ylim(0, max(108 * max(p.iou for p in points), 1.0))
    margin_labels(axes, theme, ends, [str(p.index) for p in marked])
    return figure


def frequency_grid(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """Layers x heads, coloured by selection frequency; the localization heads outlined, numbered and listed."""
    heads = record.need(HeadsFile)
    frequency = 100 * np.nan_to_num(heads.frequency_mean)
    names = "selection frequency (%)", "Selection frequency of every head"
    figure = _grid(heads.heads, heads.skip_layers, frequency, _to_highest(frequency), theme, *names)
    return _with_names(figure, theme, "Localization heads, most frequent first:", heads.heads)


def head_set_grid(found: HeadSet, theme: Theme = LIGHT) -> Figure:
    """Layers x heads of a head set, its heads outlined, numbered and listed; coloured where it tells frequencies."""
    frequency = np.zeros((found.layers, found.heads_per_layer))
    for head, value in found.frequency.items():
        frequency[head.layer, head.head] = 100 * value
    name = "selection frequency (%)" if found.frequency else ""
    figure = _grid(found.heads, 0, frequency, _to_highest(frequency), theme, name, found.name)
    return _with_names(figure, theme, "In the order of the source:", found.heads)


def _to_highest(values: Float[np.ndarray, "layer head"]) -> Normalize:
    """Of percent."""
    return Normalize(1e-9, max(float(values.max()), 1.0))


def _with_names(figure: Figure, theme: Theme, title: str, heads: Sequence[HeadIndex]) -> Figure:
    look = {"color": theme.accent, "fontsize": FONT - 1, "fontweight": "bold", "linespacing": 1.5}
    figure.supxlabel("\n".join([title, *_ranked_names(heads)]), **look)
    return figure


def dependence_grid(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """Layers x heads, coloured by their dependence on the words; the localization heads outlined and numbered."""
    heads = record.need(HeadsFile)
    if heads.dependence is None:
        raise StoreError(f"{record.folder}: heads.json does not tell how heads depend on the words.")
    dependence = np.nan_to_num(heads.dependence.dependence)
    names = "dependence", "Dependence of every head on the words"
    return _grid(heads.heads, heads.skip_layers, dependence, Normalize(1e-9, 1.0), theme, *names)


def _grid(
    marked: Sequence[HeadIndex], skip_layers: int, values: Float[np.ndarray, "layer head"], scale: Normalize,
    theme: Theme, name: str, title: str,
) -> Figure:  # fmt: skip
    """A cell per head; those below the scale are empty, and the layers that are never chosen from are hatched.
    `name`: of the values; "" where there are none."""
    layers, per_layer = values.shape
    figure, (axes,) = new_charts(theme, (5.0, 4.3))
    mesh = axes.pcolormesh(
        np.arange(per_layer + 1) - 0.5,
        np.arange(layers + 1) - 0.5,
        values,
        cmap=theme.frequency_map(),
        norm=scale,
        edgecolors=theme.surface,
        linewidth=0.8 if values.size <= MANY_CELLS else 0.2,
        rasterized=values.size > MANY_CELLS or not name,
    )
    axes.set_xlim(-0.5, per_layer - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_aspect("equal", adjustable="box")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 4, 5, 8, 10]))
    if (skipped := min(skip_layers, layers)) > 0:
        _frame(axes, (-0.5, -0.5), per_layer, skipped, hatch="////", edgecolor=theme.muted, linewidth=0, alpha=0.6)
    _mark_cells(axes, theme, marked, scale(values))
    label_axes(axes, theme, "head", "layer", title)
    if not name:
        return figure
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.02, aspect=24)
    bar.set_label(name, color=theme.ink, fontsize=FONT - 1)
    bar.ax.tick_params(colors=theme.muted, labelsize=FONT - 2)
    bar.outline.set_visible(False)
    return figure


def _frame(axes: Axes, corner: tuple[float, float], width: float, height: float, **look: Any) -> None:
    axes.add_patch(Rectangle(corner, width, height, fill=False, **look))


def _mark_cells(axes: Axes, theme: Theme, marked: Sequence[HeadIndex], shares: Float[np.ndarray, "layer head"]) -> None:
    """`shares`: of the ramp, by which each cell is coloured."""
    per_side = max(shares.shape)
    for rank, index in enumerate(marked, start=1):
        _frame(axes, (index.head - 0.5, index.layer - 0.5), 1, 1, edgecolor=theme.accent, linewidth=2, zorder=3)
        # The ramp runs away from the page's colour, so its upper part needs the page's colour as ink.
        strong = shares[index.layer, index.head] > 0.4
        axes.text(
            index.head,
            index.layer,
            str(rank),
            ha="center",
            va="center_baseline",
            color=theme.surface if strong else theme.ink,
            fontsize=min(FONT, 200 / per_side),
            fontweight="bold",
            zorder=4,
        )


def _ranked_names(heads: Sequence[HeadIndex], per_line: int = 4) -> list[str]:
    names = [f"{rank} = {index}" for rank, index in enumerate(heads, start=1)]
    if len(names) > MAX_LABELS:
        names = [*names[:MAX_LABELS], f"and {len(names) - MAX_LABELS} more"]
    return [",   ".join(names[i : i + per_line]) for i in range(0, len(names), per_line)]


def method_intervals(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """One row per method: REC Acc@0.5 (circle) and RES cIoU (square) in percent, with their intervals."""
    metrics = record.need(MetricsRecord)
    if metrics.measured and not metrics.measured & {*PRIMARY}:
        raise StoreError(f"{record.folder}: metrics.json has neither boxes nor masks to compare.")
    figure, (axes,) = new_charts(theme, (5.0, 3.3))
    rows = metrics.rows()
    for metric, marker, shift in zip(PRIMARY, "os", (-0.16, 0.16), strict=True):
        for row, method in enumerate(rows):
            estimate = metrics.get(method, metric)
            if estimate is None:
                continue
            colour = theme.accent if method == "localization_heads" else theme.data
            y = row + shift
            axes.plot([100 * estimate.low, 100 * estimate.high], [y, y], color=colour, linewidth=2.2)
            _marker(axes, theme, [100 * estimate.value], [y], marker, colour, markersize=7)
    axes.set_yticks(range(len(rows)), [method_label(m) for m in rows], color=theme.ink, fontsize=FONT - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    highest = max((e.high for m in metrics.methods.values() for k, e in m.items() if k in PRIMARY), default=1.0)
    axes.set_xlim(0, min(100.0, 112 * highest) or 1.0)
    label_axes(axes, theme, f"percent, with {level_of(metrics.confidence)} interval", "", "", grid="x")
    for metric, marker in zip(PRIMARY, "os", strict=True):
        _marker(axes, theme, [], [], marker, theme.muted, label=METRIC[metric].label)
    look: dict[str, Any] = {"frameon": False, "fontsize": FONT - 0.5, "labelcolor": theme.ink}
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, **look)
    return figure


def _marker(axes: Axes, theme: Theme, x: list[float], y: list[float], marker: str, colour: str, **look: Any) -> None:
    """Circles are filled, squares are not."""
    fill = colour if marker == "o" else theme.surface
    axes.plot(x, y, marker, color=fill, markeredgecolor=colour, markeredgewidth=1.8, **look)


def audit_effects(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """What each option alone does to REC Acc@0.5 and RES cIoU, in percent points, with paired intervals.

    Thick: each option's own interval; thin: the one that holds together with all others. Strong colour: that one
    leaves out zero.
    """
    audit = record.need(AuditFile)
    rows = [row for row in by_option(audit) if all(difference(audit, row, metric) for metric in PRIMARY)]
    size = (8.4, 1.2 + 0.24 * max(len(rows), 1))
    figure, panels = new_charts(theme, size, len(PRIMARY), spines=("bottom",), smaller=2.5)
    for axes, metric in zip(panels, PRIMARY, strict=True):
        axes.axvline(0, color=theme.muted, linewidth=1)
        _bands(axes, rows, theme)
        for y, row in enumerate(rows):
            if (found := difference(audit, row, metric)) is None:
                continue
            joint = row.metrics[metric].difference
            ends = joint_ends(joint) if joint is not None else None
            colour = theme.accent if joint is not None and is_clear(joint) else theme.muted
            for (low, high), width in (((found.low, found.high), 2.4), (ends or (found.low, found.high), 0.9)):
                axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=width)
            axes.plot([100 * found.value], [y], "o", color=colour, markersize=5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        base = estimate(audit, audit.base.metrics.get(metric))
        title = f"{METRIC[metric].label}, from {percent(base.value) if base else '?'}"
        label_axes(axes, theme, "percent points", "", title, grid="x")
    names = [f"{row.option} = {row.value}" for row in rows]
    names = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names]
    panels[0].set_yticks(range(len(rows)), names, color=theme.ink, fontsize=FONT - 2.5, parse_math=False)
    return figure


def _bands(axes: Axes, rows: list[AuditedChoice], theme: Theme) -> None:
    """Every other option on a band, so that the values of one belong together."""
    options = list(dict.fromkeys(row.option for row in rows))
    for y, row in enumerate(rows):
        if options.index(row.option) % 2:
            axes.axhspan(y - 0.5, y + 0.5, color=theme.faint, linewidth=0, zorder=0)
