"""Samples of a run as one figure for a paper: a row each, in vector graphics but for the images themselves."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from locheads.errors import StoreError
from locheads.records.gallery_file import GalleryItem
from locheads.report.draw_sample import BLANK, MASK_COLOUR, faded, item_image, unit
from locheads.report.run_record import RunRecord
from locheads.report.theme import FONT, LIGHT, LOOKED_AT, PREDICTED_BOX, TRUE_BOX, Theme, heat_map
from locheads.text import printable
from locheads.types import Box

SAMPLES = 4
WIDTH, LINE = 1.9, 0.22
"""Inches: of an image, and of the line of text below a row."""
MAX_LETTERS = 80
"""Of an expression."""


def qualitative(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """The first samples of the run's gallery: boxes (true: dashed; thin: a part that was looked at again),
    the fused map, each head's own, and the mask.

    Raises StoreError where the run kept no samples.
    """
    items = record.gallery[:SAMPLES]
    if not items:
        raise StoreError(f"{record.folder} holds no samples: finish the run with stage=evaluate or later.")
    names = ["Boxes", "Sum", *max((item.heads for item in items), key=len), "Mask"]
    heights = [WIDTH * item.height / item.width + 2 * LINE for item in items]
    figure = Figure(figsize=(WIDTH * len(names), sum(heights)), layout="constrained", facecolor=theme.surface)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=LINE / 2)  # type: ignore[union-attr, call-arg]
    rows = figure.subplots(len(items), len(names), squeeze=False, height_ratios=heights)
    for axes, name in zip(rows[0], names, strict=True):
        axes.set_title(name, color=theme.ink, fontsize=FONT, fontweight="bold", parse_math=False)
    for item, row in zip(items, rows, strict=True):
        _draw_row(record, item, row, theme)
    return figure


def _draw_row(record: RunRecord, item: GalleryItem, row: Sequence[Axes], theme: Theme) -> None:
    """What the run folder lacks is left out: without the image, maps and boxes lie on plain grey."""
    image = item_image(record, item) or Image.new("RGB", (1, 1), BLANK)
    boxes, *around, mask = row
    for axes in row:
        axes.imshow(image if axes is boxes else faded(image), extent=(0, item.width, item.height, 0))
        axes.set(xlim=(0, item.width), ylim=(item.height, 0), autoscale_on=False)
        axes.set_axis_off()
    _frames(boxes, item.views, LOOKED_AT, "--", width=0.9)
    _frames(boxes, item.truth, TRUE_BOX, "--")
    _frames(boxes, item.answer, PREDICTED_BOX, "-")
    for axes, values in zip(around, record.maps.get(item.sample_id, ()), strict=False):
        _heat(axes, values, item.cell_box)
    if (steps := record.steps.get(item.sample_id)) is not None and steps.mask.size:
        _mask(mask, steps.mask)
    # Not part of the layout: a long expression would widen the column.
    below = boxes.text(0, -0.04, _words(item), transform=boxes.transAxes, va="top", parse_math=False, in_layout=False)
    below.set(color=theme.ink, fontsize=FONT - 1)


def _words(item: GalleryItem) -> str:
    text = printable(item.expression)
    text = text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"
    return f"{text} ({item.measured})" if item.measured else text


def _frames(axes: Axes, boxes: Sequence[Box], colour: str, line: str, width: float = 1.8) -> None:
    # Black below, so that the colour shows on any image.
    above = {"edgecolor": colour, "linewidth": width, "linestyle": line}
    looks = {"edgecolor": "black", "linewidth": width + 1.6}, above
    for (x0, y0, x1, y1), look in product(boxes, looks):
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **look))  # type: ignore[arg-type]


def _heat(axes: Axes, values: Float[np.ndarray, "row col"], frame: Box) -> None:
    """`frame`: what the cells fill, in pixels of the original image."""
    x0, y0, x1, y1 = frame
    axes.imshow(unit(values), extent=(x0, x1, y1, y0), cmap=heat_map(), vmin=0, vmax=1, interpolation="bilinear")


def _mask(axes: Axes, mask: Bool[np.ndarray, "height width"]) -> None:
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = (*np.array(MASK_COLOUR) / 255, 0.6)
    axes.imshow(layer, extent=(0, mask.shape[1], mask.shape[0], 0), interpolation="nearest")
