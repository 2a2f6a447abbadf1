"""What the measures of REC and RES are made of, per expression, as pure functions; the table of metrics adds it up.

A failed or empty prediction takes part with IoU 0 (a box of zeros, an empty mask), so it is counted in every
mean: leaving failures out would reward them.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy.typing import ArrayLike
from pycocotools import mask as coco

from locheads.errors import DataError


def box_iou(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, "n"]:
    """Intersection over union of box i of `a` with box i of `b`; both xyxy `[n, 4]`, x1 and y1 exclusive.

    0 where the union is empty, where a box is inverted (x1 < x0), and where a coordinate is NaN or infinite.
    Raises ValueError where the numbers of boxes differ.
    """
    boxes_a, boxes_b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (a, b))
    if boxes_a.shape != boxes_b.shape:
        raise ValueError(f"{len(boxes_a)} boxes cannot be paired with {len(boxes_b)}: give as many of each.")
    low = np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    high = np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    with np.errstate(all="ignore"):  # what overflows or is NaN fails the comparison below
        intersections = _areas(np.concatenate([low, high], axis=1))
        return _ratios(intersections, _areas(boxes_a) + _areas(boxes_b) - intersections)


def mask_intersection_union(
    prediction: dict[str, Any], truth: dict[str, Any], truth_area: int | None = None
) -> tuple[int, int]:
    """(intersection, union) in pixels of two masks in COCO run-length code, {"size": [height, width], "counts"}.

    `truth_area`: in pixels, where it is known. Never decoded: a mask costs its runs, not its pixels. Raises DataError
    where they are not of one size.
    """
    if list(prediction["size"]) != list(truth["size"]):
        raise DataError(
            f"The predicted mask has the size {list(prediction['size'])}, but the truth {list(truth['size'])}: "
            "give it in pixels of the original image, [height, width]."
        )
    intersection = int(coco.area(coco.merge([prediction, truth], intersect=True)))
    true_area = int(coco.area(truth)) if truth_area is None else truth_area
    return intersection, int(coco.area(prediction)) + true_area - intersection


def inside(points: ArrayLike, boxes: ArrayLike) -> Bool[np.ndarray, "n"]:
    """Whether point i (x, y) of `[n, 2]` hits xyxy box i of `[n, 4]`; NaN, a map that points nowhere, is a miss.

    The pointing game (Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016), without
    its 15-pixel tolerance.
    """
    at, box = np.asarray(points, dtype=np.float64).reshape(-1, 2), np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.all((box[:, :2] <= at) & (at < box[:, 2:]), axis=1)


def touching(points: ArrayLike, boxes: ArrayLike) -> Bool[np.ndarray, "n"]:
    """As `inside`, but all four edges of a box belong to it: a click on an element.

    ScreenSpot's code (likaixin2000/ScreenSpot-Pro-GUI-Grounding `eval_screenspot_pro.py`, x1 <= x <= x2); an answer
    that it cannot read is wrong, as NaN is here.
    """
    at, box = np.asarray(points, dtype=np.float64).reshape(-1, 2), np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.all((box[:, :2] <= at) & (at <= box[:, 2:]), axis=1)


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)


def _ratios(parts: Shaped[np.ndarray, "n"], wholes: Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """parts / wholes, 0 where the whole is not a positive finite number."""
    usable = (wholes > 0) & np.isfinite(wholes) & np.isfinite(parts)
    return np.divide(parts, wholes, out=np.zeros(usable.shape), where=usable)
