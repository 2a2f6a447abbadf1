"""Intervals against scipy's, by simulation with the bootstrap as the control, at 0 and 1, and without NaN."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from locheads.bench.bench_coverage import Measure, measures, simulate, truth
from locheads.evaluation.intervals import Interval, difference_ends, ratio_interval, t_ends, wilson_ends

FEWER = 500
LEAST = 93 - 100 * 2.6 * (0.95 * 0.05 / FEWER) ** 0.5
"""93 less what so few repeats may miss by: 2.6 standard errors of a coverage of 95 %, 2.5 points."""
BY_NAME = {measure.name: measure for measure in measures()}


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _simulated(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits of 5 expressions an image, whose chance is the image's (mean 0.6); the image of each."""
    chance = rng.beta(3, 2, images)
    return (rng.random((images, 5)) < chance[:, None]).ravel(), np.repeat(np.arange(images), 5)


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


@pytest.mark.parametrize("hits", [0, 1, 10, 190, 360, 399, 400])
def test_independent_expressions_have_wilsons_interval(hits: int) -> None:
    expected = binomtest(hits, 400).proportion_ci(0.95, method="wilson")
    found = ratio_interval(np.arange(400) < hits, np.ones(400), np.arange(400))
    # Student's t, one degree of freedom and the two halves make it up to 2 % wider.
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.02)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.002)


def test_copies_of_an_expression_add_nothing() -> None:
    hits = np.random.default_rng(21).random(200) < 0.6
    once = ratio_interval(hits, np.ones(200), np.arange(200))
    copies = ratio_interval(np.repeat(hits, 5), np.ones(1000), np.repeat(np.arange(200), 5))
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high), abs=1e-12)
    naive = ratio_interval(np.repeat(hits, 5), np.ones(1000), np.arange(1000))
    assert copies.high - copies.low == pytest.approx(5**0.5 * (naive.high - naive.low), rel=0.02)


def test_without_bounds_it_is_students_with_the_most_unusual_image_half_once_more() -> None:
    values = np.random.default_rng(5).normal(10, 2, 300)
    found = ratio_interval(values, np.ones(300), np.arange(300), bounded=False)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    more = 0.5 * (np.abs(values - values.mean()).max() / 299) ** 2 / (values.var(ddof=1) / 300)
    assert found.high - found.low == pytest.approx((expected.high - expected.low) * (1 + more) ** 0.5, rel=1e-9)
    assert found.low + found.high == pytest.approx(expected.low + expected.high)


EXTREME = ["Acc, pointing, slices: 2 %", "Acc, pointing, slices: 98 %", "mIoU, nearly all 0", "cIoU, nearly all 0",
           "difference of mIoU, 5 % of the IoUs change"]  # fmt: skip
USUAL = ["Acc, pointing, slices: 50 %", "random heads, mean of 10 draws: 2 %", "cIoU, usual",
         "difference of Acc, 30 % change, 70 % of them for the better", "NSS"]  # fmt: skip


@pytest.mark.parametrize("name", EXTREME + USUAL)
def test_a_nominal_95_holds_the_truth_at_least_93_times_in_100_from_30_images_on(name: str) -> None:
    measure: Measure = BY_NAME[name]
    rows = list(simulate(measure, truth(measure), 30, FEWER))
    assert min(row["coverage"] for row in rows) >= LEAST
    if name in EXTREME:  # the control: a bootstrap's percentiles
        assert min(row["bootstrap_coverage"] for row in rows) < 80


def test_confidence_widens() -> None:
    hits, groups = _simulated(np.random.default_rng(1), 50)
    wide, narrow = (ratio_interval(hits, np.ones(250), groups, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_same_whatever_the_names() -> None:
    hits, groups = _simulated(np.random.default_rng(1), 50)
    assert ratio_interval(hits, np.ones(250), groups) == ratio_interval(
        hits, np.ones(250), [f"{g:03d}" for g in groups]
    )


def test_many_ways_have_the_interval_that_each_has_alone() -> None:
    rng = np.random.default_rng(4)
    bottoms = rng.integers(1, 9, (3, 40)).astype(float)
    tops = np.floor(bottoms * rng.random((3, 40)))
    for ends in (wilson_ends, t_ends):
        np.testing.assert_allclose(
            ends(tops, bottoms), np.transpose([ends(*way) for way in zip(tops, bottoms, strict=True)])
        )
    together = difference_ends((tops[:1], bottoms[:1]), (tops, bottoms))
    for i in range(3):
        np.testing.assert_allclose(together[:, i], difference_ends((tops[0], bottoms[0]), (tops[i], bottoms[i])))


@pytest.mark.parametrize("values", [[0.5, -0.8, 0.0], [0.5, 1.6, 1.0]])
def test_what_is_no_share_has_no_wilson_interval(values: list[float]) -> None:
    """A difference of hits, or a normalised map's value: silence would give an interval of something else."""
    with pytest.raises(ValueError, match="ratios in \\[0, 1\\]: give bounded=False"):
        ratio_interval(values, np.ones(3), np.arange(3))
    free = ratio_interval(values, np.ones(3), np.arange(3), bounded=False)
    assert free.value == pytest.approx(np.mean(values)) and free.low < free.value < free.high
    rounded = np.full(3, 1 + 1e-12)  # as sums of ten thirds round
    assert ratio_interval(rounded, np.ones(3), np.arange(3)).high == 1


def test_at_0_and_1_the_other_end_is_open() -> None:
    none, all_ = (ratio_interval(np.full(40, hit), np.ones(40), np.arange(40)) for hit in (0, 1))
    assert (none.low, none.high) == pytest.approx((0, binomtest(0, 40).proportion_ci(method="wilson").high), abs=0.01)
    assert (all_.low, all_.high) == pytest.approx((1 - none.high, 1))


@pytest.mark.parametrize(
    ("numerators", "denominators", "groups", "value"),
    [
        ([1, 0], [1, 1], ["a", "a"], 0.5),  # a single image
        ([3], [4], [7], 0.75),
        ([0, 0], [0, 0], [1, 2], 0.0),  # nothing to divide by
        ([0, 0, 3], [0, 0, 4], [1, 2, 3], 0.75),  # a single image that has anything
        ([], [], [], 0.0),
    ],
)
def test_of_one_image_nothing_is_known(numerators: list, denominators: list, groups: list, value: float) -> None:
    assert ratio_interval(numerators, denominators, groups) == Interval(value, 0.0, 1.0)
    free = ratio_interval(numerators, denominators, groups, bounded=False)
    assert free.value == value and np.isnan([free.low, free.high]).all()
