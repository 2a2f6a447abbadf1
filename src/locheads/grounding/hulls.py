"""Convex hulls of cells as unit squares: what decides which component is the object (paper, grounding)."""

import cv2
import numpy as np
from jaxtyping import Bool, Float


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
