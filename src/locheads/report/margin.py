"""Labels for a few points of a chart, in its right margin: they cannot cover the data or each other."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from locheads.report.theme import FONT, Theme

MAX_LABELS = 12
"""More do not fit below each other; the table of heads lists them all."""


def spread(positions: Float[np.ndarray, "n"], gap: float, low: float, high: float) -> Float[np.ndarray, "n"]:
    """Moves positions apart to at least `gap`, keeping their order and staying in [low, high].

    Where they do not all fit, they share the room evenly.
    """
    positions = np.asarray(positions, dtype=np.float64)
    order = np.argsort(positions, kind="stable")
    n = len(positions)
    gap = min(gap, (high - low) / max(n - 1, 1))
    placed = np.clip(positions[order], low, high)
    for i in range(1, n):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    # Pushing up may have left the room at the top: push back down from there.
    for i in range(n - 1, -1, -1):
        placed[i] = min(placed[i], high - (n - 1 - i) * gap)
    result = np.empty(n)
    result[order] = placed
    return result


def margin_labels(axes: Axes, theme: Theme, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Writes each label right of the axes with a thin line to its point (x, y in data units).

    The limits of the axes must be final.
    """
    points, labels = list(points)[:MAX_LABELS], list(labels)[:MAX_LABELS]
    if not points:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = to_axes.transform(np.array(points))[:, 1]
    for point, label, y in zip(points, labels, spread(heights, 0.075, 0.02, 0.98), strict=True):
        axes.annotate(
            label,
            xy=point,
            xytext=(1.03, y),
            textcoords="axes fraction",
            va="center",
            color=theme.accent,
            fontsize=FONT - 1,
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": theme.accent, "linewidth": 0.7, "alpha": 0.7},
        )
