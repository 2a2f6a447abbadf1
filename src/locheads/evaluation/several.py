"""Answers of several boxes, or of none, against expressions that name several objects, or none (gRefCOCO).

GREC (boxes): an expression is right if every true box is matched by one answered box and no answered box is left over.
GRES (masks): the mask of all answers against that of all objects; "none" is right or wrong as a whole. Both count how
often "none" is said rightly (N-acc) and an object is answered where there is one (T-acc). Per expression, as columns of
the scores; the table of metrics adds them up.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from locheads.evaluation.metrics import inside
from locheads.types import Box

MATCHED = 0.5
"""From this overlap on two boxes are one object."""


def overlaps(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"], generalised: bool = True
) -> Float[np.ndarray, "n m"]:
    """Of every box of `a` with every box of `b`, both xyxy with x0 < x1 and y0 < y1: IoU, or the generalised IoU less
    the share of the box around both that neither covers (Rezatofighi et al., CVPR 2019), in (-1, 1].

    gRefCOCO's own evaluation (`mdetr/datasets/refexp.py`) compares the generalised one, mmdet (`grefcoco_metric.py`)
    the other.
    """
    one, other = a[:, None], b[None]
    shared = _areas(np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:]))
    union = _areas(one[..., :2], one[..., 2:]) + _areas(other[..., :2], other[..., 2:]) - shared
    found = shared / union
    if not generalised:
        return found
    around = _areas(np.minimum(one[..., :2], other[..., :2]), np.maximum(one[..., 2:], other[..., 2:]))
    return found - (around - union) / around


def matches(found: Float[np.ndarray, "n m"], threshold: float = MATCHED) -> int:
    """How many pairs of different boxes there are: the pair with the largest overlap first, down to the threshold."""
    left, pairs = found.copy(), 0
    for _ in range(min(found.shape)):
        i, j = np.unravel_index(left.argmax(), left.shape)
        if left[i, j] < threshold:
            break
        left[i], left[:, j] = -np.inf, -np.inf
        pairs += 1
    return pairs


def is_right(answered: Float[np.ndarray, "n 4"], objects: Float[np.ndarray, "m 4"], generalised: bool = True) -> bool:
    """Whether F1 is 1: as many answered boxes as objects, and each a match. Of no object: no box."""
    if len(answered) != len(objects):
        return False
    return not len(objects) or matches(overlaps(answered, objects, generalised)) == len(objects)


def points_at(points: Float[np.ndarray, "n 2"], objects: Sequence[Sequence[Box]]) -> Bool[np.ndarray, "n"]:
    """Whether point i (x, y) lies in a box of `objects[i]`."""
    pairs = zip(points, map(as_array, objects), strict=True)
    return np.array([inside(np.tile(point, (len(own), 1)), own).any() for point, own in pairs], dtype=bool)


def as_array(boxes: Iterable[Iterable[float]]) -> Float[np.ndarray, "n 4"]:
    """Boxes as rows, which may be none."""
    return np.array([list(box) for box in boxes], dtype=np.float64).reshape(-1, 4)


def union_share(boxes: Sequence[Box], width: int, height: int) -> float:
    """Share of the image that any of the boxes covers."""
    if not boxes:
        return 0.0
    x0, y0, x1, y1 = np.clip(as_array(boxes), 0, [width, height, width, height]).T
    xs, ys = np.unique([x0, x1]), np.unique([y0, y1])
    x, y = (xs[1:] + xs[:-1])[:, None, None] / 2, (ys[1:] + ys[:-1])[None, :, None] / 2
    covered = ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).any(axis=-1)
    return float((covered * np.diff(xs)[:, None] * np.diff(ys)).sum() / (width * height))


def answered_boxes(predictions: pd.DataFrame) -> list[Float[np.ndarray, "box 4"] | None]:
    """Per row the boxes of its answer, none or several; None where the sample failed.

    Without the columns `rows.OF_CANDIDATES`, or where they are null, the single box is the answer, and no box says
    that none is there.
    """
    single = predictions[["x0", "y0", "x1", "y1"]].to_numpy(dtype=float)
    table = predictions.reindex(columns=["candidate_boxes", "n_answered", "error"])
    return [
        _answer(boxes, count, box, isinstance(error, str))
        for box, (boxes, count, error) in zip(single, table.itertuples(index=False), strict=True)
    ]


def _answer(boxes: Any, count: float | None, box: np.ndarray, failed: bool) -> np.ndarray | None:
    if count is not None and not np.isnan(count):
        return as_array([] if boxes is None else boxes[: int(count)])
    if not np.isnan(box).any():
        return box[None]
    return None if failed else np.zeros((0, 4))


def objects_notes(objects: ArrayLike) -> list[str]:
    """What a reader of the figures must know where expressions may name several objects or none. `objects`: how many
    each names."""
    named = np.asarray(objects)
    none, one = int((named == 0).sum()), int((named == 1).sum())
    several = len(named) - none - one
    return [
        f"Of {len(named):,} expressions {none:,} name no object, {one:,} one and {several:,} several. REC, pointing "
        "within 5 % and energy are of those that name one; RES, pointing and the other figures of maps of those that "
        "name any (a peak in any of the boxes counts); GREC and GRES of all."
    ]


def score_boxes(answers: Sequence[np.ndarray | None], objects: Sequence[Sequence[Box]]) -> dict[str, np.ndarray]:
    """ "grec" and "grec_iou" of every answer: whether F1 is 1, by the generalised and by the plain IoU."""
    pairs = list(zip(answers, map(as_array, objects), strict=True))
    return {
        name: np.array([own is not None and is_right(own, true, generalised) for own, true in pairs], dtype=bool)
        for name, generalised in (("grec", True), ("grec_iou", False))
    }


def _areas(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(high - low, 0, None), axis=-1)
