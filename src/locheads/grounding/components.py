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

from locheads.grounding.config import Component

# Cells touch by side or corner within a map and never across maps of the stack.
_EIGHT_CONNECTED = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]).astype(int)


@dataclass(frozen=True)
class Components:
    """The components of a stack of maps, in reading order within each map."""

    labels: Int[np.ndarray, "n row col"]
    """0: below the threshold; else the component's number, counted from 1 over the whole stack."""
    where: tuple[tuple[slice, slice, slice], ...]
    """Per component its map and its bounding rows and columns."""

    @staticmethod
    def of(cells: Bool[np.ndarray, "n row col"]) -> "Components":
        labels, _ = ndimage.label(cells, structure=_EIGHT_CONNECTED)
        return Components(labels, tuple((n, y, x) for n, y, x in ndimage.find_objects(labels)))

    @cached_property
    def owner(self) -> Int[np.ndarray, "component"]:
        """The map of each component."""
        return np.array([where[0].start for where in self.where], dtype=np.int64)

    @cached_property
    def areas(self) -> Float[np.ndarray, "component"]:
        """Cells of each component."""
        # Most cells are background: counting them would take longest.
        inside = self.labels[self.labels > 0]
        return np.bincount(inside, minlength=len(self.where) + 1)[1:].astype(np.float64)

    @cached_property
    def hulls(self) -> Float[np.ndarray, "component"]:
        """Area of each hull in cells, where that is needed to tell which of its map is the largest.

        A hull lies between the component and its box, so most maps are decided without one: a component whose box
        is smaller than another component of its map gets 0, and one that is left alone its own area.
        """
        boxes = self._box_areas()
        largest = np.zeros(len(self.labels))
        np.maximum.at(largest, self.owner, self.areas)
        rivals = boxes >= largest[self.owner]
        contested = np.bincount(self.owner, weights=rivals, minlength=len(self.labels))[self.owner] > 1
        found = np.where(rivals, self.areas, 0.0)
        # A component that fills its box is its own hull.
        for i in np.flatnonzero(rivals & contested & (boxes > self.areas)):
            found[i] = hull_area(self.labels[self.where[i]][0] == i + 1)
        return found

    def _box_areas(self) -> Float[np.ndarray, "component"]:
        sides = [(y.stop - y.start) * (x.stop - x.start) for _, y, x in self.where]
        return np.array(sides, dtype=np.float64)

    def masses(self, field: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "component"]:
        """Sum of the map over each component."""
        weights = np.asarray(field, dtype=np.float64).ravel()
        return np.bincount(self.labels.ravel(), weights=weights, minlength=len(self.where) + 1)[1:]

    def peaks(self, field: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "component"]:
        """Maximum of the map over each component."""
        return np.asarray(ndimage.maximum(field, self.labels, np.arange(1, len(self.where) + 1)), dtype=np.float64)


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
    return float(cv2.contourArea(hull(cells)))
