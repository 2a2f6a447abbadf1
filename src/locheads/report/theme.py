"""The look of the charts, on a light and on a dark page. Object API only, so no pyplot state."""

from dataclasses import dataclass
from io import BytesIO, StringIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure

# The charts are shown at about 540 px, and at 360 px on a phone: 11 pt stays readable in both.
FONT = 11
SIZE = (5.0, 3.7)

# Okabe-Ito colours: told apart with every common colour blindness.
TRUE_BOX = "#56b4e9"
PREDICTED_BOX = "#f0e442"


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


def new_chart(theme: Theme, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """A figure with one styled pair of axes. `size` in inches."""
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.surface)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.surface)
    axes.tick_params(colors=theme.muted, labelsize=FONT - 1.5)
    for name, spine in axes.spines.items():
        spine.set_color(theme.muted)
        spine.set_visible(name in ("left", "bottom"))
    return figure, axes


def label_axes(axes: Axes, theme: Theme, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x, color=theme.ink, fontsize=FONT)
    axes.set_ylabel(y, color=theme.ink, fontsize=FONT)
    axes.set_title(title, color=theme.ink, fontsize=FONT + 0.5, loc="left", fontweight="bold", parse_math=False)


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
