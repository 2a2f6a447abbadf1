"""Intervals of many ways at once, by simulation: how often all hold, and how often that of the best does."""

import numpy as np
import pytest
from scipy.special import ndtri

from locheads.evaluation.intervals import difference_ends, sum_ratio, wilson_ends, wilson_p
from locheads.evaluation.joint_intervals import joint_confidence

IMAGES, WAYS, RUNS = 80, 40, 120


def answers(rng: np.random.Generator, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits of each way on 1 to 9 expressions of each image; an image is easy or hard for all ways alike."""
    n = rng.integers(1, 10, IMAGES)
    hard = rng.normal(0, 0.5, IMAGES)
    share = 1 / (1 + np.exp(-(np.log(rates / (1 - rates))[:, None] + hard)))
    return rng.binomial(n, share).astype(float), np.broadcast_to(n, (len(rates), IMAGES)).astype(float)


def truth(rates: np.ndarray) -> np.ndarray:
    """What the ways reach over all images of the kind: the mean over hardness, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    return (1 / (1 + np.exp(-(np.log(rates / (1 - rates))[:, None] + 0.5 * nodes))) * weights).sum(1) / weights.sum()


def test_all_hold_at_once_and_that_of_the_best_of_many_does() -> None:
    rates = np.full(WAYS, 0.6)
    rates[0] = 0.5
    exact = truth(rates) - truth(rates[:1])
    all_hold, best_holds, careless = 0, 0, 0
    for seed in range(RUNS):
        sums = answers(np.random.default_rng(seed), rates)
        base = sums[0][:1], sums[1][:1]
        joint = joint_confidence(base, sums, seed=seed, draws=200)
        (low, high), (own_low, own_high) = (difference_ends(base, sums, c) for c in (joint, 0.95))
        holds = (low <= exact) & (exact <= high)
        best = int(np.argmax(sum_ratio(*sums)))
        all_hold += holds.all()
        best_holds += holds[best]
        careless += own_low[best] <= exact[best] <= own_high[best]
    assert all_hold / RUNS >= 0.92
    assert best_holds / RUNS >= 0.95
    assert careless / RUNS <= 0.85, "the best of many does not lie in its own interval: the simulation must show that"


def test_ways_that_are_the_same_cost_nothing_and_independent_ones_cost_sidak() -> None:
    rng = np.random.default_rng(0)
    one, bottoms = rng.random((1, 400)), np.ones((1, 400))
    base = np.full((1, 400), 0.5), bottoms
    same = np.repeat(one, 50, axis=0), np.repeat(bottoms, 50, axis=0)
    assert joint_confidence(base, same, draws=10_000) == pytest.approx(0.95, abs=0.004)
    apart = rng.random((50, 400)), np.ones((50, 400))
    sidak = 0.95 ** (1 / 50)
    found = joint_confidence(base, apart, draws=10_000)
    assert ndtri((1 + found) / 2) == pytest.approx(ndtri((1 + sidak) / 2), abs=0.05)


def test_a_way_that_changes_nothing_takes_no_part() -> None:
    tops, bottoms = np.full((3, 20), 0.5), np.ones((3, 20))
    assert joint_confidence((tops[:1], bottoms[:1]), (tops, bottoms)) == 0.95


def test_p_is_where_the_interval_ends() -> None:
    tops, bottoms = answers(np.random.default_rng(1), np.linspace(0.2, 0.9, 8))
    for value in (0.1, 0.55, 0.865):
        p = wilson_p(tops, bottoms, np.array(value))
        for i in range(8):
            if 1e-12 < p[i] < 1:
                ends = wilson_ends(tops[i], bottoms[i], 1 - p[i])
                assert np.abs(ends - value).min() < 1e-6
                inside = wilson_ends(tops[i], bottoms[i], 1 - p[i] / 2)
                assert inside[0] < value < inside[1]
    assert (wilson_p(tops, bottoms, sum_ratio(tops, bottoms)) == 1).all()
    assert wilson_p(tops[:, :1], bottoms[:, :1], np.array(0.3)).tolist() == [1.0] * 8
    assert wilson_p(np.zeros((1, 9)), np.ones((1, 9)), np.array([0.0])) == 1
    assert wilson_p(np.full((1, 9), 0.5), np.ones((1, 9)), np.array([0.0])) == 0
