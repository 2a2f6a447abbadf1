"""Any mask survives its codes, and no text reaches pycocotools that its C code would misread."""

import contextlib
import string

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from refer_files import runs

from locheads.data.masks import box_code, box_mask, to_rle
from locheads.errors import DataError

# Up to 300 pixels a column, so that runs need more than one character.
masks = st.tuples(st.integers(1, 300), st.integers(1, 4)).flatmap(lambda shape: arrays(bool, shape))


@settings(max_examples=150, deadline=None)
@given(masks.filter(lambda mask: bool(mask.any())))
def test_both_codes_give_the_mask_back(mask: np.ndarray) -> None:
    height, width = mask.shape
    compressed = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    for counts in (compressed, compressed.encode(), runs(mask)):
        code = to_rle({"size": [height, width], "counts": counts}, width, height, "annotation 1")
        assert code == {"size": [height, width], "counts": compressed}
        np.testing.assert_array_equal(coco.decode(code), mask)


CODE = "".join(chr(c) for c in range(48, 112)) + string.whitespace


@settings(max_examples=500, deadline=None)
@given(st.text(CODE, max_size=12))
def test_what_is_let_through_fills_the_image(counts: str) -> None:
    with contextlib.suppress(DataError):
        code = to_rle({"size": [5, 4], "counts": counts}, 4, 5, "annotation 1")
        assert sum(runs(coco.decode(code).astype(bool))) == 20
        assert coco.decode(code).max() == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(-50, 70) | st.integers(-50, 70), max_size=9), max_size=3))
def test_polygons_end_as_a_mask_or_as_a_sentence(parts: list[list[float]]) -> None:
    with contextlib.suppress(DataError):
        code = to_rle(parts, 30, 20, "annotation 1")
        assert coco.decode(code).shape == (20, 30)
        assert coco.area(code) > 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.tuples(*[st.floats(-20, 70)] * 4))
def test_the_mask_of_a_box_is_the_pixels_that_it_touches(width: int, height: int, corners: tuple) -> None:
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    assume(x0 < x1 and y0 < y1)
    touched = [[x < x1 and x + 1 > x0 and y < y1 and y + 1 > y0 for x in range(width)] for y in range(height)]
    code = box_code((x0, y0, x1, y1), width, height)
    if code is None:
        assert not np.array(touched).any()
        with pytest.raises(DataError, match="it has a box that covers no pixel of its image"):
            box_mask((x0, y0, x1, y1), width, height, "it")
    else:
        np.testing.assert_array_equal(coco.decode(code), np.array(touched))
        assert code == box_mask((x0, y0, x1, y1), width, height, "it")
