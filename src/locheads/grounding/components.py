"""Which of the cells above the threshold are the object: one 8-connected component per map, or all cells.

Works on a stack of maps at once; the maps never see each other.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from locheads.connected import canvas
from locheads.grounding.config import Component


@dataclass(frozen=True)
class Components:
    """The components of a stack of maps, in reading order within each map."""

    labels: Int[np.ndarray, "n row col"]
    """0: below the threshold; else the component's number, counted from 1 over the whole stack."""
    boxes: Int[np.ndarray, "component 4"]
    """Bounding box within the map: first column, first row, width, height."""
    owner: Int[np.ndarray, "component"]
    """The map of each component."""
    areas: Float[np.ndarray, "component"]
    """Cells of each component."""

    @staticmethod
    def of(cells: Bool[np.ndarray, "n row col"]) -> "Components":
        """Cells touch by side or corner."""
        rows = cells.shape[1] + 1
        # Of OpenCV's algorithms the one that numbers components in reading order.
        _, labels, found, _ = cv2.connectedComponentsWithStatsWithAlgorithm(canvas(cells), 8, cv2.CV_32S, cv2.CCL_WU)
        owner, top = np.divmod(found[1:, cv2.CC_STAT_TOP].astype(np.int64), rows)
        boxes = found[1:, : cv2.CC_STAT_AREA].astype(np.int64)
        boxes[:, cv2.CC_STAT_TOP] = top
        areas = found[1:, cv2.CC_STAT_AREA].astype(np.float64)
        return Components(labels.reshape(-1, rows, cells.shape[2])[:, :-1], boxes, owner, areas)

    @cached_property
    def hulls(self) -> Float[np.ndarray, "component"]:
        """Area of each hull in cells, where that is needed to tell which of its map is the largest.

        A hull lies between the component and its box, so most maps are decided without one, and most others by that of
        the component with the largest box: one whose box is smaller than what another has for sure gets 0, and one
        that is left alone its own area.
        """
        boxes = self.boxes[:, 2] * self.boxes[:, 3]
        found, sure = self.areas.copy(), np.zeros(len(self.labels))
        np.maximum.at(sure, self.owner, self.areas)
        first = self._with_the_largest_box(boxes)
        for chosen in (first, np.delete(np.arange(len(boxes)), first)):
            rivals = boxes >= sure[self.owner]
            contested = np.bincount(self.owner, weights=rivals, minlength=len(sure))[self.owner] > 1
            # A component that fills its box is its own hull.
            for i in chosen[(rivals & contested & (boxes > found))[chosen]]:
                x, y, width, height = self.boxes[i]
                found[i] = hull_area(self.labels[self.owner[i], y : y + height, x : x + width] == i + 1)
            np.maximum.at(sure, self.owner, found)
        return np.where(boxes >= sure[self.owner], found, 0.0)

    def _with_the_largest_box(self, boxes: Int[np.ndarray, "component"]) -> Int[np.ndarray, "n"]:
        """Of each map that has a component."""
        order = np.lexsort((-boxes, self.owner))
        return order[np.unique(self.owner[order], return_index=True)[1]]

    def masses(self, field: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "component"]:
        """Sum of the map over each component."""
        weights = np.asarray(field, dtype=np.float64).ravel()
        return np.bincount(self.labels.ravel(), weights=weights, minlength=len(self.areas) + 1)[1:]

    def peaks(self, field: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "component"]:
        """Maximum of the map over each component."""
        return np.asarray(ndimage.maximum(field, self.labels, np.arange(1, len(self.areas) + 1)), dtype=np.float64)


def choose(
    components: Components, field: Float[np.ndarray, "n row col"], rule: Component
) -> Bool[np.ndarray, "n row col"]:
    """The cells of each map's best component; of equals, the first in reading order. None where it has none."""
    match rule:
        case Component.all_cells:
            return components.labels > 0
        case Component.largest_hull:
            values = components.hulls
        case Component.largest_area:
            values = components.areas
        case Component.largest_mass:
            values = components.masses(field)
        case Component.highest_peak:
            values = components.peaks(field)
        case _:
            assert_never(rule)
    best = np.full(len(components.labels), -1)
    # Sorted by map, then the best first, then reading order: the first of each map wins.
    order = np.lexsort((np.arange(len(values)), -values, components.owner))
    owners, first = np.unique(components.owner[order], return_index=True)
    best[owners] = order[first] + 1
    return components.labels == best[:, None, None]


def hull(cells: Bool[np.ndarray, "row col"]) -> Float[np.ndarray, "point 2"]:
    """Corners (x, y) of the convex hull of the True cells, in cells; at least one must be True."""
    rows = np.flatnonzero(cells.any(axis=1))
    # The ends of each row suffice.
    first, past = cells[rows].argmax(axis=1), cells.shape[1] - cells[rows, ::-1].argmax(axis=1)
    corners = np.stack([np.tile(np.concatenate([first, past]), 2), np.concatenate([rows, rows, rows + 1, rows + 1])], 1)
    return cv2.convexHull(corners.astype(np.float32))[:, 0]


def hull_area(cells: Bool[np.ndarray, "row col"]) -> float:
    """Area of the convex hull of the cells, as unit squares (not as points), in cells."""
    corners = cv2.findNonZero(cells.astype(np.uint8))
    _, _, width, height = cv2.boundingRect(corners)
    # Squares instead of their corners widen the hull by a square: its area, and a strip along either side.
    return float(cv2.contourArea(cv2.convexHull(corners))) + width + height - 1
