"""The transform between pixels and patches: its inverse, its masks, and its areas."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locheads.geometry import Geometry, Preprocess, padded_square, placed, square_geometry, stretched

SQUARES = [how for how in Preprocess if how is not Preprocess.native]

sides = st.integers(1, 2000)
how_many = st.sampled_from([(336, 24), (192, 24), (384, 27), (224, 16)])
patches = st.sampled_from([None, 14, 16])
squares = st.builds(
    lambda w, h, side_grid, how, patch: square_geometry(w, h, *side_grid, how, patch),
    sides, sides, how_many, st.sampled_from(SQUARES), patches,
)  # fmt: skip
bars = st.builds(padded_square, sides, sides, st.sampled_from([384, 1024]), st.just(24), st.sampled_from([1, 14]))
wide = st.builds(stretched, sides, sides, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1.0, 384 / 378]))
geometries = st.one_of(squares, bars, wide)


@settings(max_examples=200, deadline=None)
@given(geometries, st.tuples(*[st.floats(-100, 2100)] * 4))
def test_to_pixels_undoes_to_cells(geometry: Geometry, box: tuple[float, float, float, float]) -> None:
    there = geometry.to_cells(np.array([box, box]))
    np.testing.assert_allclose(geometry.to_pixels(there), [box, box], rtol=1e-9, atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(geometries)
def test_a_geometry_survives_json_exactly(geometry: Geometry) -> None:
    assert Geometry.from_dict(json.loads(json.dumps(geometry.as_dict()))) == geometry


@pytest.mark.parametrize(
    ("how", "size", "whole_image_in_cells"),
    [
        (Preprocess.pad, (300, 200), (0, 2, 12, 10)),
        (Preprocess.pad, (200, 300), (2, 0, 10, 12)),
        # A bar of (301 - 200) // 2 = 50 pixels before the image and 51 after it, at 12 / 301 cells a pixel.
        (Preprocess.pad, (301, 200), (0, 50 * 12 / 301, 12, 250 * 12 / 301)),
        (Preprocess.pad, (200, 301), (50 * 12 / 301, 0, 250 * 12 / 301, 12)),
        (Preprocess.squash, (300, 200), (0, 0, 12, 12)),
        # 288 x 192 less 48 on either side, 16 pixels a cell.
        (Preprocess.center_crop, (300, 200), (-3, 0, 15, 12)),
        (Preprocess.center_crop, (200, 300), (0, -3, 12, 15)),
        # 100 * 192 / 99 = 193.9: truncated to 193, of which (193 - 192) // 2 = 0 go at the left.
        (Preprocess.center_crop, (100, 99), (0, 0, 193 / 16, 12)),
    ],
)
def test_where_the_image_lies_on_the_grid(
    how: Preprocess, size: tuple[int, int], whole_image_in_cells: tuple[float, float, float, float]
) -> None:
    geometry = square_geometry(*size, 192, 12, how)
    found = geometry.to_cells(np.array([0, 0, *size]))
    np.testing.assert_allclose(found, whole_image_in_cells, rtol=0, atol=1e-12)


def test_visible_pixels_end_at_the_image() -> None:
    geometry = square_geometry(300, 200, 192, 12, Preprocess.pad)
    found = geometry.to_visible_pixels(np.array([[0, 0, 12, 12], [1, 1, 3, 3], [4, 4, 5, 5]]))
    np.testing.assert_allclose(found, [[0, 0, 300, 200], [25, 0, 75, 25], [100, 50, 125, 75]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", SQUARES)
@pytest.mark.parametrize("size", [(37, 23), (23, 37), (24, 24), (61, 10), (7, 5)])
def test_upsampling_gives_every_pixel_the_cell_of_its_centre(how: Preprocess, size: tuple[int, int]) -> None:
    width, height = size
    geometry = square_geometry(width, height, 48, 6, how)
    cells = np.random.default_rng(5).random((6, 6)) > 0.5
    found = geometry.upsample(cells)
    for y in range(height):
        for x in range(width):
            col, row = geometry.to_cells(np.array([x + 0.5, y + 0.5] * 2))[:2]
            expected = 0 <= row < 6 and 0 <= col < 6 and cells[int(row), int(col)]
            assert found[y, x] == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([Preprocess.pad, Preprocess.squash]), st.data())
def test_coverage_adds_up_to_the_mask_where_all_of_the_image_is_visible(
    width: int, height: int, how: Preprocess, data: st.DataObject
) -> None:
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((height, width)) > 0.5
    geometry = square_geometry(width, height, 192, 12, how)
    assert geometry.coverage(mask).sum() == pytest.approx(mask.sum(), abs=1e-9)
    assert geometry.cell_pixels().sum() == pytest.approx(width * height, abs=1e-9)


def test_coverage_of_a_crop_holds_only_what_it_shows() -> None:
    # 30 x 20 pixels, of which the crop shows x from 5 to 25.
    geometry = square_geometry(30, 20, 40, 4, Preprocess.center_crop)
    assert geometry.cell_pixels().sum() == pytest.approx(20 * 20, abs=1e-9)
    left = np.zeros((20, 30), dtype=bool)
    left[:, :5] = True
    np.testing.assert_allclose(geometry.coverage(left), np.zeros((4, 4)), rtol=0, atol=1e-9)


def test_coverage_counts_pixels_where_cells_are_whole_pixels() -> None:
    # Padded to 36 x 36 with bars of 6 rows: cells of 3 x 3 pixels, the image in rows 2 to 9.
    geometry = square_geometry(36, 24, 192, 12, Preprocess.pad)
    mask = np.random.default_rng(6).random((24, 36)) > 0.4
    expected = np.zeros((12, 12))
    for y in range(24):
        for x in range(36):
            expected[(y + 6) // 3, x // 3] += mask[y, x]
    np.testing.assert_allclose(geometry.coverage(mask), expected, rtol=0, atol=1e-9)
    pixels = np.zeros((12, 12))
    pixels[2:10] = 9
    np.testing.assert_allclose(geometry.cell_pixels(), pixels, rtol=0, atol=1e-9)


def test_a_pixel_that_a_cell_border_cuts_counts_in_shares() -> None:
    # Three pixels on two cells: the middle one belongs to both by half.
    geometry = square_geometry(3, 1, 2, 2, Preprocess.squash)
    middle = np.array([[False, True, False]])
    np.testing.assert_allclose(geometry.coverage(middle), [[0.25, 0.25], [0.25, 0.25]], rtol=0, atol=1e-12)


def test_native_alone_is_no_geometry() -> None:
    with pytest.raises(ValueError, match="the adapter knows"):
        square_geometry(30, 20, 40, 4, Preprocess.native)


def test_what_a_crop_cut_off_is_not_visible() -> None:
    # 30 x 20 pixels, of which the crop shows x from 5 to 25.
    geometry = square_geometry(30, 20, 40, 4, Preprocess.center_crop)
    assert geometry.window().tolist() == [5, 0, 25, 20]
    mask = geometry.visible_mask()
    assert mask.shape == (20, 30) and mask[:, 5:25].all() and not mask[:, :5].any() and not mask[:, 25:].any()
    boxes = np.array([[0, 2, 10, 8], [6, 2, 10, 8], [0, 0, 4, 20], [26, 1, 30, 3]])
    expected = [[5, 2, 10, 8], [6, 2, 10, 8], [5, 0, 5, 20], [25, 1, 25, 3]]
    np.testing.assert_allclose(geometry.visible_part(boxes), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", [Preprocess.pad, Preprocess.squash])
def test_all_of_an_image_that_is_not_cut_is_visible(how: Preprocess) -> None:
    geometry = square_geometry(37, 23, 48, 6, how)
    np.testing.assert_allclose(geometry.window(), [0, 0, 37, 23], rtol=0, atol=1e-9)
    assert geometry.visible_mask().all()
    box = np.array([3.0, 4, 30, 20])
    np.testing.assert_allclose(geometry.visible_part(box), box, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        # 384 / 300 * 200 = 256 rows, 64 above.
        ((300, 200), (0, 4, 24, 20)),
        # 384 / 301 * 200 = 255.1: 255 rows, (384 - 255) // 2 = 64 above.
        ((301, 200), (0, 4, 24, 319 / 16)),
        ((200, 301), (4, 0, 319 / 16, 24)),
        # 384 / 299 * 101 = 129.7: 130 columns, (384 - 130) // 2 = 127 to the left.
        ((101, 299), (127 / 16, 0, 257 / 16, 24)),
        ((299, 101), (0, 127 / 16, 24, 257 / 16)),
        # 384 / 1000 * 10 = 3.84, but no side is below 14: 14 rows, 185 above.
        ((1000, 10), (0, 185 / 16, 24, 199 / 16)),
    ],
)
def test_bars_after_resizing_follow_the_processors_rounding(size: tuple[int, int], corners: tuple[float, ...]) -> None:
    found = padded_square(*size, 384, 24, 14).to_cells(np.array([0, 0, *size]))
    np.testing.assert_allclose(found, corners, rtol=0, atol=1e-9)


def test_a_stretched_image_may_end_beyond_the_grid() -> None:
    geometry = stretched(768, 384, 27, 27, 384 / 378)
    np.testing.assert_allclose(geometry.window(), [0, 0, 756, 378], rtol=0, atol=1e-9)
    assert not geometry.visible_mask()[:, 756:].any() and geometry.visible_mask()[:378, :756].all()


@settings(max_examples=100, deadline=None)
@given(geometries, sides, sides, st.tuples(*[st.floats(0, 1)] * 4))
def test_an_image_seen_through_another_is_one_transform_after_the_other(
    inner: Geometry, width: int, height: int, share: tuple[float, float, float, float]
) -> None:
    # The original lies somewhere in the made image, by a transform of its own.
    x0, x1 = share[0] * inner.width / 2, inner.width * (0.6 + share[2])
    y0, y1 = share[1] * inner.height / 2, inner.height * (0.6 + share[3])
    outer = placed(width, height, 1, 1, (x0, y0, x1, y1))
    whole = inner.seen_through(width, height, (x0, y0, x1, y1))
    box = np.array([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height])
    np.testing.assert_allclose(whole.to_cells(box), inner.to_cells(outer.to_cells(box)), rtol=1e-9, atol=1e-8)
    assert (whole.width, whole.rows, whole.cols) == (width, inner.rows, inner.cols)


@settings(max_examples=100, deadline=None)
@given(geometries)
def test_an_image_seen_as_it_is_keeps_its_geometry_to_the_bit(geometry: Geometry) -> None:
    corners = (0.0, 0.0, float(geometry.width), float(geometry.height))
    assert geometry.seen_through(geometry.width, geometry.height, corners) == geometry
