"""The paired difference: by hand, against ratio_interval, and narrower than the difference of two intervals."""

import numpy as np
import pytest

from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.paired import ends, paired_difference, resampled_ratios


def hits(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two ways that mostly agree -> (hits of a, hits of b, pictures)."""
    rng = np.random.default_rng(seed)
    a = (rng.random(n) < 0.5).astype(float)
    flipped = rng.random(n) < 0.05
    return np.where(flipped, 1 - a, a), a, np.repeat(np.arange(n // 6), 6)


def test_a_way_does_not_differ_from_itself() -> None:
    a, _, pictures = hits(0)
    found = paired_difference(a, np.ones(len(a)), a, np.ones(len(a)), pictures)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_against_zero_it_is_the_interval_of_the_ratio_with_the_same_resamples() -> None:
    a, b, pictures = hits(1)
    weights = 1 + b
    expected = ratio_interval(a, weights, pictures, resamples=500, seed=4)
    found = paired_difference(a, weights, np.zeros(len(a)), weights, pictures, resamples=500, seed=4)
    assert found.value == expected.value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_it_is_by_hand_for_one_resample() -> None:
    tops, bottoms = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 4.0]])
    at = np.random.default_rng(7).integers(0, 3, (1, 3))[0]
    assert resampled_ratios(tops, bottoms, 1, 7)[0, 0] == tops[0, at].sum() / bottoms[0, at].sum()


def test_pairing_is_narrower_than_two_intervals_and_covers_the_truth() -> None:
    covered, ratio = 0, []
    for seed in range(40):
        a, b, pictures = hits(seed)
        ones = np.ones(len(a))
        found = paired_difference(a, ones, b, ones, pictures, resamples=200, seed=seed)
        covered += found.low <= 0 <= found.high  # flips are symmetric: no true difference at a share of 1/2
        single = ratio_interval(a, ones, pictures, resamples=200, seed=seed)
        ratio.append((found.high - found.low) / (single.high - single.low))
    assert 33 <= covered <= 40
    assert np.mean(ratio) < 0.6


def test_the_ends_are_percentiles() -> None:
    assert ends(np.arange(101.0), 0.9) == pytest.approx([5, 95])
