"""The interval holds what it promises, resamples pictures, and never answers NaN."""

import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from locheads.evaluation.intervals import Interval, ratio_interval


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _simulated(rng: np.random.Generator, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits of 5 expressions a picture, whose chance is the picture's (mean 0.6); the picture of each."""
    chance = rng.beta(3, 2, pictures)
    return (rng.random((pictures, 5)) < chance[:, None]).ravel(), np.repeat(np.arange(pictures), 5)


def test_value_is_the_metric() -> None:
    rng = np.random.default_rng(3)
    unions = rng.integers(0, 1000, 90)
    intersections = (unions * rng.random(90)).astype(int)
    groups, ones = rng.integers(0, 20, 90), np.ones(90)
    ious = intersections / np.maximum(unions, 1)
    for values, bottoms, metric in (
        (intersections, unions, intersections.sum() / unions.sum()),
        (ious >= 0.5, ones, sum(ious >= 0.5) / 90),
        (ious, ones, sum(ious) / 90),
    ):
        interval = ratio_interval(values, bottoms, groups)
        assert interval.value == pytest.approx(metric, abs=1e-12)
        assert interval.low < interval.value < interval.high


def test_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(20)
    covered = []
    for _ in range(300):
        hits, groups = _simulated(rng, 100)
        interval = ratio_interval(hits, np.ones(500), groups, resamples=500)
        covered.append(interval.low <= 0.6 <= interval.high)
    # 95 % over 300 repeats has a standard error of 1.3 %.
    assert 0.91 <= np.mean(covered) <= 0.985


def test_resampling_expressions_would_be_too_narrow() -> None:
    rng = np.random.default_rng(21)
    by_picture, by_expression, covered = [], [], []
    for _ in range(100):
        # The expressions of a picture agree: a picture is all hits or all misses.
        hits = np.repeat(rng.random(100) < 0.6, 5)
        pictures = ratio_interval(hits, np.ones(500), np.repeat(np.arange(100), 5), resamples=500)
        expressions = ratio_interval(hits, np.ones(500), np.arange(500), resamples=500)
        by_picture.append(pictures.high - pictures.low)
        by_expression.append(expressions.high - expressions.low)
        covered.append(expressions.low <= 0.6 <= expressions.high)
    # Five identical copies: the true width is sqrt(5) = 2.24 times as large.
    assert np.mean(by_picture) / np.mean(by_expression) == pytest.approx(5**0.5, rel=0.1)
    assert np.mean(covered) < 0.8


def test_close_to_the_analytic_interval() -> None:
    values = np.random.default_rng(5).normal(10, 2, 1000)
    interval = ratio_interval(values, np.ones(1000), np.arange(1000), resamples=5000)
    error = 1.96 * values.std() / 1000**0.5
    assert interval.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_confidence_widens() -> None:
    hits, groups = _simulated(np.random.default_rng(1), 50)
    wide, narrow = (ratio_interval(hits, np.ones(250), groups, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_deterministic_in_the_seed_whatever_the_names() -> None:
    hits, groups = _simulated(np.random.default_rng(1), 50)
    first = ratio_interval(hits, np.ones(250), groups)
    named = ratio_interval(hits, np.ones(250), [f"{group:03d}" for group in groups])
    assert first == ratio_interval(hits, np.ones(250), groups) == named
    assert first != ratio_interval(hits, np.ones(250), groups, seed=1)


@pytest.mark.parametrize(
    ("numerators", "denominators", "groups", "value"),
    [
        ([1, 0], [1, 1], ["a", "a"], 0.5),  # a single picture
        ([3], [4], [7], 0.75),
        ([1, 1, 1], [1, 1, 1], [1, 2, 3], 1.0),  # no variance
        ([0, 0, 0], [1, 1, 1], [1, 2, 3], 0.0),
        ([0, 0], [0, 0], [1, 2], 0.0),  # nothing to divide by
        ([], [], [], 0.0),
    ],
)
def test_degenerate(numerators: list, denominators: list, groups: list, value: float) -> None:
    assert ratio_interval(numerators, denominators, groups) == Interval(value, value, value)


def test_an_empty_union_in_a_resample_is_no_nan() -> None:
    interval = ratio_interval([0, 0, 3], [0, 0, 4], [1, 2, 3])
    assert (interval.value, interval.low, interval.high) == (0.75, 0.0, 0.75)


def test_refcoco_val_takes_a_moment() -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 1500, 10834))
    started = time.perf_counter()
    ratio_interval(rng.random(10834), np.ones(10834), groups)
    assert time.perf_counter() - started < 2
