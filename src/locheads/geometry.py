"""Where a patch of the model's input lies in the original image, and back.

Every preprocessing that we support is, per axis, a scale and a shift, so one small object holds the whole
transform and its exact inverse. The transform is the one of the image processor, to the pixel (its integer
roundings included), because half a patch of error costs IoU.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from locheads.errors import chosen


class Preprocess(StrEnum):
    """How an image becomes what the vision tower sees. All but `native` make a square of it."""

    pad = "pad"
    """Bars of the mean colour make it square (the original LLaVA-1.5)."""
    center_crop = "center_crop"
    """The short side is resized, the long side's ends are cut off (converted checkpoints' default)."""
    squash = "squash"
    """Both sides are resized independently."""
    native = "native"
    """Whatever the checkpoint's own processor does, the aspect ratio kept where it keeps it."""


@dataclass(frozen=True)
class Geometry:
    """`cell = pixel * scale + offset`, per axis (x, y), between original pixels and patch cells.

    Continuous coordinates: pixel i covers [i, i + 1), cell j covers [j, j + 1).
    """

    width: int
    height: int
    rows: int
    cols: int
    scale: tuple[float, float]
    """Cells per pixel, (x, y)."""
    offset: tuple[float, float]
    """Cell coordinate of the image's top-left corner, (x, y)."""

    def to_cells(self, boxes: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """xyxy in original pixels -> xyxy in cells (may lie outside the grid where a crop cut)."""
        return np.asarray(boxes, dtype=np.float64) * (self.scale * 2) + (self.offset * 2)

    def to_pixels(self, boxes: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """xyxy in cells -> xyxy in original pixels: the exact inverse of `to_cells`."""
        return (np.asarray(boxes, dtype=np.float64) - (self.offset * 2)) / (self.scale * 2)

    def to_visible_pixels(self, boxes: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """As `to_pixels`, with the part that lies on padding bars cut off."""
        limits = (self.width, self.height) * 2
        return np.clip(self.to_pixels(boxes), 0, limits)

    def window(self) -> Float[np.ndarray, "4"]:
        """The part of the image that the grid shows, xyxy in original pixels; what lies outside a crop cut off."""
        return self.to_visible_pixels(np.array([0.0, 0.0, self.cols, self.rows]))

    def visible_part(self, boxes: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """What the model sees of each box, xyxy in original pixels: an empty box (of area 0) where it sees nothing."""
        x0, y0, x1, y1 = self.window()
        return np.clip(np.asarray(boxes, dtype=np.float64), (x0, y0, x0, y0), (x1, y1, x1, y1))

    def visible_mask(self) -> Bool[np.ndarray, "height width"]:
        """True for the pixels whose centre lies in a cell. The others were cut off: unknown, not background."""
        return self.upsample(np.ones((self.rows, self.cols), dtype=bool))

    def seen_through(self, width: int, height: int, corners: tuple[float, float, float, float]) -> "Geometry":
        """The geometry of the original image, where this one is that of an image made from it.

        `corners` is where the whole original (width x height pixels) lies in the made image, xyxy in the made
        image's pixels: inside it where bars were added, beyond it where a crop cut.
        """
        if corners == (0, 0, self.width, self.height) and (width, height) == (self.width, self.height):
            return self  # not through a product and a quotient: exact to the bit
        return placed(width, height, self.rows, self.cols, tuple(self.to_cells(np.array(corners)).tolist()))

    def upsample(self, cells: Bool[np.ndarray, "row col"]) -> Bool[np.ndarray, "height width"]:
        """A mask on the grid -> a mask in original pixels: every pixel takes the cell that its centre lies in.

        Pixels that a crop cut off are False.
        """
        row, row_seen = _cell_of_centres(self.height, self.scale[1], self.offset[1], self.rows)
        col, col_seen = _cell_of_centres(self.width, self.scale[0], self.offset[0], self.cols)
        return cells[np.ix_(row, col)] & row_seen[:, None] & col_seen[None, :]

    def edges(self) -> tuple[Int[np.ndarray, "row_edge"], Int[np.ndarray, "col_edge"]]:
        """(rows, cols): the first pixel whose centre lies in each cell, and past the last of the last."""
        axes = ((self.height, self.rows), (self.width, self.cols))
        found = []
        for (pixels, cells), scale, offset in zip(axes, self.scale[::-1], self.offset[::-1], strict=True):
            cell = np.floor((np.arange(pixels) + 0.5) * scale + offset)
            found.append(np.searchsorted(cell, np.arange(cells + 1)))
        return found[0], found[1]

    def coverage(self, mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "row col"]:
        """How many pixels of the mask lie in each cell (fractions where a cell border cuts a pixel)."""
        import cv2  # only here: the settings' classes load this file, and --help must answer at once

        # Sums from the corner, [height + 1, width + 1]; linear within a pixel. Run-length code is decoded by columns.
        sums = cv2.integral(np.ascontiguousarray(mask.T).view(np.uint8)).T
        rows = (np.arange(self.rows + 1) - self.offset[1]) / self.scale[1]
        cols = (np.arange(self.cols + 1) - self.offset[0]) / self.scale[0]
        found = np.diff(np.diff(_between(_between(sums, rows).T, cols).T, axis=0), axis=1)
        # Differences of large sums: what is no more than their rounding is nothing.
        return np.where(found < 1e-6, 0.0, found)

    def cell_pixels(self) -> Float[np.ndarray, "row col"]:
        """How many pixels of the image each cell holds: 0 where a cell lies on a padding bar."""
        return self.coverage(np.ones((self.height, self.width), dtype=bool))

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; `Geometry.from_dict` reads them back exactly."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict) -> "Geometry":
        pair = {key: (float(values[key][0]), float(values[key][1])) for key in ("scale", "offset")}
        return Geometry(**{**values, **pair})


def placed(width: int, height: int, rows: int, cols: int, corners: tuple[float, ...]) -> Geometry:
    """The geometry of an image that lies at `corners` (xyxy in cells, outside the grid where a crop cut)."""
    x0, y0, x1, y1 = corners
    return Geometry(width, height, rows, cols, ((x1 - x0) / width, (y1 - y0) / height), (x0, y0))


def stretched(width: int, height: int, rows: int, cols: int, across: float = 1.0) -> Geometry:
    """The geometry of an image resized to fill the grid.

    `across` > 1: it is that many times larger than the grid, and its right and bottom ends lie outside (a vision
    tower of 384 pixels and patches of 14 has 27 of them, and does not look at the last 6 pixels).
    """
    return placed(width, height, rows, cols, (0.0, 0.0, cols * across, rows * across))


def square_geometry(width: int, height: int, side: int, grid: int, how: str, patch: int | None = None) -> Geometry:
    """The geometry of a model whose input is a square of `side` pixels cut into `grid` x `grid` patches.

    Follows the CLIP image processor: bars and crops are split with floor division, the resized long side is
    truncated to whole pixels. `patch`: side of a patch in pixels, where `side` is no multiple of it.

    Raises:
        ConfigError: `how` is no choice of `Preprocess`, whose names do as well.
    """
    across = grid if patch is None else side / patch
    per_pixel = across / side
    match chosen(Preprocess, how):
        case Preprocess.squash:
            return stretched(width, height, grid, grid, across / grid)
        case Preprocess.pad:
            longest = max(width, height)
            bar_x, bar_y = (longest - width) // 2, (longest - height) // 2
            cells = across / longest
            return Geometry(width, height, grid, grid, (cells, cells), (bar_x * cells, bar_y * cells))
        case Preprocess.center_crop:
            new_width, new_height = _shortest_edge(width, height, side)
            scale = (new_width / width * per_pixel, new_height / height * per_pixel)
            offset = (-((new_width - side) // 2) * per_pixel, -((new_height - side) // 2) * per_pixel)
            return Geometry(width, height, grid, grid, scale, offset)
        case Preprocess.native:
            raise ValueError("native has no geometry of its own: the adapter knows what its processor does")
        case unknown:
            assert_never(unknown)


def padded_square(width: int, height: int, side: int, grid: int, least: int) -> Geometry:
    """The geometry of a processor that resizes the long side to `side`, rounds the short one, and then adds bars.

    Unlike `Preprocess.pad`, which adds the bars first. `least`: no side becomes smaller (DeepSeek-VL).
    """
    factor = side / max(width, height)
    new_width, new_height = max(round(width * factor), least), max(round(height * factor), least)
    longest = max(new_width, new_height)
    x, y, cells = (longest - new_width) // 2, (longest - new_height) // 2, grid / longest
    corners = (x * cells, y * cells, (x + new_width) * cells, (y + new_height) * cells)
    return placed(width, height, grid, grid, corners)


def _shortest_edge(width: int, height: int, side: int) -> tuple[int, int]:
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _cell_of_centres(pixels: int, scale: float, offset: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.floor((np.arange(pixels) + 0.5) * scale + offset).astype(int)
    return np.clip(index, 0, cells - 1), (index >= 0) & (index < cells)


def _between(lines: Real[np.ndarray, "line n"], at: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m n"]:
    """The lines at the places `at`, linear between two of them; beyond the ends the first or the last."""
    at = np.clip(at, 0, len(lines) - 1)
    low = np.minimum(at.astype(int), len(lines) - 2)
    part = (at - low)[:, None]
    return lines[low] * (1 - part) + lines[low + 1] * part
