"""A sample drawn, one way for the report, the steps and the demo: its image, a heat map, cells, hulls, boxes, a mask.

Everything is placed in pixels of the original image. The panels are PNG or WebP files of such tiles.
"""

import math
from collections.abc import Iterable, Sequence
from importlib import resources
from io import BytesIO

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw, ImageFont

from locheads.grounding.components import hull
from locheads.records.gallery_file import GalleryItem, load_heat, load_image
from locheads.report.run_record import RunRecord
from locheads.report.theme import DARK, LOOKED_AT, PREDICTED_BOX, TRUE_BOX, heat_map
from locheads.types import Box

BLANK = "#8a9099"
"""Stands for an image that is missing."""
MASK_COLOUR = (0, 192, 139)
SATURATION = 98.0
"""Percentile of a map's cells that is drawn in the strongest colour, as all above it."""
DASH = 8
"""Pixels of a dash, and of the gap after it."""
PANEL, TALLEST = 870, 690
"""Pixels: the sample panel's width and its large image's height, at most; a tall image's panel is narrower."""
TITLE, GAP = 40, 15
"""Pixels above each image of the sample panel for its title; and between images, and around them."""
STEP = 190
"""Pixels of the long side of a step's tile."""
STEP_TITLE, STEP_GAP, STEP_WIDTH = 20, 8, 130
"""As TITLE and GAP, and the least width of a tile with its title."""
MAX_HEADS, MAX_STEP_HEADS = 8, 4
FADED = [int(0.75 * value) for value in range(256)]
"""Grey -> the darker grey on which heat is drawn."""


class Tile:
    """An image at some size, over which layers are drawn one after the other."""

    def __init__(
        self, image: Image.Image | None, size: tuple[int, int], within: tuple[float, float], *, grey: bool = False
    ) -> None:
        """`size`: of the original image (width, height); `within`: of the tile, at most. `grey`: dark grey, because
        heat over a red or yellow object could not be told from the object."""
        factor = min(within[0] / size[0], within[1] / size[1])
        shown = max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
        self.image = Image.new("RGB", shown, BLANK)
        if image is not None:
            self.image = image.convert("RGB").resize(shown, Image.Resampling.BILINEAR)
            if grey:
                self.image = faded(self.image)
        self._scale = np.array([shown[0] / size[0], shown[1] / size[1]] * 2)
        self._line = 3 if max(shown) >= 400 else 2

    def heat(self, values: Float[np.ndarray, "row col"], frame: Box) -> "Tile":
        """A heat map whose cells fill `frame`: bars of padding fall outside, what a crop cut off stays clear."""
        return self._layer(heat_map()(unit(values)), frame, Image.Resampling.BILINEAR)

    def cells(self, kinds: Int[np.ndarray, "row col"], frame: Box) -> "Tile":
        """0 is clear, every other number a colour; each pixel takes the cell that its centre lies in."""
        palette = matplotlib.colormaps["tab10"](np.arange(10))
        colours = np.where((kinds > 0)[..., None], palette[kinds % 10], 0.0)
        colours[..., 3] = np.where(kinds > 0, 0.75, 0.0)
        return self._layer(colours, frame, Image.Resampling.NEAREST)

    def hulls(self, labels: Int[np.ndarray, "row col"], chosen: Bool[np.ndarray, "row col"], frame: Box) -> "Tile":
        """The convex hull of every component; those with chosen cells in the answer's colour."""
        pen = ImageDraw.Draw(self.image)
        x0, y0, x1, y1 = frame
        cell = (x1 - x0) / labels.shape[1], (y1 - y0) / labels.shape[0]
        for label in np.unique(labels[labels > 0]):
            corners = (hull(labels == label) * cell + (x0, y0)) * self._scale[:2]
            won = bool(((labels == label) & chosen).any())
            ink, width = (PREDICTED_BOX, 3) if won else ("#ffffff", 1)
            pen.polygon([tuple(point) for point in corners.tolist()], outline=ink, width=width)
        return self

    def box(self, box: Box | None, colour: str, *, dashed: bool = False, thin: bool = False) -> "Tile":
        """A box with a dark edge, so that it shows anywhere; the edge is solid under dashes, too: gaps would otherwise
        vanish on a busy image."""
        if box is None:
            return self
        x0, y0, x1, y1 = np.clip(np.array(box) * self._scale, -10, 10 + max(self.image.size)).tolist()
        corners = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        around = (corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1)
        line = self._line - thin
        ImageDraw.Draw(self.image).rectangle(around, outline="#000000", width=line + 2)
        lined = self.image.copy()
        ImageDraw.Draw(lined).rectangle(corners, outline=colour, width=line)
        along = np.add.outer(np.arange(lined.height), np.arange(lined.width))
        drawn = along // DASH % 2 == 0 if dashed else np.ones_like(along, dtype=bool)
        self.image = Image.composite(lined, self.image, Image.fromarray(drawn))
        return self

    def boxes(self, item: GalleryItem) -> "Tile":
        """The true box (dashed) and the predicted one (solid), or all of them; thin, what was looked at again."""
        for view in item.views:
            self.box(view, LOOKED_AT, dashed=True, thin=True)
        for true in item.truth:
            self.box(true, TRUE_BOX, dashed=True)
        for own in item.answer:
            self.box(own, PREDICTED_BOX)
        return self

    def mask(self, mask: Bool[np.ndarray, "height width"]) -> "Tile":
        """Green over the image inside the mask, dark grey outside; an empty array stands for no mask."""
        inside = Image.new("L", self.image.size)
        if mask.size:
            inside = Image.fromarray((mask * 255).astype(np.uint8)).resize(self.image.size, Image.Resampling.NEAREST)
        green = Image.blend(self.image, Image.new("RGB", self.image.size, MASK_COLOUR), 0.4)
        self.image = Image.composite(green, faded(self.image), inside)
        return self

    def _layer(self, colours: Float[np.ndarray, "row col 4"], frame: Box, how: Image.Resampling) -> "Tile":
        layer = Image.fromarray((255 * colours).astype(np.uint8), "RGBA")
        x0, y0, x1, y1 = np.array(frame) * self._scale
        if not (x1 > x0 and y1 > y0):  # a damaged record
            return self
        cell = (x1 - x0) / layer.width, (y1 - y0) / layer.height
        affine = (1 / cell[0], 0, -x0 / cell[0], 0, 1 / cell[1], -y0 / cell[1])
        placed = layer.transform(self.image.size, Image.Transform.AFFINE, affine, how)
        self.image = Image.alpha_composite(self.image.convert("RGBA"), placed).convert("RGB")
        return self


