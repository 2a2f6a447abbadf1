"""Windows of a second look, maps moved between looks, and the rules that combine them, against plain loops."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from locheads.errors import ConfigError
from locheads.geometry import Geometry, Preprocess, square_geometry, stretched
from locheads.grounding.config import GroundingConfig
from locheads.grounding.ground_maps import ground_stack
from locheads.grounding.zoom import (
    Look,
    combine,
    next_window,
    part_of,
    place,
    resampled,
    seen_in,
    sharpest_window,
    whole,
)
from locheads.grounding.zoom_config import Centre, Combine, Shape, Window, ZoomConfig
from locheads.types import ImageGroup, Sample

PLAIN = GroundingConfig(sigma=0)
"""Without smoothing the answer is the cells above the mean themselves."""
ZOOM = ZoomConfig(looks=1, margin=0.5, combine=Combine.second)


def look(fused: np.ndarray, geometry: Geometry, view: tuple[int, int, int, int]) -> Look:
    return Look(ground_stack(fused[None, None].astype(np.float64), (geometry,), PLAIN), view)


def at_cells(rows: slice, cols: slice, geometry: Geometry, view: tuple[int, int, int, int]) -> Look:
    """A look whose map is 1 in some cells."""
    fused = np.zeros((geometry.rows, geometry.cols))
    fused[rows, cols] = 1
    return look(fused, geometry, view)


def random_geometry(rng: np.random.Generator, width: int, height: int) -> Geometry:
    how = rng.choice([Preprocess.pad, Preprocess.center_crop, Preprocess.squash, "own aspect"])
    if how == "own aspect":
        return stretched(width, height, int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    return square_geometry(width, height, 48, 6, how)


def random_look(rng: np.random.Generator, width: int, height: int, whole_image: bool) -> Look:
    x0, y0 = (0, 0) if whole_image else (int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8)))
    x1 = width if whole_image else int(rng.integers(x0 + 8, width + 1))
    y1 = height if whole_image else int(rng.integers(y0 + 8, height + 1))
    geometry = random_geometry(rng, x1 - x0, y1 - y0)
    return look(rng.random((geometry.rows, geometry.cols)), geometry, (x0, y0, x1, y1))


def test_a_cell_of_a_part_comes_back_where_it_lies() -> None:
    """Worked by hand: a part that begins at (30, 20), 40 x 40 pixels in 4 x 4 cells of 10 pixels."""
    found = at_cells(slice(1, 2), slice(2, 4), stretched(40, 40, 4, 4), (30, 20, 70, 60))
    assert found.box == (50, 30, 70, 40)
    assert found.peak == (55, 35)
    mask = found.mask(100, 80)
    assert mask.shape == (80, 100)
    assert mask.sum() == 200
    assert mask[30:40, 50:70].all()


def test_boxes_of_random_parts_lie_where_the_geometry_of_the_image_says() -> None:
    """By two ways: the part's own geometry and its corner, and the geometry of the whole image seen through it."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = (int(n) for n in rng.integers(24, 200, size=2))
        one = random_look(rng, width, height, whole_image=bool(rng.integers(2)))
        row, col = (int(rng.integers(n)) for n in one.fused.shape)
        cells = np.array([col, row, col + 1, row + 1])
        direct = seen_in(one.geometry, one.view, width, height).to_pixels(cells)
        by_corner = one.geometry.to_pixels(cells) + np.tile(one.view[:2], 2)
        assert direct == pytest.approx(by_corner, abs=1e-9)
        # Negative control: with the corner of another part it lies elsewhere.
        assert direct != pytest.approx(by_corner + 1, abs=0.5)


