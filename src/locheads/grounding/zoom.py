"""A second look: where the window lies around an answer, and which answer counts of all looks.

A part of the image is an image of its own for the model: its processor scales it up, so that a small object has more
cells. What is found in it is moved by the window's corner, which is whole pixels: nothing is rounded on the way back.
Later than the paper, which looks once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, peaks
from locheads.grounding.config import GroundingConfig
from locheads.grounding.ground_maps import GroundedStack, ground_stack
from locheads.grounding.zoom_config import Centre, Combine, Shape, Window, ZoomConfig
from locheads.types import Box, ImageGroup, Rect

RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Of window=drop."""
Pair = tuple[float, float]
"""(x, y), or (width, height)."""


@dataclass(frozen=True)
class Look:
    """What some heads answer to one expression about the part of an image that they see."""

    stack: GroundedStack
    """Of this expression alone, with the geometry of the part as an image of its own."""
    view: Rect
    """The part."""

    @classmethod
    def first(cls, maps: Float[np.ndarray, "head row col"], geometry: Geometry, config: GroundingConfig) -> "Look":
        """At the whole image, whose geometry is given."""
        return cls(ground_stack(maps[None], (geometry,), config), (0, 0, geometry.width, geometry.height))

    @property
    def fused(self) -> Float[np.ndarray, "row col"]:
        return self.stack.fused[0]

    @property
    def geometry(self) -> Geometry:
        return self.stack.geometries[0]

    @property
    def attention(self) -> float:
        """The sum of the fused map."""
        return float(self.fused.sum(dtype=np.float64))

    @property
    def box(self) -> Box | None:
        """In pixels of the image."""
        found = self.stack.box()
        return None if found is None else moved(found, self.view)

    @property
    def peak(self) -> Pair | None:
        """(x, y) in pixels of the image; None of a map that points nowhere."""
        x, y = peaks(self.stack.fused, Frames.of([self.geometry]))[0].tolist()
        return None if np.isnan(x) else (x + self.view[0], y + self.view[1])

    def mask(self, width: int, height: int) -> Bool[np.ndarray, "height width"]:
        """The pseudo-mask in pixels of the image, False beyond the part."""
        x0, y0, x1, y1 = self.view
        whole = np.zeros((height, width), dtype=bool)
        whole[y0:y1, x0:x1] = self.stack.mask()
        return whole


def moved(box: Box, view: Rect) -> Box:
    """A box of a part of an image, in pixels of the image."""
    x, y = view[:2]
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def seen_in(geometry: Geometry, view: Rect, width: int, height: int) -> Geometry:
    """The geometry of an image (width x height pixels), where this one is that of a part of it."""
    x, y = view[:2]
    return geometry.seen_through(width, height, (-x, -y, width - x, height - y))


def part_of(group: ImageGroup, view: Rect) -> ImageGroup:
    """The part of the image as an image of its own, with the same expressions under ids of their own. They belong to no
    data set: nothing counts or scores them, and their boxes, which tell objects apart, stay those of the image."""
    x0, y0, x1, y1 = view
    samples = tuple(replace(sample, sample_id=part_id(sample.sample_id, view)) for sample in group.samples)
    return ImageGroup(part_id(group.image_id, view), group.path, x1 - x0, y1 - y0, samples, view)


def part_id(own: str, view: Rect) -> str:
    """Of what `own` names, about this part: s12@40,8,104,72."""
    return f"{own}@{','.join(map(str, view))}"


def whole(group: ImageGroup) -> Rect:
    """The first look's view."""
    return 0, 0, group.width, group.height


def next_window(look: Look, width: int, height: int, config: ZoomConfig) -> Rect | None:
    """The part of the image (width x height pixels) to be seen after `look`. None where there is no answer to go by, or
    nothing else to see."""
    box, centre = look.box, look.peak
    if box is None or centre is None:
        return None
    if config.centre == Centre.box:
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    bounds = (0, 0, width, height)
    match config.window:
        case Window.box:
            size = _around(box, width / height, config)
        case Window.share:
            bounds = look.view
            across, down = _size(look.view)
            size = across * config.share[0], down * config.share[1]
        case Window.pixels:
            size = config.side, config.side
        case Window.drop:
            centre, size = sharpest_window(look, config.side)
        case _:
            assert_never(config.window)
    found = place((max(size[0], config.least), max(size[1], config.least)), centre, bounds)
    return None if found == look.view else found


