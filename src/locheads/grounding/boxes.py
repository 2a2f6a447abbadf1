"""From the chosen cells of a stack of maps to boxes, in cells and then in pixels of each map's own picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from locheads.grounding.choices import BoxRule, GroundingConfig
from locheads.models.geometry import Geometry


@dataclass(frozen=True)
class Frames:
    """The geometries of a stack of maps, as arrays."""

    scale: Float[np.ndarray, "n 4"]
    offset: Float[np.ndarray, "n 4"]
    limits: Float[np.ndarray, "n 4"]

    @staticmethod
    def of(geometries: Sequence[Geometry]) -> "Frames":
        return Frames(
            np.array([g.scale * 2 for g in geometries]),
            np.array([g.offset * 2 for g in geometries]),
            np.array([(g.width, g.height) * 2 for g in geometries], dtype=np.float64),
        )

    def pixels(self, boxes: Float[np.ndarray, "n 4"], clamp: bool) -> Float[np.ndarray, "n 4"]:
        """xyxy in cells -> xyxy in pixels of the original pictures; NaN where nothing of a box is left."""
        found = (boxes - self.offset) / self.scale
        if clamp:
            found = np.clip(found, 0, self.limits)
        empty = ~((found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1]))
        return np.where(empty[:, None], np.nan, found)


def cell_boxes(
    chosen: Bool[np.ndarray, "n row col"], field: Float[np.ndarray, "n row col"], config: GroundingConfig
) -> Float[np.ndarray, "n 4"]:
    """xyxy in cells, ends exclusive; NaN where no cell is chosen."""
    if config.box is BoxRule.mass_quantiles:
        weights = np.where(chosen, np.asarray(field, dtype=np.float64), 0.0)
        x, y = (_middle(np.ascontiguousarray(weights.sum(axis=axis)), config.mass) for axis in (1, 2))
        boxes = np.stack([x[0], y[0], x[1], y[1]], axis=1)
    else:
        boxes = tight_boxes(chosen)
        if config.box is BoxRule.cell_centres:
            boxes = boxes - np.array([0.0, 0.0, 1.0, 1.0])
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