def test_a_window_holds_its_size_and_stays_in_the_bounds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        x0, y0 = (int(n) for n in rng.integers(0, 50, size=2))
        bounds = (x0, y0, x0 + int(rng.integers(1, 100)), y0 + int(rng.integers(1, 100)))
        size = tuple(rng.uniform(0.1, 120, size=2).tolist())
        centre = tuple(rng.uniform(-20, 170, size=2).tolist())
        found = place(size, centre, bounds)
        for axis in (0, 1):
            low, high, length = bounds[axis], bounds[axis + 2], bounds[axis + 2] - bounds[axis]
            assert low <= found[axis] < found[axis + 2] <= high
            assert found[axis + 2] - found[axis] == min(ceil(size[axis]), length)
            # Nothing in the bounds lies nearer to the centre.
            others = range(low, high - (found[axis + 2] - found[axis]) + 1)
            middle = (found[axis + 2] - found[axis]) / 2
            best = min(abs(start + middle - centre[axis]) for start in others)
            assert abs(found[axis] + middle - centre[axis]) == pytest.approx(best)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The box is (40, 40, 60, 50); half of it on each side is 40 x 20 pixels about (50, 45).
        ({"shape": Shape.box, "least": 1}, (30, 35, 70, 55)),
        ({"shape": Shape.square, "least": 1}, (30, 25, 70, 65)),
        ({"shape": Shape.image, "least": 1}, (30, 35, 70, 55)),  # the image is twice as wide as high
        ({"shape": Shape.box, "margin": 0.0, "least": 1}, (40, 40, 60, 50)),
        ({"shape": Shape.box, "margin": 0.0, "least": 30}, (35, 30, 65, 60)),
        ({"shape": Shape.box, "least": 1, "centre": Centre.peak}, (25, 35, 65, 55)),
        ({"window": Window.pixels, "side": 60}, (20, 15, 80, 75)),
        ({"window": Window.share, "share": [0.5, 0.2], "least": 1}, (0, 35, 100, 55)),
        ({"window": Window.pixels, "side": 1024}, None),  # all of it: seen already
    ],
)
def test_windows_worked_out_by_hand(changes: dict, expected: tuple | None) -> None:
    first = at_cells(slice(4, 5), slice(4, 6), stretched(200, 100, 10, 20), (0, 0, 200, 100))
    assert first.box == (40, 40, 60, 50)
    assert first.peak == (45, 45)
    assert next_window(first, 200, 100, replace(ZOOM, **changes)) == expected


def test_a_share_is_of_what_was_seen_last_and_stays_in_it() -> None:
    second = at_cells(slice(0, 1), slice(0, 1), stretched(50, 40, 4, 5), (100, 20, 150, 60))
    config = replace(ZOOM, window=Window.share, share=[0.5, 0.5], least=1)
    assert next_window(second, 400, 400, config) == (100, 20, 125, 40)


def test_a_map_without_an_answer_has_no_window() -> None:
    nothing = look(np.ones((4, 4)), stretched(40, 40, 4, 4), (0, 0, 40, 40))
    assert nothing.box is None
    assert next_window(nothing, 40, 40, ZOOM) is None
    assert combine([nothing], ZOOM) is nothing


def test_the_sharpest_window_is_that_of_a_plain_search() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        one = random_look(rng, int(rng.integers(60, 200)), int(rng.integers(60, 200)), whole_image=True)
        side = int(rng.integers(10, 90))
        best, expected = -np.inf, None
        for ratio in (1, 1.2, 1.4, 1.6, 1.8, 2):
            cols = min(max(int(side * ratio * one.geometry.scale[0]), 1), one.geometry.cols)
            rows = min(max(int(side * ratio * one.geometry.scale[1]), 1), one.geometry.rows)
            sums = {
                (r, c): one.fused[r : r + rows, c : c + cols].sum()
                for r in range(one.geometry.rows - rows + 1)
                for c in range(one.geometry.cols - cols + 1)
            }
            (r, c), most = max(sums.items(), key=lambda item: item[1])
            beside = [sums[k] for k in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)) if k in sums]
            drop = (most - sum(beside) / len(beside)) / (rows * cols) if beside else 0.0
            if drop > best + 1e-12:
                best, expected = drop, (c, r, c + cols, r + rows)
        x0, y0, x1, y1 = one.geometry.to_visible_pixels(np.array(expected)).tolist()
        centre, size = sharpest_window(one, side)
        assert centre == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2))
        assert size == pytest.approx((x1 - x0, y1 - y0))


def cell_in_image(one: Look, row: int, col: int) -> tuple[list[float], float]:
    """(the cell of a look in pixels of the image, xyxy, without what its part does not hold; its whole area)."""
    ends = one.geometry.to_pixels(np.array([col, row, col + 1, row + 1])) + np.tile(one.view[:2], 2)
    area = (ends[2] - ends[0]) * (ends[3] - ends[1])
    return [
        max(ends[0], one.view[0]),
        max(ends[1], one.view[1]),
        min(ends[2], one.view[2]),
        min(ends[3], one.view[3]),
    ], area


