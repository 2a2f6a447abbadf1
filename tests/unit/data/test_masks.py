"""Any mask survives its codes, and no text reaches pycocotools that its C code would misread."""

import contextlib
import string

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from refer_files import runs

from locheads.data.masks import to_rle
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
def test_what_is_let_through_fills_the_picture(counts: str) -> None:
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
