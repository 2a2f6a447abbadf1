"""From the chosen cells of a stack of maps to boxes, in cells and then in pixels of each map's own image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.geometry import Geometry
from locheads.grounding.config import BoxRule, GroundingConfig, Padding, Rounding


@dataclass(frozen=True)
class Frames:
    """The geometries of a stack of maps, as arrays."""

    scale: Float[np.ndarray, "n 4"]
    cell: Float[np.ndarray, "n 4"]
    """Pixels per cell, were the grid the whole image."""
    offset: Float[np.ndarray, "n 4"]
    limits: Float[np.ndarray, "n 4"]

    @staticmethod
    def of(geometries: Sequence[Geometry]) -> "Frames":
        distinct = {id(geometry): geometry for geometry in geometries}.values()
        numbers = {id(geometry): i for i, geometry in enumerate(distinct)}
        rows = [numbers[id(geometry)] for geometry in geometries]
        scale, cell, offset, limits = (
            np.array(values, dtype=np.float64).reshape(-1, 4)[rows]  # of no geometry, too
            for values in (
                [g.scale * 2 for g in distinct],
                [(g.width / g.cols, g.height / g.rows) * 2 for g in distinct],
                [g.offset * 2 for g in distinct],
                [(g.width, g.height) * 2 for g in distinct],
            )
        )
        return Frames(scale, cell, offset, limits)

    def pixels(self, boxes: Float[np.ndarray, "n 4"], config: GroundingConfig) -> Float[np.ndarray, "n 4"]:
        """xyxy in cells -> xyxy in pixels of the original images; NaN where nothing of a box is left."""
        match config.padding:
            case Padding.mapped:
                found = (boxes - self.offset) / self.scale
            case Padding.ignored:
                found = boxes * self.cell  # a quotient would differ in the last bit, and truncation shows that
            case _:
                assert_never(config.padding)
        if config.clamp:
            found = np.clip(found, 0, self.limits)
        found = _rounded(found, config.rounding)
        empty = ~((found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1]))
        return np.where(empty[:, None], np.nan, found)


def cell_boxes(
    chosen: Bool[np.ndarray, "n row col"], field: Float[np.ndarray, "n row col"], config: GroundingConfig
) -> Float[np.ndarray, "n 4"]:
    """xyxy in cells, ends exclusive; NaN where no cell is chosen."""
    match config.box:
        case BoxRule.hull | BoxRule.component:
            boxes = tight_boxes(chosen)
        case BoxRule.cell_centres:
            boxes = tight_boxes(chosen) - np.array([0.0, 0.0, 1.0, 1.0])
        case BoxRule.mass_quantiles:
            boxes = _mass_quantiles(chosen, field, config.mass)
        case _:
            assert_never(config.box)
    boxes[chosen.reshape(len(chosen), -1).max(axis=1) == 0] = np.nan
    return boxes


def tight_boxes(cells: Bool[np.ndarray, "n row col"]) -> Float[np.ndarray, "n 4"]:
    """xyxy around all True cells, ends exclusive; meaningless where there are none."""
    rows: np.ndarray = np.any(cells, axis=2)
    cols: np.ndarray = np.any(cells, axis=1)
    x0, y0 = cols.argmax(axis=1), rows.argmax(axis=1)
    x1 = cols.shape[1] - cols[:, ::-1].argmax(axis=1)
    y1 = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float64)


def peaks(maps: Float[np.ndarray, "n row col"], frames: Frames) -> Float[np.ndarray, "n 2"]:
    """Where maps point: the centre (x, y) of the strongest cell, in pixels of the original image.

    The first in raster order where several tie. NaN for a constant or NaN map, which points nowhere.
    """
    flat = maps.reshape(len(maps), -1)
    row, col = np.divmod(flat.argmax(axis=1), maps.shape[2])
    at = (np.stack([col, row], axis=1) + 0.5 - frames.offset[:, :2]) / frames.scale[:, :2]
    return np.where(np.ptp(flat, axis=1, keepdims=True) > 0, at, np.nan)


def _mass_quantiles(
    chosen: Bool[np.ndarray, "n row col"], field: Float[np.ndarray, "n row col"], share: float
) -> Float[np.ndarray, "n 4"]:
    weights = np.where(chosen, np.asarray(field, dtype=np.float64), 0.0)
    x, y = (_middle(np.ascontiguousarray(weights.sum(axis=axis)), share) for axis in (1, 2))
    return np.stack([x[0], y[0], x[1], y[1]], axis=1)


def _rounded(boxes: Float[np.ndarray, "n 4"], how: Rounding) -> Float[np.ndarray, "n 4"]:
    match how:
        case Rounding.none:
            return boxes
        case Rounding.truncated:
            # The last pixel that belongs to the box is truncated, and one past it is the end.
            last = np.array([0.0, 0.0, 1.0, 1.0])
            return np.trunc(boxes - last) + last
        case _:
            assert_never(how)


def _middle(weights: Float[np.ndarray, "n cell"], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the middle `share` of each row's weight begins and ends; weight lies evenly within a cell."""
    reached = np.cumsum(weights, axis=1)
    tail = (1 - share) / 2 * reached[:, -1:]
    ends = []
    for target, past in ((tail, reached > tail), (reached[:, -1:] - tail, reached >= reached[:, -1:] - tail)):
        cell = past.argmax(axis=1)[:, None]
        weight = np.take_along_axis(weights, cell, axis=1)
        before = np.take_along_axis(reached, cell, axis=1) - weight
        within = np.divide(target - before, weight, out=np.zeros_like(weight), where=weight > 0)
        ends.append((cell + within)[:, 0])
    return ends[0], ends[1]
