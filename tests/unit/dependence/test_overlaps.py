"""Overlaps and peaks of pairs of maps, against plain loops."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from locheads.dependence.overlaps import NO_PAIRS, PairTable, joined, overlaps_of, smoothed
from locheads.dependence.overlaps import table_of as table_of_overlaps
from locheads.dependence.pairs import Pairs
from locheads.grounding.config import Border, GroundingConfig, SmoothingScale
from locheads.grounding.fuse import smooth


def all_pairs(n: int) -> Pairs:
    first, second = np.array(list(itertools.combinations(range(n), 2)), dtype=int).reshape(-1, 2).T
    flags = [np.arange(len(first)) % k == 0 for k in (2, 3, 4)]
    return Pairs(first, second, *flags)


def table_of(maps: np.ndarray, pairs: Pairs, image: int, tolerance: float) -> PairTable:
    return table_of_overlaps(overlaps_of(maps, pairs), pairs, image, tolerance)


@pytest.mark.parametrize("border", list(Border))
@pytest.mark.parametrize("scale", list(SmoothingScale))
@pytest.mark.parametrize(("kernel", "sigma"), [(7, 1.0), (3, 2.0), (1, 1.0), (5, 0.0), (31, 4.0)])
def test_smoothing_by_a_matrix_is_that_of_grounding(
    border: Border, kernel: int, sigma: float, scale: SmoothingScale
) -> None:
    config = GroundingConfig(kernel=kernel, sigma=sigma, border=border, smoothing_scale=scale)
    maps = np.random.default_rng(0).random((2, 3, 19, 12)).astype(np.float32)
    np.testing.assert_allclose(smoothed(maps, config), smooth(maps, config), rtol=0, atol=2e-6)
    other = replace(config, sigma=sigma + 1)
    if kernel > 1:
        assert np.abs(smoothed(maps, config) - smooth(maps, other)).max() > 1e-3


def test_overlaps_and_peaks_equal_a_plain_loop() -> None:
    maps = np.random.default_rng(1).random((4, 2, 3, 12, 24)).astype(np.float32)
    pairs = all_pairs(4)
    found = table_of(maps, pairs, 7, tolerance=1 / 12)
    assert set(found.image) == {7} and found.overlap.shape == found.stays.shape == (6, 2, 3)
    for at, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        for layer, head in itertools.product(range(2), range(3)):
            a, b = maps[i, layer, head].astype(np.float64), maps[j, layer, head].astype(np.float64)
            overlap = sum(min(x, y) for x, y in zip((a / a.sum()).ravel(), (b / b.sum()).ravel(), strict=True))
            assert found.overlap[at, layer, head] == pytest.approx(overlap, abs=5e-4)  # 16 bits
            (ra, ca), (rb, cb) = (np.unravel_index(m.argmax(), m.shape) for m in (a, b))
            # A twelfth of 12 rows is 1, of 24 columns 2.
            assert found.stays[at, layer, head] == (abs(ra - rb) <= 1 and abs(ca - cb) <= 2)
    assert found.stays.any() and not found.stays.all()


def test_neighbouring_peaks_are_at_one_place_however_small_the_tolerance() -> None:
    maps = np.zeros((3, 1, 8, 8))
    maps[0, 0, 4, 4] = maps[1, 0, 5, 5] = maps[2, 0, 4, 6] = 1
    stays = table_of(maps, all_pairs(3), 0, tolerance=0.0).stays[:, 0]
    assert stays.tolist() == [True, False, True]


def test_the_overlap_is_that_of_shares_not_of_weights() -> None:
    one, other = np.zeros((8, 8)), np.zeros((8, 8))
    one[2, 2:4], other[2, 3:5] = 0.5, 0.01
    maps = np.stack([one, one / 100, other])[:, None]
    assert table_of(maps, all_pairs(3), 0, 0.1).overlap[:, 0].tolist() == [1.0, 0.5, 0.5]


def test_an_empty_map_overlaps_with_nothing() -> None:
    maps = np.zeros((2, 1, 8, 8))
    assert table_of(maps, all_pairs(2), 0, 0.1).overlap.tolist() == [[0.0]]


def test_images_are_joined_and_may_have_no_pair() -> None:
    maps = np.random.default_rng(0).random((3, 8, 8))
    tables = [table_of(maps, all_pairs(3), 0, 0.1), table_of(maps[:1], all_pairs(1), 1, 0.1), NO_PAIRS]
    found = joined(tables)
    assert len(found.image) == len(found.overlap) == 3
    assert len(joined([NO_PAIRS]).image) == 0
