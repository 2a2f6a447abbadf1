"""The charts of a run. Each function returns a matplotlib Figure that no global state holds."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from locheads.records.metrics_file import spearman_text
from locheads.report.audit_report import audit_effects
from locheads.report.frequency_grid import frequency_grid
from locheads.report.interval_chart import method_intervals
from locheads.report.margin import margin_labels
from locheads.report.run_record import RunRecord
from locheads.report.sample_panel import sample_panel
from locheads.report.theme import FONT, LIGHT, Theme, label_axes, new_chart

__all__ = [
    "attention_sum_curve",
    "audit_effects",
    "figure6_scatter",
    "frequency_grid",
    "method_intervals",
    "sample_panel",
]

MIN_FREQUENCY = 0.01
"""The paper's Fig. 6 leaves out heads that fewer than 1 % of the samples chose."""


def attention_sum_curve(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """The admitted layers' mean attention sums, ascending, with tau, its elbow and the localization heads.

    Raises:
        StoreError: the run has no readable heads.json.
    """
    heads = record.need_heads()
    first = min(heads.skip_layers, len(heads.mean_attention_sum) - 1)
    values = np.nan_to_num(heads.mean_attention_sum[first:]).ravel()
    order = np.argsort(values, kind="stable")
    rank_of = np.empty(len(values), dtype=int)
    rank_of[order] = np.arange(1, len(values) + 1)
    figure, axes = new_chart(theme)
    axes.plot(np.arange(1, len(values) + 1), values[order], color=theme.data, linewidth=2)
    axes.set_xlim(0, len(values) + 1)
    axes.set_ylim(0, max(float(values.max()) * 1.08, 1e-6))
    if heads.tau is not None:
        _mark_tau(axes, theme, values[order], heads.tau)
    per_layer = heads.mean_attention_sum.shape[1]
    chosen = [(h, (h.layer - first) * per_layer + h.head) for h in heads.heads if h.layer >= first]
    points = [(float(rank_of[i]), float(values[i])) for _, i in chosen]
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color=theme.accent, markersize=6, zorder=4)
    axes.grid(axis="y", color=theme.faint)
    axes.set_axisbelow(True)
    label_axes(axes, theme, "heads, sorted", "mean attention on the image", "Attention sum of every head")
    margin_labels(axes, theme, points, [str(h) for h, _ in chosen])
    return figure


def _mark_tau(axes: Axes, theme: Theme, ascending: np.ndarray, tau: float) -> None:
    n = len(ascending)
    elbow = int(np.searchsorted(ascending, tau, side="left"))
    axes.axhline(tau, color=theme.muted, linewidth=1.2, linestyle="--")
    # An ascending curve leaves room over its left part, and where it starts high, under its right part.
    high = tau > 0.6 * axes.get_ylim()[1]
    x, y, side = (0.97, 0.02 * tau, "right") if high else (0.02, tau, "left")
    axes.text(
        x * n,
        y,
        f"threshold τ = {tau:.3f}\n{n - elbow} of {n} heads reach it",
        color=theme.ink,
        fontsize=FONT - 1,
        ha=side,
        va="bottom",
        linespacing=1.4,
    )
    if elbow < n:
        axes.axvspan(elbow + 0.5, n + 1, color=theme.data, alpha=0.1, linewidth=0)
        axes.plot(
            [elbow + 1],
            [ascending[elbow]],
            "D",
            color=theme.surface,
            markeredgecolor=theme.ink,
            markersize=7,
            zorder=5,
        )


def figure6_scatter(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """IoU of each head's map against its selection frequency, for heads that >= 1 % of the samples chose.

    Raises:
        StoreError: the run has no readable metrics.json, or it holds no Fig. 6.
    """
    check = record.need_metrics().figure6
    figure, axes = new_chart(theme)
    points = [] if check is None else [p for p in check.points if p.frequency >= MIN_FREQUENCY]
    label_axes(axes, theme, "selection frequency (%)", "mean IoU of the head's map (%)", spearman_text(check))
    if not points:
        axes.text(0.5, 0.5, "No head was chosen by 1 % of the samples.", ha="center", color=theme.ink, fontsize=FONT)
        return figure
    chosen = [str(h) for h in record.heads.heads] if record.heads else list(record.need_metrics().heads)
    marked = sorted((p for p in points if str(p.index) in chosen), key=lambda p: chosen.index(str(p.index)))
    axes.grid(color=theme.faint)
    axes.set_axisbelow(True)
    axes.scatter([100 * p.frequency for p in points], [100 * p.iou for p in points], s=26, color=theme.data, alpha=0.75)
    ends = [(100 * p.frequency, 100 * p.iou) for p in marked]
    axes.scatter([x for x, _ in ends], [y for _, y in ends], s=52, color=theme.accent, zorder=3)
    axes.set_xlim(0, 108 * max(p.frequency for p in points))
    axes.set_ylim(0, max(108 * max(p.iou for p in points), 1.0))
    margin_labels(axes, theme, ends, [str(p.index) for p in marked])
    return figure
