"""Many ways in the same resamples: by hand, and against the interval of one way alone."""

import numpy as np
import pytest

from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.resampling import ends, ratios, resampled_ratios


def ways(seed: int, pictures: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Two ways that mostly agree: (tops, bottoms), [way, picture]."""
    rng = np.random.default_rng(seed)
    hits = rng.integers(0, 7, pictures)
    other = np.clip(hits + (rng.random(pictures) < 0.3) * rng.choice([-1, 1], pictures), 0, 6)
    return np.array([hits, other], dtype=float), np.full((2, pictures), 6.0)


def test_it_is_by_hand_for_one_resample() -> None:
    tops, bottoms = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 4.0]])
    at = np.random.default_rng(7).integers(0, 3, (1, 3))[0]
    assert resampled_ratios(tops, bottoms, 1, 7)[0, 0] == tops[0, at].sum() / bottoms[0, at].sum()


def test_one_way_has_the_interval_that_it_has_alone() -> None:
    tops, bottoms = ways(1)
    expected = ratio_interval(tops[0], bottoms[0], np.arange(50), resamples=500, seed=4)
    low, high = ends(resampled_ratios(tops, bottoms, 500, 4), 0.95)[:, 0]
    assert ratios(tops, bottoms)[0] == expected.value
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    other = ends(resampled_ratios(tops, bottoms, 500, 5), 0.95)[:, 0]
    assert tuple(other) != (low, high)


def test_ways_share_their_resamples_so_their_difference_is_narrower_than_either() -> None:
    narrower = []
    for seed in range(20):
        drawn = resampled_ratios(*ways(seed), 200, seed)
        low, high = ends(drawn[:, 0] - drawn[:, 1], 0.95)
        single = ends(drawn[:, 0], 0.95)
        narrower.append((high - low) / (single[1] - single[0]))
    assert np.mean(narrower) < 0.6


def test_nothing_below_is_0() -> None:
    assert ratios(np.ones((1, 3)), np.zeros((1, 3))) == 0
    assert (resampled_ratios(np.ones((1, 3)), np.zeros((1, 3)), 4, 0) == 0).all()


def test_the_ends_are_percentiles() -> None:
    assert ends(np.arange(101.0), 0.9) == pytest.approx([5, 95])
