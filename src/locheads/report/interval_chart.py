"""Localization heads against the baselines, as points with their confidence intervals."""

from matplotlib.figure import Figure

from locheads.evaluation.metric_table import METRIC, PRIMARY, method_label
from locheads.records.metrics_file import MetricsRecord
from locheads.report.run_record import RunRecord
from locheads.report.theme import FONT, LIGHT, Theme, label_axes, new_chart


def method_intervals(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """One row per method: REC Acc@0.5 (circle) and RES cIoU (square) in percent, with their intervals.

    Raises:
        StoreError: the run has no readable metrics.json.
    """
    metrics = record.need_metrics()
    figure, axes = new_chart(theme, (5.0, 3.3))
    rows = metrics.rows()
    for metric, marker, shift in zip(PRIMARY, "os", (-0.16, 0.16), strict=True):
        for row, method in enumerate(rows):
            estimate = metrics.get(method, metric)
            if estimate is None:
                continue
            colour = theme.accent if method == "localization_heads" else theme.data
            y = row + shift
            axes.plot([100 * estimate.low, 100 * estimate.high], [y, y], color=colour, linewidth=2.2)
            axes.plot(
                [100 * estimate.value],
                [y],
                marker,
                color=colour if marker == "o" else theme.surface,
                markeredgecolor=colour,
                markeredgewidth=1.8,
                markersize=7,
            )
    axes.set_yticks(range(len(rows)), [method_label(m) for m in rows], color=theme.ink, fontsize=FONT - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, _upper(metrics))
    axes.grid(axis="x", color=theme.faint)
    axes.set_axisbelow(True)
    label_axes(axes, theme, f"percent, with {100 * metrics.confidence:.0f} % interval", "", "")
    for metric, marker in zip(PRIMARY, "os", strict=True):
        fill = theme.muted if marker == "o" else theme.surface
        axes.plot(
            [],
            [],
            marker,
            color=fill,
            markeredgecolor=theme.muted,
            markeredgewidth=1.8,
            label=METRIC[metric].label,
        )
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=FONT - 0.5)
    for text in legend.get_texts():
        text.set_color(theme.ink)
    return figure


def _upper(metrics: MetricsRecord) -> float:
    highest = max((e.high for m in metrics.methods.values() for k, e in m.items() if k in PRIMARY), default=1.0)
    return min(100.0, 112 * highest) or 1.0
