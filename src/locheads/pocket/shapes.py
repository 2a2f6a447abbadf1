"""Shapes in the plane: signed distance and outline of a shape that fills a box. Pixels, y down."""

import numpy as np

CIRCLE_VERTICES = 48


def signed_distance(shape: str, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """Float32 [height, width]: distance in pixels from a pixel's centre to the outline, positive inside.

    `box` is x, y, width, height of the tight box in pixels. Outside of a corner the value is a lower bound.
    """
    x0, y0, w, h = box
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5 - (x0 + w / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5 - (y0 + h / 2)
    if shape == "circle":
        return w / 2 - np.sqrt(x * x + y * y)
    if shape == "square":
        return w / 2 - np.maximum(np.abs(x), np.abs(y))
    # isosceles triangle, tip up: the base, and both flanks at once by |x|
    slant = np.hypot(h, w / 2)
    flank = ((w / 2) * (y + h / 2) - h * np.abs(x)) / slant
    return np.minimum(flank, h / 2 - y)


def vertices(shape: str, box: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    """Outline of the shape as (x, y) in pixels, rounded to 0.01."""
    x, y, w, h = box
    if shape == "square":
        return [(float(x), float(y)), (float(x + w), float(y)), (float(x + w), float(y + h)), (float(x), float(y + h))]
    if shape == "triangle":
        return [(x + w / 2, float(y)), (float(x + w), float(y + h)), (float(x), float(y + h))]
    angles = np.arange(CIRCLE_VERTICES) * (2 * np.pi / CIRCLE_VERTICES)
    points = np.stack([x + w / 2 + w / 2 * np.cos(angles), y + h / 2 + h / 2 * np.sin(angles)], axis=1)
    return [(round(float(a), 2), round(float(b), 2)) for a, b in points]
