"""Layers x heads: which heads the samples chose."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from locheads.records.heads_file import HeadsFile
from locheads.report.margin import MAX_LABELS
from locheads.report.run_record import RunRecord
from locheads.report.theme import FONT, LIGHT, Theme, label_axes, new_chart

MANY_CELLS = 2000
"""Above this the grid's cells are drawn as pixels: thousands of SVG shapes make a page slow."""


def frequency_grid(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """Layers x heads, coloured by selection frequency; the localization heads outlined, numbered and listed.

    Raises:
        StoreError: the run has no readable heads.json.
    """
    heads = record.need_heads()
    frequency = 100 * np.nan_to_num(heads.frequency_mean)
    layers, per_layer = frequency.shape
    figure, axes = new_chart(theme, (5.0, 4.3))
    mesh = axes.pcolormesh(
        np.arange(per_layer + 1) - 0.5,
        np.arange(layers + 1) - 0.5,
        frequency,
        cmap=theme.frequency_map(),
        norm=Normalize(1e-9, max(float(frequency.max()), 1.0)),
        edgecolors=theme.surface,
        linewidth=0.8 if frequency.size <= MANY_CELLS else 0.2,
        rasterized=frequency.size > MANY_CELLS,
    )
    axes.set_xlim(-0.5, per_layer - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_aspect("equal", adjustable="box")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 4, 5, 8, 10]))
    _hatch_skipped(axes, theme, heads)
    _mark_cells(axes, theme, heads)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.02, aspect=24)
    bar.set_label("selection frequency (%)", color=theme.ink, fontsize=FONT - 1)
    bar.ax.tick_params(colors=theme.muted, labelsize=FONT - 2)
    bar.outline.set_visible(False)
    label_axes(axes, theme, "head", "layer", "Selection frequency of every head")
    return figure


def _hatch_skipped(axes: Axes, theme: Theme, heads: HeadsFile) -> None:
    rows = min(heads.skip_layers, len(heads.frequency_mean))
    if rows > 0:
        width = heads.frequency_mean.shape[1]
        axes.add_patch(
            Rectangle(
                (-0.5, -0.5),
                width,
                rows,
                fill=False,
                hatch="////",
                edgecolor=theme.muted,
                linewidth=0,
                alpha=0.6,
            )
        )


def _mark_cells(axes: Axes, theme: Theme, heads: HeadsFile) -> None:
    top = float(np.nanmax(heads.frequency_mean, initial=0.0)) or 1.0
    per_side = max(heads.frequency_mean.shape)
    for rank, index in enumerate(heads.heads, start=1):
        axes.add_patch(
            Rectangle(
                (index.head - 0.5, index.layer - 0.5),
                1,
                1,
                fill=False,
                edgecolor=theme.accent,
                linewidth=2,
                zorder=3,
            )
        )
        # The ramp runs away from the page's colour, so its upper part needs the page's colour as ink.
        strong = heads.frequency_mean[index.layer, index.head] > 0.4 * top
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
    axes.figure.supxlabel(
        _ranked_names(heads), color=theme.accent, fontsize=FONT - 1, fontweight="bold", linespacing=1.5
    )


def _ranked_names(heads: HeadsFile, per_line: int = 4) -> str:
    names = [f"{rank} = {index}" for rank, index in enumerate(heads.heads, start=1)]
    if len(names) > MAX_LABELS:
        names = [*names[:MAX_LABELS], f"and {len(names) - MAX_LABELS} more"]
    lines = [",   ".join(names[i : i + per_line]) for i in range(0, len(names), per_line)]
    return "\n".join(["Localization heads, most frequent first:", *lines])