def _around(box: Box, aspect: float, config: ZoomConfig) -> Pair:
    """Width and height of window=box; `aspect`: the image's width over its height."""
    width, height = (max(side * (1 + 2 * config.margin), config.least) for side in _size(box))
    match config.shape:
        case Shape.square:
            return max(width, height), max(width, height)
        case Shape.image:
            return max(width, height * aspect), max(height, width / aspect)
        case Shape.box:
            return width, height
        case _:
            assert_never(config.shape)


def _size(box: Sequence[float]) -> Pair:
    return box[2] - box[0], box[3] - box[1]


def place(size: Pair, centre: Pair, bounds: Rect) -> Rect:
    """A window of at least this size in whole pixels about the centre: moved into the bounds, and where it is larger
    than they are, cut to them."""
    ends = []
    for axis in (0, 1):
        low, high = bounds[axis], bounds[axis + 2]
        length = min(ceil(size[axis]), high - low)
        start = min(max(round(centre[axis] - length / 2), low), high - length)
        ends.append((start, start + length))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1


def sharpest_window(look: Look, side: int) -> tuple[Pair, Pair]:
    """(middle, size) of window=drop, in whole cells; of equals the smallest, the first in reading order. A window that
    has none beside it does not fall off."""
    best = (-np.inf, (0, 0, 0, 0))
    for ratio in RATIOS:
        rows, cols = (
            min(max(int(side * ratio * scale), 1), cells)
            for scale, cells in zip(look.geometry.scale[::-1], look.fused.shape, strict=True)
        )
        sums = np.lib.stride_tricks.sliding_window_view(look.fused.astype(np.float64), (rows, cols)).sum(axis=(2, 3))
        row, col = divmod(int(sums.argmax()), sums.shape[1])
        beside = [sums[r, c] for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1))
                  if 0 <= r < sums.shape[0] and 0 <= c < sums.shape[1]]  # fmt: skip
        drop = float(sums[row, col] - np.mean(beside)) / (rows * cols) if beside else 0.0
        if drop > best[0]:
            best = drop, (col, row, col + cols, row + rows)
    x0, y0, x1, y1 = (look.geometry.to_visible_pixels(np.array(best[1])) + np.tile(look.view[:2], 2)).tolist()
    return ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0, y1 - y0)


def combine(looks: Sequence[Look], config: ZoomConfig) -> Look:
    """The look that counts, or what all of them say together. The first of `looks` is the one at the whole image."""
    answered = [look for look in looks if look.box is not None]
    if len(answered) < 2:
        return (answered or looks)[0]
    match config.combine:
        case Combine.second:
            return answered[-1]
        case Combine.attention:
            least = config.keep * looks[0].attention
            return next((look for look in reversed(answered) if look.attention >= least), answered[0])
        case Combine.mean:
            together = _maps(answered).mean(axis=0)
        case Combine.product:
            together = _maps(answered).prod(axis=0) ** (1 / len(answered))
        case _:
            assert_never(config.combine)
    last = answered[-1]
    found = replace(last, stack=GroundedStack(together[None], last.stack.geometries, last.stack.config))
    return last if found.box is None else found


def _maps(looks: Sequence[Look]) -> Float[np.ndarray, "look row col"]:
    """On the grid of the last; each sums to 1, or is 0."""
    maps = np.stack([resampled(look, looks[-1]) for look in looks])
    sums = maps.sum(axis=(1, 2), keepdims=True)
    return np.divide(maps, sums, out=np.zeros_like(maps), where=sums > 0)


def resampled(look: Look, onto: Look) -> Float[np.ndarray, "row col"]:
    """The fused map of a look on the grid of another: the weight of a cell lies evenly over it, and goes to the cells
    that lie there. What lies beyond either part, on bars for one, is left out."""
    rows, cols = (_shares(look, onto, axis) for axis in (1, 0))
    return rows @ look.fused.astype(np.float64) @ cols.T


def _shares(look: Look, onto: Look, axis: int) -> Float[np.ndarray, "onto own"]:
    """Of each cell of a look along an axis, the share that lies in each cell of another look."""
    low, high = max(look.view[axis], onto.view[axis]), min(look.view[axis + 2], onto.view[axis + 2])
    ends = [one.view[axis] + _edges(one.geometry, axis) for one in (look, onto)]
    own, other = (np.clip(one, low, max(low, high)) for one in ends)
    lengths = np.minimum(other[1:, None], own[1:]) - np.maximum(other[:-1, None], own[:-1])
    return np.clip(lengths, 0, None) / np.diff(ends[0])


def _edges(geometry: Geometry, axis: int) -> Float[np.ndarray, "edge"]:
    """Where cells begin and end, in pixels of the part."""
    cells = (geometry.cols, geometry.rows)[axis]
    return (np.arange(cells + 1) - geometry.offset[axis]) / geometry.scale[axis]
