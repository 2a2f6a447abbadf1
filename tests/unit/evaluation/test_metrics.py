"""The measures against hand-worked cases and against computations that share no code with them."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from locheads.errors import DataError
from locheads.evaluation.metrics import (
    box_iou,
    inside,
    mask_intersection_union,
)
from locheads.geometry import Geometry, Preprocess, square_geometry
from locheads.grounding.boxes import Frames, peaks

IntBox = tuple[int, int, int, int]

# Corners on a small grid, so that boxes often touch, nest, coincide or are degenerate.
corners = st.tuples(*[st.integers(0, 12)] * 4)
boxes = corners.map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
real = st.floats(-1e4, 1e4)


def _pixels(box: IntBox) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


def _iou_by_pixels(a: IntBox, b: IntBox) -> float:
    union = _pixels(a) | _pixels(b)
    return len(_pixels(a) & _pixels(b)) / len(union) if union else 0.0


def test_box_iou_by_hand() -> None:
    a = [(0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10)]
    b = [(0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 7, 7), (0, 0, 10, 5)]
    np.testing.assert_allclose(box_iou(a, b), [1, 1 / 3, 0, 0.25, 0.5], rtol=0, atol=1e-15)


@settings(max_examples=300, deadline=None)
@given(boxes, boxes)
@example((0, 0, 5, 5), (5, 0, 9, 5))  # touching at an edge
@example((0, 0, 5, 5), (5, 5, 9, 9))  # touching at a corner
@example((0, 0, 9, 9), (3, 3, 5, 5))  # nested
@example((2, 2, 2, 8), (0, 0, 9, 9))  # a line
@example((2, 2, 2, 2), (2, 2, 2, 2))  # a point on itself
def test_box_iou_counts_pixels(a: IntBox, b: IntBox) -> None:
    assert box_iou([a], [b])[0] == pytest.approx(_iou_by_pixels(a, b), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(real, real, st.floats(1e-3, 1e4), st.floats(1e-3, 1e4)), min_size=2, max_size=6))
def test_box_iou_agrees_with_pycocotools(xywh: list[tuple[float, float, float, float]]) -> None:
    n = len(xywh)
    expected = coco.iou(np.array(xywh), np.array(xywh), [0] * n)
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h in xywh])
    got = box_iou(np.repeat(xyxy, n, axis=0), np.tile(xyxy, (n, 1))).reshape(n, n)
    # Width as x1 - x0 loses digits against the w that pycocotools is given: 1e4 * 2**-52 / 1e-3 = 2e-9.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "bad",
    [
        (0, 0, 0, 0),
        (7, 7, 3, 3),
        (math.nan, 0, 5, 5),
        (0, 0, math.inf, math.inf),
        (-math.inf, 0, math.inf, 5),
        (0, 0, 1e308, 1e308),
    ],
)
def test_failed_and_impossible_boxes_are_zero(bad: tuple[float, float, float, float]) -> None:
    with np.errstate(all="raise"):
        assert box_iou([bad, bad], [(1, 1, 4, 4), bad]).tolist()[0] == 0.0
        assert np.isfinite(box_iou([bad], [bad])).all()


def test_box_iou_sizes() -> None:
    assert box_iou([], []).shape == (0,)
    assert box_iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    with pytest.raises(ValueError, match="1 boxes cannot be paired with 2"):
        box_iou([(0, 0, 1, 1)], [(0, 0, 1, 1)] * 2)


def test_iou_at_the_threshold_is_exact() -> None:
    ious = box_iou([(0, 0, 10, 5), (0, 0, 10, 10), (0, 0, 0, 0)], [(0, 0, 10, 10)] * 3)
    assert ious.tolist() == [0.5, 1.0, 0.0]


def _rle(mask: np.ndarray) -> dict[str, object]:
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


masks = arrays(bool, (5, 8))


@settings(max_examples=100, deadline=None)
@given(masks, masks)
def test_mask_overlap_agrees_with_loop_and_pycocotools(prediction: np.ndarray, truth: np.ndarray) -> None:
    intersection, union = mask_intersection_union(_rle(prediction), _rle(truth))
    pairs = list(zip(prediction.ravel(), truth.ravel(), strict=True))
    assert intersection == sum(p and t for p, t in pairs)
    assert union == sum(p or t for p, t in pairs)
    if union:
        expected = coco.iou([_rle(prediction)], [_rle(truth)], [0])[0][0]
        assert intersection / union == pytest.approx(expected, abs=1e-9)


def test_empty_prediction_misses_the_whole_truth() -> None:
    truth = np.zeros((5, 8), dtype=bool)
    truth[1:3, 2:6] = True
    assert mask_intersection_union(_rle(np.zeros((5, 8), dtype=bool)), _rle(truth)) == (0, 8)
    assert mask_intersection_union(_rle(truth), _rle(truth)) == (8, 8)


def test_masks_of_two_sizes() -> None:
    with pytest.raises(DataError, match=r"predicted mask has the size \[8, 5\], but the truth \[5, 8\]"):
        mask_intersection_union(_rle(np.zeros((8, 5), dtype=bool)), _rle(np.zeros((5, 8), dtype=bool)))


# An image of 40 x 20 pixels on 4 x 4 cells: padded, a cell is 10 x 10 pixels and the first row is a bar.
PADDED = square_geometry(40, 20, 4, 4, Preprocess.pad)
SQUASHED = square_geometry(40, 20, 4, 4, Preprocess.squash)


def _peak(row: int, col: int, *more: tuple[int, int]) -> np.ndarray:
    map_ = np.zeros((4, 4))
    for cell in ((row, col), *more):
        map_[cell] = 1
    return map_


@pytest.mark.parametrize(
    ("geometry", "map_", "box", "hit"),
    [
        (PADDED, _peak(1, 2), (20, 0, 30, 10), True),  # the centre is (25, 5)
        (PADDED, _peak(1, 2), (20, 0, 25, 10), False),  # x1 is exclusive
        (PADDED, _peak(1, 2), (25, 5, 26, 6), True),
        (PADDED, _peak(0, 2), (0, 0, 40, 20), False),  # on the bar above the image
        (SQUASHED, _peak(1, 2), (20, 5, 30, 10), True),  # the centre is (25, 7.5)
        (SQUASHED, _peak(0, 2), (0, 0, 40, 20), True),
        (SQUASHED, _peak(0, 3, (3, 0)), (30, 0, 40, 5), True),  # of two peaks, the first in raster order
        (SQUASHED, _peak(0, 3, (3, 0)), (0, 15, 10, 20), False),
        (SQUASHED, np.full((4, 4), 0.3), (0, 0, 40, 20), False),  # points nowhere
        (SQUASHED, np.full((4, 4), math.nan), (0, 0, 40, 20), False),
    ],
)
def test_pointing(geometry: Geometry, map_: np.ndarray, box: tuple[float, float, float, float], hit: bool) -> None:
    assert inside(peaks(map_[None], Frames.of([geometry])), [box]).tolist() == [hit]
