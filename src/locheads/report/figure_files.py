"""The figures of a run for a paper: as matplotlib figures, which can be changed, and as SVG, PDF or PNG files."""

from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from matplotlib.figure import Figure

from locheads.discovery.headset import HeadSet
from locheads.errors import ConfigError, StoreError, chosen
from locheads.report.charts import CHARTS
from locheads.report.draw_sample import steps_panel, to_bytes
from locheads.report.figures import head_set_grid
from locheads.report.run_record import RunRecord, read_run
from locheads.report.sample_figure import qualitative
from locheads.report.theme import DARK, LIGHT, Theme, to_pdf, to_png, to_svg
from locheads.store.atomic import write_bytes

DRAW = {**CHARTS, "samples": qualitative}
"""Name of the figure -> what draws it."""


class Scheme(StrEnum):
    """Colours of a figure, for a page of that brightness."""

    light = "light"
    dark = "dark"

    @property
    def theme(self) -> Theme:
        return LIGHT if self == Scheme.light else DARK


class FigureKind(StrEnum):
    """Format of a figure's file."""

    svg = "svg"
    pdf = "pdf"
    png = "png"


_ENCODED = {FigureKind.svg: lambda figure: to_svg(figure).encode(), FigureKind.pdf: to_pdf, FigureKind.png: to_png}


def run_figures(folder: str | Path, scheme: Scheme | str = Scheme.light) -> dict[str, Figure]:
    """The figures of a run folder by name (a key of DRAW); those whose records the run lacks are absent.

    Raises StoreError where the folder is no run folder, or holds nothing that can be drawn.
    """
    return _figures(read_run(Path(folder)), chosen(Scheme, scheme).theme)


def _figures(record: RunRecord, theme: Theme) -> dict[str, Figure]:
    found = {}
    for name, draw in DRAW.items():
        with suppress(StoreError):  # the record is missing
            found[name] = draw(record, theme)
    if not found:
        raise StoreError(f"{record.folder} holds nothing to draw: finish the run with stage=discover or later.")
    return found


def heads_figure(heads: HeadSet, scheme: Scheme | str = Scheme.light) -> Figure:
    """Layers x heads of a head set (`load_heads`), its heads outlined and numbered; coloured by selection frequency
    where the set tells it."""
    return head_set_grid(heads, chosen(Scheme, scheme).theme)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes the figure as the path's ending says (svg, pdf or png) and returns the path.

    Letters are shapes in an SVG, so that it needs no font; equal figures give equal files.

    Raises:
        ConfigError: another ending.
        StoreError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lstrip(".").lower()
    if kind not in list(FigureKind):
        raise ConfigError(f"{path} has to end in .svg, .pdf or .png: that says what is written.")
    write_bytes(path, _ENCODED[FigureKind(kind)](figure))
    return path


def write_figures(folder: Path, target: Path, kind: FigureKind, scheme: Scheme = Scheme.light) -> list[Path]:
    """Writes every figure of a run into the folder `target`, NAME.KIND, and how the answers of the gallery came about
    as steps_NUMBER.png; returns the paths. Raises as `run_figures` and `save_figure` do."""
    record = read_run(folder)
    figures = _figures(record, scheme.theme)
    paths = [save_figure(figure, target / f"{name}.{kind}") for name, figure in figures.items()]
    for number, item in enumerate(record.gallery):  # a sample's id may hold anything
        if (panel := steps_panel(record, item)) is not None:
            paths.append(target / f"steps_{number:02d}.png")
            write_bytes(paths[-1], to_bytes(panel, "png"))
    return paths
