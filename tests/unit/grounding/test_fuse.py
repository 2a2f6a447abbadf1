"""Smoothing against an explicit two-dimensional convolution, and the threshold at the mean."""

import math

import numpy as np
import pytest

from locheads.grounding.config import Border, GroundingConfig, SmoothingScale
from locheads.grounding.fuse import binarise, fuse


def index(i: int, n: int, border: str) -> int | None:
    """Which cell a position beyond the border shows; None where it shows zero. Good for one overhang."""
    if 0 <= i < n:
        return i
    if border == "constant":
        return None
    if border == "nearest":
        return min(max(i, 0), n - 1)
    repeat = 1 if border == "reflect" else 0
    return -i - repeat if i < 0 else 2 * n - 2 - i + repeat


def blur_by_loops(map_: np.ndarray, kernel: int, sigma: float, border: str) -> np.ndarray:
    rows, cols = map_.shape
    reach = range(-(kernel // 2), kernel // 2 + 1)
    weight = {(dr, dc): math.exp(-(dr * dr + dc * dc) / (2 * sigma * sigma)) for dr in reach for dc in reach}
    total = sum(weight.values())
    out = np.zeros_like(map_)
    for r in range(rows):
        for c in range(cols):
            for (dr, dc), w in weight.items():
                row, col = index(r + dr, rows, border), index(c + dc, cols, border)
                if row is not None and col is not None:
                    out[r, c] += w / total * map_[row, col]
    return out


def corner(size: int = 9) -> np.ndarray:
    map_ = np.zeros((1, size, size))
    map_[0, 0, 0] = 1.0
    return map_


@pytest.mark.parametrize("border", list(Border))
@pytest.mark.parametrize(("kernel", "sigma"), [(7, 1.0), (3, 1.0), (5, 0.6), (7, 2.5)])
def test_smoothing_is_a_renormalised_gaussian_window(border: Border, kernel: int, sigma: float) -> None:
    maps = np.random.default_rng(1).random((2, 8, 6))
    expected = sum(blur_by_loops(map_, kernel, sigma, border) for map_ in maps)
    found = fuse(maps, GroundingConfig(kernel=kernel, sigma=sigma, border=border))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_default_is_kernel_7_sigma_1_mirror() -> None:
    maps = np.random.default_rng(2).random((1, 7, 7))
    np.testing.assert_allclose(fuse(maps, GroundingConfig()), blur_by_loops(maps[0], 7, 1.0, "mirror"), atol=1e-12)


def test_the_borders_differ_at_a_corner() -> None:
    seen = {border: fuse(corner(), GroundingConfig(border=border))[0, 0] for border in Border}
    # One axis of the window: w0 = .3991, w1 = .2421, w2 = .0540, w3 = .0044 (they add up to 1).
    w = np.exp(-(np.arange(4) ** 2) / 2.0)
    w /= w[0] + 2 * w[1:].sum()
    assert seen[Border.constant] == pytest.approx(w[0] ** 2, abs=1e-12)
    assert seen[Border.mirror] == pytest.approx(w[0] ** 2, abs=1e-12)
    assert seen[Border.reflect] == pytest.approx((w[0] + w[1]) ** 2, abs=1e-12)
    assert seen[Border.nearest] == pytest.approx((w.sum()) ** 2, abs=1e-12)
    beside = {border: fuse(corner(), GroundingConfig(border=border))[1, 0] for border in Border}
    assert beside[Border.constant] == pytest.approx(w[0] * w[1], abs=1e-12)
    # A constant map shows the difference between mirror and constant: only the latter darkens the corner.
    ones = np.ones((1, 9, 9))
    assert fuse(ones, GroundingConfig(border=Border.mirror))[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert fuse(ones, GroundingConfig(border=Border.constant))[0, 0] == pytest.approx((w.sum()) ** 2, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "sigma", "kernel"),
    [((12, 12), 0.5, 5), ((48, 36), 2.0, 13), ((9, 16), 2 / 3, 5), ((16, 9), 2 / 3, 5), ((6, 32), 4 / 3, 9)],
)
def test_by_the_grid_the_window_is_as_much_of_the_longer_side_as_on_24_cells(
    shape: tuple[int, int], sigma: float, kernel: int
) -> None:
    """The loops are given sigma 1 and a reach of 3 cells times longer side / 24, worked out by hand."""
    map_ = np.random.default_rng(5).random(shape)
    found = fuse(map_[None], GroundingConfig(smoothing_scale=SmoothingScale.grid))
    np.testing.assert_allclose(found, blur_by_loops(map_, kernel, sigma, "mirror"), rtol=0, atol=1e-12)
    # The negative control: another sigma or window is seen a thousand times beyond that accuracy.
    for other_kernel, other_sigma in ((kernel, 1.02 * sigma), (kernel + 2, sigma)):
        assert np.abs(found - blur_by_loops(map_, other_kernel, other_sigma, "mirror")).max() > 1e-9
    assert np.abs(found - fuse(map_[None], GroundingConfig())).max() > 1e-3


@pytest.mark.parametrize("shape", [(24, 24), (24, 13), (7, 24)])
@pytest.mark.parametrize(("kernel", "sigma"), [(7, 1.0), (9, 0.7), (1, 1.0), (5, 0.0)])
def test_with_24_cells_on_the_longer_side_both_scales_are_one_to_the_bit(
    shape: tuple[int, int], kernel: int, sigma: float
) -> None:
    maps = np.random.default_rng(6).random((2, 3, *shape)).astype(np.float32)
    configs = [GroundingConfig(kernel=kernel, sigma=sigma, smoothing_scale=scale) for scale in SmoothingScale]
    np.testing.assert_array_equal(*(fuse(maps, config) for config in configs))
    if kernel > 1 and sigma > 0:
        assert not np.array_equal(*(fuse(maps[..., :6, :6], config) for config in configs))


def test_a_grid_on_which_the_window_is_one_cell_is_not_smoothed() -> None:
    maps = np.random.default_rng(7).random((1, 3, 3))  # a reach of 3 cells of 24 is 0.4 of 3
    np.testing.assert_array_equal(fuse(maps, GroundingConfig(smoothing_scale=SmoothingScale.grid)), maps[0])


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"kernel": 1}])
def test_sigma_zero_or_a_window_of_one_cell_only_sums(options: dict) -> None:
    maps = np.random.default_rng(3).random((3, 5, 4))
    np.testing.assert_array_equal(fuse(maps, GroundingConfig(**options)), maps.sum(axis=0))


def test_a_stack_of_samples_is_fused_sample_by_sample() -> None:
    maps = np.random.default_rng(4).random((2, 3, 6, 6))
    config = GroundingConfig()
    np.testing.assert_array_equal(fuse(maps, config), np.stack([fuse(sample, config) for sample in maps]))


def test_cells_equal_to_the_mean_are_below_the_threshold() -> None:
    cells = binarise(np.array([[4.0, 2.0], [2.0, 0.0]]))
    np.testing.assert_array_equal(cells, [[True, False], [False, False]])


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_map_has_no_cell_above_its_mean(value: float, dtype: type) -> None:
    assert binarise(np.full((2, 7, 7), value, dtype=dtype)).sum() == 0


def test_every_map_of_a_stack_has_its_own_mean() -> None:
    stack = np.array([[[1.0, 0.0], [0.0, 0.0]], [[100.0, 100.0], [0.0, 100.0]]])
    np.testing.assert_array_equal(binarise(stack), [[[1, 0], [0, 0]], [[1, 1], [0, 1]]])