def unit(heat: Float[np.ndarray, "row col"]) -> Float[np.ndarray, "row col"]:
    """Scaled to [0, 1] by its own extremes: maps of different heads differ by orders of magnitude.

    The strongest 2 % of the cells share the value 1: single cells often outweigh all others and would hide them.
    """
    heat = np.nan_to_num(heat.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = heat.min(), np.percentile(heat, SATURATION)
    high = high if high > low else heat.max()
    return np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)


def sample_panel(record: RunRecord, item: GalleryItem) -> Image.Image:
    """The image with the fused map, the true box (dashed) and the predicted box; beside it the image in its colours,
    and each head's own map.

    Dark, so that one file suits a light and a dark page. What the run folder lacks is left out: without the image the
    maps lie on plain grey, without maps only boxes show.
    """
    image, maps = item_image(record, item), record.maps.get(item.sample_id)
    if maps is None or maps.ndim != 3 or len(maps) == 0:
        maps = np.zeros((0, 1, 1), dtype=np.float32)
    n_small = 1 + bool(item.heat) + min(MAX_HEADS, max(len(maps) - 1, 0), len(item.heads))
    size, (large, small, cols) = (item.width, item.height), _layout(item, n_small)
    main = Tile(image, size, large, grey=len(maps) > 0)
    if len(maps):
        main.heat(maps[0], item.cell_box)
    tiles = [(GAP, 0, ", ".join(filter(None, [f"Sum of {len(item.heads)} heads", item.measured])), main.boxes(item))]
    around = [("Image", Tile(image, size, small))]
    if item.heat:
        around.append(("Truth", _truth_tile(record, item, Tile(image, size, small, grey=True))))
    for name, values in zip(item.heads[:MAX_HEADS], maps[1:], strict=False):
        around.append((name, Tile(image, size, small, grey=True).heat(values, item.cell_box)))
    for i, (title, tile) in enumerate(around):
        row, col = divmod(i, cols)
        left = 2 * GAP + large[0] + col * (small[0] + GAP)
        tiles.append((round(left), round(row * (small[1] + TITLE)), title, tile))
    width, height = 2 * GAP + large[0] + cols * (small[0] + GAP), large[1] + TITLE + GAP
    return _montage(tiles, (round(width), round(height)), TITLE, 23)