def test_a_resampled_map_is_the_weight_that_lies_in_each_cell() -> None:
    """Pair of cells by pair of cells: the share of the one's area that the other covers."""
    rng, moved = np.random.default_rng(3), 0
    for _ in range(30):
        width, height = (int(n) for n in rng.integers(16, 40, size=2))
        one, other = (random_look(rng, width, height, whole_image=bool(n)) for n in (1, 0))
        for source, target in ((one, other), (other, one)):
            expected = np.zeros(target.fused.shape)
            for row, col in np.ndindex(source.fused.shape):
                (a0, b0, a1, b1), area = cell_in_image(source, row, col)
                for r, c in np.ndindex(target.fused.shape):
                    (c0, d0, c1, d1), _ = cell_in_image(target, r, c)
                    across, down = min(a1, c1) - max(a0, c0), min(b1, d1) - max(b0, d0)
                    if across > 0 and down > 0:
                        expected[r, c] += source.fused[row, col] * across * down / area
            np.testing.assert_allclose(resampled(source, target), expected, rtol=1e-9, atol=1e-12)
            # Negative control: as if the target began a pixel further on.
            x0, y0, x1, y1 = target.view
            shifted = replace(target, view=(x0 + 1, y0 + 1, x1 + 1, y1 + 1))
            moved += not np.allclose(resampled(source, shifted), expected, rtol=1e-3)
    assert moved > 50


def test_a_map_on_its_own_grid_stays_as_it_is_and_bars_have_no_weight() -> None:
    one = look(np.arange(16.0).reshape(4, 4), stretched(40, 20, 4, 4), (0, 0, 40, 20))
    assert resampled(one, one) == pytest.approx(one.fused)
    barred = look(np.ones((4, 4)), square_geometry(40, 20, 40, 4, Preprocess.pad), (0, 0, 40, 20))
    assert resampled(barred, barred) == pytest.approx(np.array([[0.0], [1], [1], [0]]).repeat(4, axis=1))


FIRST = at_cells(slice(1, 3), slice(1, 3), stretched(80, 80, 8, 8), (0, 0, 80, 80))
SECOND = at_cells(slice(0, 1), slice(1, 3), stretched(40, 40, 4, 4), (10, 10, 50, 50))
EMPTY = look(np.ones((4, 4)), stretched(40, 40, 4, 4), (20, 20, 60, 60))


def test_the_last_look_with_a_box_counts() -> None:
    assert combine([FIRST, SECOND], ZOOM) is SECOND
    assert combine([FIRST, SECOND, EMPTY], ZOOM) is SECOND
    assert combine([FIRST, EMPTY], ZOOM) is FIRST


def test_a_look_with_too_little_attention_does_not_count() -> None:
    """The maps sum to 4 and 2."""
    config = replace(ZOOM, combine=Combine.attention)
    assert combine([FIRST, SECOND], replace(config, keep=0.5)) is SECOND
    assert combine([FIRST, SECOND], replace(config, keep=0.51)) is FIRST


def test_mean_and_product_of_maps_worked_out_by_hand() -> None:
    """On the second's grid, cells of 10 pixels from (10, 10): the first has its four cells in rows and columns 0 and 1,
    the second in row 0, columns 1 and 2."""
    mean = combine([FIRST, SECOND], replace(ZOOM, combine=Combine.mean))
    assert mean.fused == pytest.approx(np.array([[1, 3, 2, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]) / 8)
    assert mean.box == (10, 10, 40, 30)  # above the mean of 1/16: all of them
    product = combine([FIRST, SECOND], replace(ZOOM, combine=Combine.product))
    assert product.fused[0] == pytest.approx([0, np.sqrt(1 / 8), 0, 0])
    assert product.box == (20, 10, 30, 20)


def test_maps_that_agree_nowhere_leave_the_last_answer() -> None:
    far = at_cells(slice(3, 4), slice(3, 4), stretched(40, 40, 4, 4), (10, 10, 50, 50))
    assert combine([FIRST, far], replace(ZOOM, combine=Combine.product)) is far


def test_parts_have_ids_of_their_own_and_the_size_that_is_seen(tmp_path) -> None:
    sample = Sample("7", "r", "the cup", (1, 2, 3, 4), {}, "")
    group = ImageGroup("3", tmp_path / "a.jpg", 100, 80, (sample,))
    part = part_of(group, (10, 20, 40, 70))
    assert (part.image_id, part.samples[0].sample_id) == ("3@10,20,40,70", "7@10,20,40,70")
    assert (part.width, part.height, part.crop) == (30, 50, (10, 20, 40, 70))
    assert whole(group) == (0, 0, 100, 80)
    assert part.samples[0].expression == "the cup"


def test_a_share_needs_two_numbers() -> None:
    with pytest.raises(ConfigError, match=r"zoom.share=\[0.5\] must be two numbers"):
        ZoomConfig(share=[0.5])
