"""Paired comparison against enumeration, against simulated repeats, and on runs that do not differ."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import t

from locheads.evaluation.intervals import Difference, NeededSample, Sums, compare, design_effect, needed_sample

Runs = tuple[np.ndarray, np.ndarray]


def mean(values: np.ndarray) -> Sums:
    return np.asarray(values, dtype=float), np.ones(len(values))


def hits(rng: np.random.Generator, images: int, per_image: int, shift: float) -> tuple[Runs, np.ndarray]:
    """Two runs' continuous scores, b better by `shift`; an image's expressions share half of its variance."""
    shared = np.repeat(rng.normal(0, 1, images), per_image)
    noise = rng.normal(0, 1, images * per_image)
    a = rng.normal(0, 3, images * per_image)
    return (a, a + shift + shared + noise), np.repeat(np.arange(images), per_image)


def test_p_is_the_share_of_all_sign_flips() -> None:
    rng = np.random.default_rng(0)
    images = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    tops, bottoms = (rng.integers(low, low + 50, (2, 10)).astype(float) for low in (0, 51))
    for below in (bottoms, np.ones((2, 10))):
        found = compare((tops[0], below[0]), (tops[1], below[1]), images)
        extreme = 0
        for flips in itertools.product([0, 1], repeat=6):
            flip = np.array(flips)[images]
            which = np.stack([flip, 1 - flip])
            ratio = [sum(tops[w, range(10)]) / sum(below[w, range(10)]) for w in which]
            extreme += abs(ratio[1] - ratio[0]) >= abs(found.difference) - 1e-12
        assert found.p == pytest.approx(extreme / 64)  # 2 ** 6 ways: exact
        assert found.difference == pytest.approx(tops[1].sum() / below[1].sum() - tops[0].sum() / below[0].sum())


def test_two_equal_runs_do_not_differ() -> None:
    rng = np.random.default_rng(1)
    a, images = rng.random(40) < 0.5, np.repeat(np.arange(10), 4)
    found = compare(mean(a), mean(a), images)
    # Ten images without a change: as if one more had changed in either direction.
    assert (found.difference, found.p, found.need) == (0, 1, None)
    assert (found.low, found.high) == pytest.approx((-(2**0.5) * t.ppf(0.975, 9) / 10, 2**0.5 * t.ppf(0.975, 9) / 10))
    assert found.design_effect == 1


def test_swapping_the_runs_turns_the_sign_only() -> None:
    (a, b), images = hits(np.random.default_rng(2), 30, 3, 0.5)
    one, other = (compare(mean(x), mean(y), images, resamples=500, seed=4) for x, y in ((a, b), (b, a)))
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert (other.p, other.need) == (one.p, one.need)
    assert compare(mean(a), mean(b), images, resamples=500, seed=4) == one
    assert compare(mean(a), mean(b), images, resamples=500, seed=5) != one


def _repeats(shift: float, per_image: int, n: int = 120) -> list[Difference]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(n):
        (a, b), images = hits(rng, 30, per_image, shift)
        found.append(compare(mean(a), mean(b), images, resamples=199))
    return found


def test_p_and_interval_hold_what_they_promise_over_images() -> None:
    null = _repeats(0.0, 5)
    # 120 repeats: a standard error of 2 %.
    assert np.mean([found.p <= 0.05 for found in null]) <= 0.12
    assert np.mean([found.low <= 0 <= found.high for found in null]) >= 0.86
    # The negative control: a comparison that takes every expression for an image is wrong far too often.
    rng, naive = np.random.default_rng(3), []
    for _ in range(120):
        (a, b), images = hits(rng, 30, 5, 0.0)
        naive.append(compare(mean(a), mean(b), np.arange(len(images)), resamples=199).p <= 0.05)
    assert np.mean(naive) > 0.15
    assert np.mean([found.p <= 0.05 for found in _repeats(1.0, 5)]) > 0.95


def test_design_effect_is_that_of_the_clusters() -> None:
    rng = np.random.default_rng(5)
    (a, b), images = hits(rng, 4000, 5, 0.0)
    # Half of the variance is the image's: 1 + (5 - 1) / 2.
    assert design_effect(b - a, images) == pytest.approx(3, abs=0.2)
    assert design_effect(b - a, rng.permutation(images)) == pytest.approx(1, abs=0.1)
    assert design_effect(np.repeat(rng.normal(size=900), 3), np.repeat(np.arange(900), 3)) == pytest.approx(3, abs=0.01)
    assert design_effect(np.ones(6), np.arange(6)) == 1


def test_the_needed_sample_is_the_textbooks() -> None:
    # (1.96 + 0.84)^2 = 7.849 at 95 % and power 0.8; a difference of a tenth of the spread takes 785 pairs.
    assert needed_sample(0.1, 1.0) == NeededSample(785, 785)
    assert needed_sample(-0.1, 1.0, effect=2.0, per_image=4.0) == NeededSample(1570, 393)
    assert needed_sample(0.1, 1.0, power=0.5) == NeededSample(385, 385)
    assert needed_sample(0.0, 1.0) is None
    assert needed_sample(5.0, 1.0) == NeededSample(1, 2)


def test_a_difference_without_spread_needs_an_image_and_not_nothing() -> None:
    assert needed_sample(0.5, 0.0) == NeededSample(1, 2)
    assert needed_sample(0.5, 0.0, per_image=3.5) == NeededSample(4, 2)


def test_a_sample_of_the_needed_size_sees_the_difference_8_times_in_10() -> None:
    rng = np.random.default_rng(6)
    (a, b), images = hits(rng, 3000, 4, 0.4)
    pilot = compare(mean(a), mean(b), images, resamples=99)
    need = needed_sample(0.4, pilot.spread, pilot.design_effect, 4)
    assert need is not None

    def power(n_images: int) -> float:
        seen = []
        for _ in range(400):
            (c, d), _ = hits(rng, n_images, 4, 0.4)
            per_image = (d - c).reshape(n_images, 4).mean(axis=1)
            seen.append(abs(per_image.mean()) > 1.96 * per_image.std(ddof=1) / math.sqrt(n_images))
        return float(np.mean(seen))

    # 400 repeats: a standard error of 2 %; a z-test sees a little more than it should.
    assert 0.74 <= power(need.images) <= 0.88
    assert power(need.images // 3) < 0.55


def test_one_image_tells_nothing_of_the_spread() -> None:
    found = compare(mean(np.array([0, 0])), mean(np.array([1, 1])), np.array([7, 7]))
    assert (found.low, found.high, found.p, found.need) == (-1, 1, 1, None)


def test_nothing_at_all_is_zero() -> None:
    nothing = np.zeros(4), np.zeros(4)
    found = compare(nothing, nothing, np.arange(4))
    assert (found.a, found.b, found.difference, found.p) == (0, 0, 0, 1)
