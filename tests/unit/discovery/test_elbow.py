"""tau: the value at the elbow of the sorted attention sums."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locheads.discovery.config import ElbowRule
from locheads.discovery.rank import elbow_threshold
from locheads.errors import ConfigError, DiscoveryError

CONVEX = [0.0, 0.1, 0.2, 0.3, 1.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Chord 0, .25, .5, .75, 1: gaps 0, .15, .3, .45, 0.
        (CONVEX, 0.3),
        # Chord 0, 2, 4, 6: gaps 0, 2, 3, 0.
        ([0.0, 0.0, 1.0, 6.0], 1.0),
        # Concave: chord 0, .25, .5, .75, 1, gaps 0, .55, .35, .15, 0.
        ([0.0, 0.8, 0.85, 0.9, 1.0], 0.8),
        # Two points equally far (gaps 0, .5, .5, 0): the first counts.
        ([0.0, 0.5, 1.5, 3.0], 0.5),
        ([0.25], 0.25),
        ([0.2, 0.7], 0.2),
    ],
    ids=["convex", "hockey stick", "concave", "tie", "one value", "two values"],
)
def test_chord_rule_on_curves_worked_by_hand(values: list[float], expected: float) -> None:
    assert elbow_threshold(values) == expected


@pytest.mark.parametrize("rule", list(ElbowRule))
def test_the_order_of_the_values_does_not_matter(rule: str) -> None:
    curve = np.linspace(0, 1, 60) ** 6
    expected = elbow_threshold(curve, rule)
    rng = np.random.default_rng(3)
    assert {elbow_threshold(rng.permutation(curve), rule) for _ in range(5)} == {expected}
    assert elbow_threshold(curve[::-1].reshape(6, 10), rule) == expected


@pytest.mark.parametrize(
    "values",
    [np.full(9, 0.3), np.linspace(0.1, 0.9, 17), np.linspace(0, 1e-3, 1024), np.arange(1, 30) * 0.1],
    ids=["constant", "linear", "long and linear", "linear but for rounding"],
)
def test_a_curve_without_an_elbow_gives_its_smallest_value(values: np.ndarray) -> None:
    assert elbow_threshold(values) == values.min()


# Whole numbers: their chord gaps tie exactly or differ clearly, so that rounding cannot move the elbow.
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=20), st.sampled_from([0.25, 2.0, 8.0]))
def test_scaling_the_values_scales_the_threshold(values: list[int], factor: float) -> None:
    curve = np.array(values, dtype=float)
    assert elbow_threshold(curve * factor) == elbow_threshold(curve) * factor


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_chord_rule_finds_the_largest_perpendicular_distance(values: list[int]) -> None:
    curve = [float(v) for v in sorted(values)]
    n = len(curve)
    length = math.hypot(n - 1, curve[-1] - curve[0]) or 1.0
    distance = [abs((n - 1) * (curve[i] - curve[0]) - i * (curve[-1] - curve[0])) / length for i in range(n)]
    found = elbow_threshold(np.array(values, dtype=float))
    assert max(d for d, v in zip(distance, curve, strict=True) if v == found) == pytest.approx(max(distance), abs=1e-9)


def test_kneed_and_chord_are_different_rules() -> None:
    curve = np.random.default_rng(0).beta(0.5, 3.0, 64)
    chord, kneed = elbow_threshold(curve, "chord"), elbow_threshold(curve, "kneed")
    assert chord in curve
    assert kneed in curve
    assert chord != kneed


def test_kneed_agrees_with_the_corner_of_a_clear_curve() -> None:
    assert elbow_threshold([0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.5, 1.0], "kneed") == 0.05


@pytest.mark.parametrize("values", [[], [0.1, math.nan, 0.3], [0.1, math.inf]], ids=["empty", "nan", "inf"])
@pytest.mark.parametrize("rule", list(ElbowRule))
def test_no_values_or_non_finite_ones_are_one_clear_error(values: list[float], rule: str) -> None:
    with pytest.raises(DiscoveryError, match="at least one attention sum and only finite ones"):
        elbow_threshold(values, rule)


def test_a_curve_without_a_knee_tells_what_to_do_instead() -> None:
    with pytest.raises(DiscoveryError, match=r"criterion\.elbow=chord"):
        elbow_threshold(np.linspace(0, 1, 10), "kneed")


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="steepest"):
        elbow_threshold(CONVEX, "steepest")