def _layout(item: GalleryItem, n_small: int) -> tuple[tuple[float, float], tuple[float, float], int]:
    """-> (width and height of the large image, of the small ones, their columns), in pixels.

    A row of the grid is one title and one small image, and all rows together are as high as the large image with its
    title: small_h = (large_h + TITLE) / rows - TITLE. That fixes the small width, and the widths must add up to PANEL.
    """
    aspect = min(max(item.height / item.width, 0.4), 2.0)
    rows = n_small if n_small <= 3 else math.ceil(math.sqrt(n_small))
    cols = math.ceil(n_small / rows)
    ratio = cols / rows
    width = (PANEL - (cols + 2) * GAP + ratio * (rows - 1) * TITLE / aspect) / (1 + ratio)
    width = min(width, TALLEST / aspect)
    small = (width * aspect + TITLE) / rows - TITLE
    return (width, width * aspect), (small / aspect, small), cols


def steps_panel(record: RunRecord, item: GalleryItem) -> Image.Image | None:
    """How the answer came about: maps, smoothed maps, sum, threshold, components with hulls, box, mask.

    None where the run folder holds no steps of the sample.
    """
    steps, maps, image = record.steps.get(item.sample_id), record.maps.get(item.sample_id), item_image(record, item)
    if steps is None or maps is None:
        return None

    def tile(grey: bool = True) -> Tile:
        return Tile(image, (item.width, item.height), (STEP, STEP), grey=grey)

    def heats(arrays: Iterable[np.ndarray], ending: str = "") -> list[tuple[str, Tile]]:
        pairs = zip(item.heads[:MAX_STEP_HEADS], arrays, strict=False)
        return [(f"{name}{ending}", tile().heat(values, item.cell_box)) for name, values in pairs]

    frame = steps.frame
    above, hulls = tile().cells((steps.labels > 0).astype(int), frame), tile().cells(steps.labels, frame)
    hulls.hulls(steps.labels, steps.chosen, frame)
    boxes, mask = tile(grey=False).boxes(item), tile(grey=False).mask(steps.mask)
    last = [("Above the threshold", above), ("Components, hulls", hulls), ("Box (true: blue)", boxes), ("Mask", mask)]
    if item.heat:  # no box and no mask were asked for
        last = [("Above the threshold", above), ("Truth", _truth_tile(record, item, tile()))]
    rows = [
        [("Image", tile(grey=False)), *heats(maps[1:])],
        [("Sum of the smoothed", tile().heat(maps[0], item.cell_box)), *heats(steps.smoothed, ", smoothed")],
        last,
    ]
    width, height = rows[0][0][1].image.size
    across, down = max(width, STEP_WIDTH) + STEP_GAP, height + STEP_TITLE + STEP_GAP
    tiles = []
    for i, row in enumerate(rows):
        tiles += [(STEP_GAP + j * across, STEP_GAP + i * down, *titled) for j, titled in enumerate(row)]
    return _montage(tiles, (STEP_GAP + across * max(map(len, rows)), STEP_GAP + down * len(rows)), STEP_TITLE, 12)


def to_bytes(panel: Image.Image, kind: str) -> bytes:
    """The panel as a PNG or WebP file; more effort would take twice as long, for 2 to 5 % fewer bytes."""
    target = BytesIO()
    panel.save(target, kind, **({"quality": 78, "method": 2} if kind == "webp" else {"compress_level": 3}))
    return target.getvalue()


def _truth_tile(record: RunRecord, item: GalleryItem, tile: Tile) -> Tile:
    """With the true heat map over it, whatever its own size."""
    heat = load_heat(record.folder, item)
    return tile if heat is None else tile.heat(heat, (0, 0, item.width, item.height))


def item_image(record: RunRecord, item: GalleryItem) -> Image.Image | None:
    """The sample's image; None where it is missing."""
    found = load_image(record.folder, item)
    return None if found is None else Image.fromarray(found)


def faded(image: Image.Image) -> Image.Image:
    """In dark grey: heat over a red or yellow object could not be told from the object."""
    return image.convert("L").point(FADED).convert("RGB")


def _montage(
    tiles: Sequence[tuple[int, int, str, Tile]], size: tuple[int, int], title_height: int, letters: int
) -> Image.Image:
    """(left, top, title, tile) each; the tile lies below its title, whose letters are `letters` pixels high."""
    canvas = Image.new("RGB", size, DARK.surface)
    pen = ImageDraw.Draw(canvas)
    path = resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(path), letters)
    for left, top, title, tile in tiles:
        pen.text((left, top + title_height / 2), title, fill=DARK.ink, font=font, anchor="lm")
        canvas.paste(tile.image, (left, top + title_height))
    return canvas
