"""The look of the charts, on a light and on a dark page. Object API only, so no pyplot state."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Literal

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure

# The charts are shown at about 540 px, and at 360 px on a phone: 11 pt stays readable in both.
FONT = 11
SIZE = (5.0, 3.7)
MAX_LABELS = 12
"""In a chart's margin: more do not fit below each other; the table of heads lists them all."""

# Okabe-Ito colours: told apart with every common colour blindness.
TRUE_BOX = "#56b4e9"
PREDICTED_BOX = "#f0e442"
LOOKED_AT = "#ffffff"
"""The frame of a part that was looked at again."""


@dataclass(frozen=True)
class Theme:
    """Colours of a chart."""

    surface: str
    ink: str
    muted: str
    """Axes, ticks, leader lines."""
    faint: str
    """Grid lines, empty cells."""
    data: str
    accent: str
    """The localization heads."""
    ramp: tuple[str, ...]
    """From rare to frequent."""

    def frequency_map(self) -> Colormap:
        """Colours of selection frequency; zero has the colour of an empty cell."""
        cmap = LinearSegmentedColormap.from_list("frequency", self.ramp)
        return cmap.with_extremes(under=self.faint)


LIGHT = Theme(
    surface="#ffffff",
    ink="#1b2530",
    muted="#5b6875",
    faint="#eef1f4",
    data="#2f6f9f",
    accent="#c2410c",
    ramp=("#c9dff0", "#6aaed6", "#2171b5", "#08306b"),
)
DARK = Theme(
    surface="#161c23",
    ink="#e8edf2",
    muted="#9aa7b4",
    faint="#222b35",
    data="#6db3e2",
    accent="#ff9d5c",
    ramp=("#1f4566", "#2f78b0", "#74b9ea", "#e3f3ff"),
)


def heat_map() -> ListedColormap:
    """inferno whose opacity grows with the value: the image stays visible where the map is low."""
    colours = matplotlib.colormaps["inferno"](np.linspace(0.15, 1, 256))
    colours[:, 3] = 0.8 * np.linspace(0, 1, 256) ** 1.2
    return ListedColormap(colours, name="heat")


def new_charts(
    theme: Theme,
    size: tuple[float, float] = SIZE,
    n: int = 1,
    spines: Sequence[str] = ("left", "bottom"),
    smaller: float = 1.5,
) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches with `n` styled pairs of axes side by side, which share y.

    Ticks are `smaller` points below FONT.
    """
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.surface)
    FigureCanvasAgg(figure)
    found = list(figure.subplots(1, n, sharey=True, squeeze=False)[0])
    for axes in found:
        axes.set_facecolor(theme.surface)
        axes.tick_params(colors=theme.muted, labelsize=FONT - smaller)
        for name, spine in axes.spines.items():
            spine.set_color(theme.muted)
            spine.set_visible(name in spines)
    return figure, found


def label_axes(
    axes: Axes, theme: Theme, x: str, y: str, title: str, grid: Literal["both", "x", "y"] | None = None
) -> None:
    """`grid`: the axes that get faint lines, behind the data."""
    if grid is not None:
        axes.grid(axis=grid, color=theme.faint)
        axes.set_axisbelow(True)
    axes.set_xlabel(x, color=theme.ink, fontsize=FONT)
    axes.set_ylabel(y, color=theme.ink, fontsize=FONT)
    axes.set_title(title, color=theme.ink, fontsize=FONT + 0.5, loc="left", fontweight="bold", parse_math=False)


def spread(positions: Float[np.ndarray, "n"], gap: float, low: float, high: float) -> Float[np.ndarray, "n"]:
    """Moves positions apart to at least `gap`, keeping their order and staying in [low, high].

    Where they do not all fit, they lie evenly.
    """
    n, order = len(positions), np.argsort(positions, kind="stable")
    steps = np.arange(n) * min(gap, (high - low) / max(n - 1, 1))
    placed = np.maximum.accumulate(np.clip(positions[order], low, high) - steps) + steps
    result = np.empty(n)
    # Pushing up may have passed the top: push back down from there.
    result[order] = np.minimum(placed, high - steps[::-1])
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


def to_svg(figure: Figure) -> str:
    """The figure as SVG with letters as shapes, so that no font is needed; equal figures give equal text."""
    target = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "locheads"}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, dpi=200)
    return target.getvalue()


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG."""
    target = BytesIO()
    figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})
    return target.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """The figure as PDF, with letters as TrueType fonts, which publishers ask for; equal figures give equal bytes."""
    target = BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(
            target, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}, dpi=200
        )
    return target.getvalue()
