"""Which component of a binarised map is the object: the one with the largest convex hull (paper, grounding)."""

import cv2
import numpy as np
from jaxtyping import Bool
from scipy import ndimage


def hull_area(cells: Bool[np.ndarray, "row col"]) -> float:
    """Area of the convex hull of the cells, as unit squares (not as points), in cells."""
    rows, cols = np.nonzero(cells)
    corners = np.concatenate([np.stack([cols + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)])
    return float(cv2.contourArea(cv2.convexHull(corners.astype(np.float32))))


def largest_hull(cells: Bool[np.ndarray, "row col"]) -> Bool[np.ndarray, "row col"]:
    """The 8-connected component with the largest convex hull; of equals, the first in reading order.

    All False where there is no component.
    """
    labels, _ = ndimage.label(cells, structure=np.ones((3, 3)))
    best_area, best = 0.0, 0
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        height, width = (axis.stop - axis.start for axis in where)
        if height * width <= best_area:
            continue  # A hull never exceeds its bounding box.
        area = hull_area(labels[where] == label)
        if area > best_area:
            best_area, best = area, label
    return (labels == best) & (best > 0)


def tight_box(cells: Bool[np.ndarray, "row col"]) -> tuple[int, int, int, int] | None:
    """xyxy in cells around all True cells, ends exclusive; None where there are none."""
    rows, cols = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    if len(rows) == 0:
        return None
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1
