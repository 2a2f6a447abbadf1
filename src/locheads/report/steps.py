"""How one answer came about, as one image: maps, smoothed maps, sum, threshold, components with hulls, box, mask."""

from importlib import resources
from io import BytesIO

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw, ImageFont

from locheads.grounding.hulls import hull
from locheads.records.gallery_file import GalleryItem, StepArrays, load_image
from locheads.report.run_record import RunRecord
from locheads.report.theme import DARK, PREDICTED_BOX, TRUE_BOX, heat_map
from locheads.types import Box

TILE = 190
"""Pixels of a tile's long side."""
GAP, TITLE = 8, 20
MAX_HEADS = 4


def steps_panel(record: RunRecord, item: GalleryItem) -> Image.Image | None:
    """The panel; None where the run folder holds no steps of the sample."""
    steps, maps = record.steps.get(item.sample_id), record.maps.get(item.sample_id)
    if steps is None or maps is None:
        return None
    canvas = _Canvas(record, item)
    names = item.heads[:MAX_HEADS]
    first = [("Image", canvas.image())]
    first += [(name, canvas.heat(m, item.cell_box)) for name, m in zip(names, maps[1:], strict=False)]
    second = [("Sum of the smoothed", canvas.heat(maps[0], item.cell_box))]
    second += [
        (f"{name}, smoothed", canvas.heat(m, item.cell_box)) for name, m in zip(names, steps.smoothed, strict=False)
    ]
    third = [
        ("Above the threshold", canvas.cells((steps.labels > 0).astype(int), steps.frame)),
        ("Components, hulls", canvas.components(steps)),
        ("Box (true: blue)", canvas.boxes(item)),
        ("Mask", canvas.mask(steps.mask)),
    ]
    return _montage([first, second, third])


def to_bytes(panel: Image.Image, kind: str) -> bytes:
    """The panel as a PNG or WebP file."""
    target = BytesIO()
    panel.save(target, kind, **({"quality": 80} if kind == "webp" else {}))
    return target.getvalue()


class _Canvas:
    """Draws tiles in the frame of the item's image."""

    def __init__(self, record: RunRecord, item: GalleryItem) -> None:
        factor = TILE / max(item.width, item.height)
        self._size = max(round(item.width * factor), 1), max(round(item.height * factor), 1)
        self._scale = self._size[0] / item.width, self._size[1] / item.height
        found = load_image(record.folder, item)
        image = Image.new("RGB", self._size, "#8a9099") if found is None else Image.fromarray(found)
        self._image = image.resize(self._size, Image.Resampling.BILINEAR)
        self._grey = Image.eval(self._image.convert("L").convert("RGB"), lambda v: int(0.75 * v))

    def image(self) -> Image.Image:
        return self._image.copy()

    def heat(self, values: Float[np.ndarray, "row col"], frame: Box) -> Image.Image:
        """A map by its own range."""
        low, high = float(np.min(values)), float(np.max(values))
        unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
        colours = heat_map()(unit)
        return self._over(colours, frame)

    def cells(self, kinds: Int[np.ndarray, "row col"], frame: Box) -> Image.Image:
        """0 is clear, every other number a colour."""
        palette = matplotlib.colormaps["tab10"](np.arange(10))
        colours = np.where((kinds > 0)[..., None], palette[kinds % 10], 0.0)
        colours[..., 3] = np.where(kinds > 0, 0.75, 0.0)
        return self._over(colours, frame)

    def components(self, steps: StepArrays) -> Image.Image:
        tile = self.cells(steps.labels, steps.frame)
        draw = ImageDraw.Draw(tile)
        x0, y0, x1, y1 = steps.frame
        cell = (x1 - x0) / steps.labels.shape[1], (y1 - y0) / steps.labels.shape[0]
        for label in np.unique(steps.labels[steps.labels > 0]):
            cells = steps.labels == label
            corners = hull(cells) * cell + (x0, y0)
            won = bool((cells & steps.chosen).any())
            draw.polygon(
                [tuple(point) for point in (corners * self._scale).tolist()],
                outline=PREDICTED_BOX if won else "#ffffff",
                width=3 if won else 1,
            )
        return tile

    def boxes(self, item: GalleryItem) -> Image.Image:
        tile = self.image()
        for box, colour in ((item.true_box, TRUE_BOX), (item.box, PREDICTED_BOX)):
            if box is not None:
                corners = np.array(box) * (self._scale * 2)
                ImageDraw.Draw(tile).rectangle(corners.tolist(), outline=colour, width=3)
        return tile

    def mask(self, mask: Bool[np.ndarray, "height width"]) -> Image.Image:
        if not mask.size:
            return self._grey.copy()
        small = Image.fromarray((mask * 255).astype(np.uint8)).resize(self._size, Image.Resampling.NEAREST)
        return Image.composite(self._image, self._grey, small)

    def _over(self, colours: Float[np.ndarray, "row col 4"], frame: Box) -> Image.Image:
        """Cells over the grey image; each pixel takes the cell that its centre lies in."""
        x0, y0, x1, y1 = frame
        rows, cols = colours.shape[:2]
        x = np.floor(((np.arange(self._size[0]) + 0.5) / self._scale[0] - x0) / (x1 - x0) * cols).astype(int)
        y = np.floor(((np.arange(self._size[1]) + 0.5) / self._scale[1] - y0) / (y1 - y0) * rows).astype(int)
        seen = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < cols))[None]
        over = colours[np.clip(y, 0, rows - 1)][:, np.clip(x, 0, cols - 1)]
        alpha = (over[..., 3] * seen)[..., None]
        mixed = 255 * over[..., :3] * alpha + np.asarray(self._grey) * (1 - alpha)
        return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _montage(rows: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    width, height = rows[0][0][1].size
    # A title is never wider than its tile may be.
    step_x, step_y = max(width, 130) + GAP, height + TITLE + GAP
    canvas = Image.new("RGB", (GAP + step_x * max(map(len, rows)), GAP + step_y * len(rows)), DARK.surface)
    draw, font = ImageDraw.Draw(canvas), _font()
    for i, row in enumerate(rows):
        for j, (title, tile) in enumerate(row):
            left, top = GAP + j * step_x, GAP + i * step_y
            draw.text((left, top), title, fill=DARK.ink, font=font)
            canvas.paste(tile, (left, top + TITLE))
    return canvas


def _font() -> ImageFont.FreeTypeFont:
    path = resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), 12)
