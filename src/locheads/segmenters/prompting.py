"""From the answer of a fused map to what SAM is asked: points on the object and beside it, and a box with a margin.

The recipes of public code that these are the parts of: docs/masks.md. Points are (x, y) in pixels of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import assert_never

import cv2
import numpy as np
from jaxtyping import Bool, Float

from locheads.geometry import Geometry
from locheads.segmenters.config import Negatives, PointRule, SegmenterConfig
from locheads.segmenters.segmenter import Point, Prompt, pixels_of
from locheads.types import Box

HIGH = 0.9
"""Share of the way from a map's lowest cell to its highest from which a cell is a positive point of `high`."""


@dataclass(frozen=True)
class FusedMap:
    """A map on the patch grid, and where that lies in the image."""

    values: Float[np.ndarray, "row col"]
    geometry: Geometry

    @cached_property
    def centres(self) -> Float[np.ndarray, "cell 2"]:
        """Of the cells whose centre lies in the image, in reading order: a padding bar is nothing to point at."""
        return self._all_centres[self._in_image]

    @cached_property
    def weights(self) -> Float[np.ndarray, "cell"]:
        """Theirs."""
        return np.asarray(self.values, dtype=np.float64).ravel()[self._in_image]

    @cached_property
    def _all_centres(self) -> Float[np.ndarray, "cell 2"]:
        rows, cols = np.mgrid[: self.geometry.rows, : self.geometry.cols] + 0.5
        return (np.stack([cols.ravel(), rows.ravel()], axis=1) - self.geometry.offset) / self.geometry.scale

    @cached_property
    def _in_image(self) -> Bool[np.ndarray, "cell"]:
        size = (self.geometry.width, self.geometry.height)
        inside: np.ndarray = (self._all_centres >= 0) & (self._all_centres < size)
        return inside[:, 0] & inside[:, 1]


def prompt_of(
    config: SegmenterConfig,
    box: Box,
    size: tuple[int, int],
    peak: Point | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
    fused: FusedMap | None = None,
) -> Prompt:
    """What a segmenter is asked about one answer; `size`: (width, height) of the image.

    Where a rule of points finds none, or lacks what it reads (a mask, a map), the peak stands for them, and without
    one the box's centre; without a map there are no negatives.

    Raises ValueError where the box has no area.
    """
    prompt = Prompt(box, peak, mask)
    asked = grown(box, size, config.margin, config.margin_pixels)
    if not config.asks_points:
        return replace(prompt, box=asked)
    points = _chosen(config, prompt, fused) or prompt.positives
    return replace(prompt, box=asked, points=points, negatives=_beside(config, fused, len(points)))


def _chosen(config: SegmenterConfig, prompt: Prompt, fused: FusedMap | None) -> tuple[Point, ...]:
    match config.points:
        case PointRule.peak:
            return ()
        case PointRule.inner:
            return () if prompt.mask is None else _inner_of_box(prompt.mask, prompt.box, config)
        case PointRule.high:
            return () if fused is None else high_cells(fused)
        case _:
            assert_never(config.points)


def _beside(config: SegmenterConfig, fused: FusedMap | None, n: int) -> tuple[Point, ...]:
    match config.negatives:
        case Negatives.none:
            return ()
        case Negatives.lowest:
            return () if fused is None else low_cells(fused, n)
        case _:
            assert_never(config.negatives)


def _inner_of_box(mask: Bool[np.ndarray, "height width"], box: Box, config: SegmenterConfig) -> tuple[Point, ...]:
    """Of the mask's pixels whose centre lies in the box."""
    rows, cols = pixels_of(box)
    inside = inner_points(mask[rows, cols], config.n_points, config.depth)
    return tuple((x + cols.start, y + rows.start) for x, y in inside)


def inner_points(mask: Bool[np.ndarray, "height width"], n: int, share: float = 0.0) -> tuple[Point, ...]:
    """Up to n centres of the mask's pixels, away from its border and from each other; none of a pixel that is nearer to
    the border than `share` of the largest such distance.

    The first is the pixel farthest from what lies outside the mask, the edge of the array included; every other the one
    whose distance to the outside or to the points before it, whichever is smaller, is the largest. Of equals the first
    in reading order.
    """
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    room = np.rint(depth.astype(np.float64) ** 2).astype(np.int64)  # squares are whole numbers: equals are equal
    room[room < share**2 * room.max(initial=0)] = 0
    rows, cols = np.ogrid[: mask.shape[0], : mask.shape[1]]
    found: list[Point] = []
    while len(found) < n and room.size and room.max() > 0:
        y, x = divmod(int(room.argmax()), mask.shape[1])
        found.append((x + 0.5, y + 0.5))
        room = np.minimum(room, (rows - y) ** 2 + (cols - x) ** 2)
    return tuple(found)


def high_cells(fused: FusedMap) -> tuple[Point, ...]:
    """Centres of the cells that reach HIGH, the highest first, half of all at most (GenSAM, which takes them from CLIP
    Surgery's `similarity_map_to_points`; there the map's sides are halved before). None of a constant map."""
    low, high = fused.weights.min(), fused.weights.max()
    order = np.argsort(-fused.weights, kind="stable")
    n = int((fused.weights >= low + HIGH * (high - low)).sum()) if high > low else 0
    return _points(fused.centres[order[: min(n, len(order) // 2)]])


def low_cells(fused: FusedMap, n: int) -> tuple[Point, ...]:
    """Centres of the n lowest cells, the lowest first; of equals the first in reading order."""
    return _points(fused.centres[np.argsort(fused.weights, kind="stable")[:n]])


def grown(box: Box, size: tuple[int, int], share: float, pixels: float = 0.0) -> Box:
    """The box with `share` of its width (height) and so many pixels more on each side, as far as the image goes."""
    x0, y0, x1, y1 = box
    if share == pixels == 0:
        return box
    wide, high = share * (x1 - x0) + pixels, share * (y1 - y0) + pixels
    return max(x0 - wide, 0.0), max(y0 - high, 0.0), min(x1 + wide, float(size[0])), min(y1 + high, float(size[1]))


def asked_again(prompt: Prompt, mask: Bool[np.ndarray, "height width"], share: float) -> Prompt:
    """What the next round asks: the same with the box of the mask that was found, grown by `share` of its sides."""
    x, y, width, height = map(float, cv2.boundingRect(mask.astype(np.uint8)))
    return replace(prompt, box=grown((x, y, x + width, y + height), mask.shape[::-1], share), again=True)


def _points(centres: Float[np.ndarray, "n 2"]) -> tuple[Point, ...]:
    return tuple((x, y) for x, y in centres.tolist())


def labelled(prompts: Sequence[Prompt]) -> tuple[Float[np.ndarray, "prompt n 2"], Float[np.ndarray, "prompt n"]]:
    """Points of prompts that have equally many, with their labels: 1 on the object, 0 beside it."""
    points = [[*prompt.positives, *prompt.negatives] for prompt in prompts]
    labels = [[1.0] * len(prompt.positives) + [0.0] * len(prompt.negatives) for prompt in prompts]
    return np.array(points, dtype=np.float64), np.array(labels)
