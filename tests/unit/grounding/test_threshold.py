"""Threshold rules against plain loops, and stacks against single maps."""

import numpy as np
import pytest

from locheads.grounding.config import GroundingConfig, ThresholdRule
from locheads.grounding.fuse import binarise

STACK = np.random.default_rng(0).gamma(0.5, size=(6, 9, 7)).astype(np.float32)


def otsu_by_loop(map_: np.ndarray) -> np.ndarray:
    """The split of the values into two classes with the least variance within them, tried one by one."""
    values = np.unique(map_.astype(np.float64))
    cells = map_.ravel().astype(np.float64)
    within = [sum(part.var() * len(part) for part in (cells[cells <= v], cells[cells > v])) for v in values[:-1]]
    return map_ > values[int(np.argmin(within))]


EXPECTED = {
    (ThresholdRule.mean, 1.0): lambda m: m > m.astype(np.float64).mean(),
    (ThresholdRule.mean, 1.5): lambda m: m > 1.5 * m.astype(np.float64).mean(),
    (ThresholdRule.otsu, 0.0): otsu_by_loop,
    (ThresholdRule.quantile, 0.8): lambda m: m > np.quantile(m.astype(np.float64), 0.8),
    (ThresholdRule.max_fraction, 0.4): lambda m: m > 0.4 * np.float64(m.max()),
    (ThresholdRule.fixed_area, 0.1): lambda m: m >= np.sort(m.ravel())[-6],
}


@pytest.mark.parametrize(("rule", "level"), EXPECTED)
def test_each_rule_is_the_plain_loop_over_maps(rule: ThresholdRule, level: float) -> None:
    found = binarise(STACK, rule, level)
    np.testing.assert_array_equal(found, [EXPECTED[rule, level](map_) for map_ in STACK])
    assert 0 < found.sum() < found.size


@pytest.mark.parametrize("rule", list(ThresholdRule))
def test_a_stack_gives_what_its_maps_give_alone(rule: ThresholdRule) -> None:
    level = GroundingConfig(threshold=rule).threshold_level()
    alone = [binarise(map_[None], rule, level)[0] for map_ in STACK]
    np.testing.assert_array_equal(binarise(STACK, rule, level), alone)


@pytest.mark.parametrize("rule", list(ThresholdRule))
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_constant_map_has_no_cell_by_any_rule(rule: ThresholdRule, value: float) -> None:
    assert binarise(np.full((2, 5, 5), value), rule, 0.5).sum() == 0


def test_the_rules_disagree() -> None:
    sizes = {binarise(STACK, rule, level).sum() for rule, level in EXPECTED}
    assert len(sizes) == len(EXPECTED)


def test_a_share_of_the_area_keeps_ties() -> None:
    map_ = np.array([[3.0, 2.0], [2.0, 1.0]])
    np.testing.assert_array_equal(binarise(map_, ThresholdRule.fixed_area, 0.5), [[True, True], [True, False]])
