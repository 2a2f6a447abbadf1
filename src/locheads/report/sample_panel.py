"""One sample as an image: the fused heat map with both boxes, the bare image, the heads' maps."""

import math

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from locheads.records.gallery_file import GalleryItem, load_image
from locheads.report.run_record import RunRecord
from locheads.report.theme import DARK, FONT, PREDICTED_BOX, TRUE_BOX, Theme, heat_map
from locheads.types import Box

WIDTH = 5.8
"""Inches of the whole panel; a tall image's panel is narrower."""
MAX_HEIGHT = 4.6
"""Inches of the large image."""
TITLE = 0.27
"""Inches above each image for its title."""
GAP = 0.1
"""Inches between images, and around them."""
MAX_HEADS = 8
SATURATION = 98.0
"""Percentile of a map's cells that is drawn in the strongest colour, as all above it."""


def sample_panel(record: RunRecord, item: GalleryItem, theme: Theme = DARK) -> Figure:
    """The image with the fused map, the true box (dashed) and the predicted box (solid).

    The maps lie on a grey image; beside it the image in its colours, and each head's own map. Dark around the
    images so that one file suits a light and a dark page. What the run folder lacks is left out: without
    the image the maps lie on grey, without maps only boxes show.
    """
    image = load_image(record.folder, item)
    maps = record.maps.get(item.sample_id)
    if maps is None or maps.ndim != 3 or len(maps) == 0:
        maps = np.zeros((0, 1, 1), dtype=np.float32)
    names = item.heads[: min(MAX_HEADS, max(len(maps) - 1, 0))]
    figure = Figure(facecolor=theme.surface)
    FigureCanvasAgg(figure)
    main, small = _axes(figure, item, 1 + len(names))
    _draw(main, item, image, maps[0] if len(maps) else None)
    _draw_box(main, item.true_box, TRUE_BOX, "--")
    if item.box is not None:
        _draw_box(main, item.box, PREDICTED_BOX, "-")
    _title(main, theme, f"Sum of {len(item.heads)} heads, IoU {item.iou:.2f}")
    _draw(small[0], item, image, None)
    _title(small[0], theme, "Image")
    for axes, name, head_map in zip(small[1:], names, maps[1:], strict=False):
        _draw(axes, item, image, head_map)
        _title(axes, theme, name)
    return figure


def _axes(figure: Figure, item: GalleryItem, n_small: int) -> tuple[Axes, list[Axes]]:
    """Places the large axes left and `n_small` small ones in a grid right of it; sets the figure's size.

    In inches. A row of the grid is one title and one small image, and all rows together are as high as the
    large image with its title: small_h = (main_h + TITLE) / rows - TITLE. That fixes the small width, and
    the widths must add up to WIDTH.
    """
    aspect = min(max(item.height / item.width, 0.4), 2.0)
    rows = n_small if n_small <= 3 else math.ceil(math.sqrt(n_small))
    cols = math.ceil(n_small / rows)
    ratio = cols / rows
    main_w = (WIDTH - (cols + 2) * GAP + ratio * (rows - 1) * TITLE / aspect) / (1 + ratio)
    main_w = min(main_w, MAX_HEIGHT / aspect)
    main_h = main_w * aspect
    height = main_h + TITLE
    small_h = height / rows - TITLE
    small_w = small_h / aspect
    width, total = main_w + cols * (GAP + small_w) + 2 * GAP, height + GAP
    figure.set_size_inches(width, total)
    main = figure.add_axes((GAP / width, GAP / total, main_w / width, main_h / total))
    small = []
    for i in range(n_small):
        row, col = divmod(i, cols)
        left = 2 * GAP + main_w + col * (small_w + GAP)
        bottom = GAP + height - (row + 1) * height / rows
        small.append(figure.add_axes((left / width, bottom / total, small_w / width, small_h / total)))
    return main, small


def _draw(
    axes: Axes,
    item: GalleryItem,
    image: UInt8[np.ndarray, "y x 3"] | None,
    heat: Float[np.ndarray, "row col"] | None,
) -> None:
    """The image with a heat map over it, in original pixels; the map's padding falls outside the axes."""
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), item.width, item.height, facecolor="#8a9099", zorder=0))
    if image is not None:
        shown = image if heat is None else faded(image)
        axes.imshow(shown, extent=(0, item.width, item.height, 0), interpolation="bilinear", zorder=1)
    if heat is not None:
        x0, y0, x1, y1 = item.cell_box
        axes.imshow(unit(heat), extent=(x0, x1, y1, y0), cmap=heat_map(), interpolation="bilinear", zorder=2)
    axes.set_aspect("equal", anchor="NW")
    axes.set_xlim(0, item.width)
    axes.set_ylim(item.height, 0)


def faded(image: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "y x 3"]:
    """Dark grey, because heat over a red or yellow object could not be told from the object."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    return np.repeat((0.75 * grey)[..., None], 3, axis=2).astype(np.uint8)


def unit(heat: Float[np.ndarray, "row col"]) -> Float[np.ndarray, "row col"]:
    """Scaled to [0, 1] by its own extremes: maps of different heads differ by orders of magnitude.

    The strongest 2 % of the cells share the value 1: single cells often outweigh all others and would hide them.
    """
    heat = np.nan_to_num(heat.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = heat.min(), np.percentile(heat, SATURATION)
    high = high if high > low else heat.max()
    return np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)


def _draw_box(axes: Axes, box: Box, colour: str, style: str) -> None:
    """A box with a dark edge around the line, so that it shows on any image."""
    x0, y0, x1, y1 = box
    # The edge is solid under the dashed line too: its gaps would otherwise vanish on a busy image.
    for line, width, ink in (("-", 4.4, "#000000a0"), (style, 2.4, colour)):
        axes.add_patch(
            Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=ink,
                linestyle=line,
                linewidth=width,
                zorder=5,
            )
        )


def _title(axes: Axes, theme: Theme, text: str) -> None:
    axes.set_title(text, color=theme.ink, fontsize=FONT, loc="left", pad=4, parse_math=False)
