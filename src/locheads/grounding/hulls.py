"""Convex hulls of cells as unit squares: what decides which component is the object (paper, grounding)."""

import cv2
import numpy as np
from jaxtyping import Bool, Float


def hull(cells: Bool[np.ndarray, "row col"]) -> Float[np.ndarray, "point 2"]:
    """Corners (x, y) of the convex hull of the True cells, in cells; at least one must be True."""
    rows, cols = np.nonzero(cells)
    corners = np.concatenate([np.stack([cols + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)])
    return cv2.convexHull(corners.astype(np.float32))[:, 0]


def hull_area(cells: Bool[np.ndarray, "row col"]) -> float:
    """Area of the convex hull of the cells, as unit squares (not as points), in cells."""
    return float(cv2.contourArea(hull(cells)))
