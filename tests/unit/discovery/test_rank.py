"""One sample's ranking, on tables of 3 layers x 2 heads worked by hand."""

import dataclasses
from enum import StrEnum

import numpy as np
import pytest

from locheads.discovery.config import CriterionConfig, Threshold
from locheads.discovery.criteria import CRITERIA
from locheads.discovery.rank import best_heads, eligible_heads, rank_values, tau_of
from locheads.errors import ConfigError, DiscoveryError
from locheads.map_numbers import EmptyMaps, Floor, Precision, Weighting
from locheads.types import HeadScores

INF = np.inf
#          L0          L1          L2
SUMS = [[[0.9, 0.8], [0.1, 0.2], [0.3, 0.7]]]
ENTROPY = [[[0.1, 0.2], [0.5, 1.5], [2.0, 0.9]]]


def criterion(**options: object) -> CriterionConfig:
    return CriterionConfig(**{"skip_layers": 1, **options})  # type: ignore[arg-type]


def ranked(scores, config: CriterionConfig) -> np.ndarray:
    return rank_values(scores, eligible_heads(scores["sums"].mean(axis=0), config), config)[0]


def test_s_img_ranks_by_the_highest_sum(scores) -> None:
    values = ranked(scores(SUMS, ENTROPY), criterion(score="s_img"))
    np.testing.assert_array_equal(values, [[INF, INF], [-0.1, -0.2], [-0.3, -0.7]])
    np.testing.assert_array_equal(best_heads(values[None], 2)[0], [[0, 0], [0, 0], [1, 1]])


def test_entropy_ranks_by_the_lowest_entropy_whatever_the_sum(scores) -> None:
    values = ranked(scores(SUMS, ENTROPY), criterion(score="entropy"))
    np.testing.assert_array_equal(values, [[INF, INF], [0.5, 1.5], [2.0, 0.9]])
    np.testing.assert_array_equal(best_heads(values[None], 2)[0], [[0, 0], [1, 0], [0, 1]])


def test_s_img_entropy_ranks_by_entropy_among_the_heads_above_tau(scores) -> None:
    # The admitted sums .1 .2 .3 .7 have the chord .1 .3 .5 .7: gaps 0 .1 .2 0, so tau is .3.
    config = criterion()
    assert tau_of(np.array(SUMS[0]), config) == 0.3
    values = ranked(scores(SUMS, ENTROPY), config)
    np.testing.assert_array_equal(values, [[INF, INF], [INF, INF], [2.0, 0.9]])
    np.testing.assert_array_equal(best_heads(values[None], 1)[0], [[0, 0], [0, 0], [0, 1]])


def test_the_curve_holds_the_admitted_layers_only() -> None:
    # Without layer 0: .1 .2 .3 .7. With it: 0 .1 .2 .3 .7 5 on the chord 0 1 2 3 4 5, farthest (3.3) at .7.
    sums = np.array([[0.0, 5.0], [0.1, 0.2], [0.3, 0.7]])
    assert tau_of(sums, criterion()) == 0.3
    assert tau_of(sums, criterion(skip_layers=0)) == 0.7


def test_a_fixed_tau_replaces_the_elbow_and_admits_a_head_equal_to_it() -> None:
    eligible = eligible_heads(np.array(SUMS[0]), criterion(tau=0.2))
    np.testing.assert_array_equal(eligible, [[0, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    "options",
    [
        {"score": "s_img"},
        {"score": "entropy"},
        {"threshold": Threshold.per_sample},
        {"threshold": Threshold.per_sample_index_bug},
    ],
)
def test_without_a_threshold_on_means_every_admitted_head_is_eligible(options: dict) -> None:
    config = criterion(tau=0.5, **options)
    assert tau_of(np.array(SUMS[0]), config) is None
    np.testing.assert_array_equal(eligible_heads(np.array(SUMS[0]), config), [[0, 0], [1, 1], [1, 1]])


@pytest.mark.parametrize("score", list(CRITERIA))
@pytest.mark.parametrize("skip", [3, 4])
def test_skipping_all_layers_is_an_error_that_names_the_setting(score: str, skip: int) -> None:
    with pytest.raises(DiscoveryError, match=rf"skip_layers={skip} leaves none of the model's 3 layers"):
        eligible_heads(np.array(SUMS[0]), criterion(score=score, skip_layers=skip))


def test_equal_values_go_to_the_lower_layer_then_the_lower_head() -> None:
    values = np.array([[[2.0, 1.0], [1.0, 1.0], [0.5, 1.0]]])
    np.testing.assert_array_equal(best_heads(values, 1)[0], [[0, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(best_heads(values, 2)[0], [[0, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(best_heads(values, 3)[0], [[0, 1], [1, 0], [1, 0]])


def test_a_sample_never_chooses_a_head_without_a_finite_value() -> None:
    values = np.array([[[INF, 0.3], [np.nan, INF]], [[0.1, 0.2], [0.4, INF]]])
    np.testing.assert_array_equal(best_heads(values, 3), [[[0, 1], [0, 0]], [[1, 1], [1, 0]]])


def test_the_per_sample_threshold_is_each_samples_own_elbow(scores) -> None:
    first = [[0.0, 0.1], [0.2, 0.3], [0.4, 1.0]]  # chord 0 .2 .4 .6 .8 1, gaps 0 .1 .2 .3 .4 0: tau .4
    second = [[1.0, 0.0], [0.0, 0.2], [0.2, 0.2]]  # sorted 0 0 .2 .2 .2 1: gaps 0 .2 .2 .4 .6 0: tau .2
    table = scores([first, second], np.ones((2, 3, 2)))
    config = criterion(threshold=Threshold.per_sample)
    values = rank_values(table, eligible_heads(table["sums"].mean(axis=0), config), config)
    expected = [[[INF, INF], [INF, INF], [1, 1]], [[INF, INF], [INF, 1], [1, 1]]]
    np.testing.assert_array_equal(values, expected)


def test_the_released_codes_index_bug_admits_by_the_index_of_the_head_at_the_elbow(scores) -> None:
    # Sorted: 0 .1 .2 .3 .4 1, elbow .4, which is L0H1: C0 admits the flat indices >= 1 (not >= its rank, 4).
    table = scores([[[1.0, 0.4], [0.2, 0.3], [0.0, 0.1]]], np.ones((1, 3, 2)))
    bug = ranked(table, criterion(threshold=Threshold.per_sample_index_bug, skip_layers=0))
    np.testing.assert_array_equal(bug, [[INF, 1], [1, 1], [1, 1]])
    right = ranked(table, criterion(threshold=Threshold.per_sample, skip_layers=0))
    np.testing.assert_array_equal(right, [[1, 1], [INF, INF], [INF, INF]])


@pytest.mark.parametrize(("tau", "first"), [(0.25, 3), (0.3, 3), (0.9, 0), (1.1, 6)])
def test_with_a_fixed_tau_the_index_is_that_of_the_lowest_sum_that_reaches_it(scores, tau: float, first: int) -> None:
    table = scores([[[1.0, 0.4], [0.2, 0.3], [0.0, 0.1]]], np.ones((1, 3, 2)))
    values = ranked(table, criterion(threshold=Threshold.per_sample_index_bug, skip_layers=0, tau=tau))
    np.testing.assert_array_equal(np.isfinite(values.ravel()), np.arange(6) >= first)


def test_a_sample_that_keeps_too_few_heads_takes_its_highest_sums_instead(scores) -> None:
    # Only L2H1 reaches .6 beyond layer 0, and its bottom row rules it out.
    table = scores(SUMS * 2, ENTROPY * 2, [[[0, 0], [0, 0], [0, 0.2]], [[0, 0], [0, 0], [0, 0]]])
    config = criterion(threshold=Threshold.per_sample, tau=0.6, max_bottom_row=0.05)
    admitted = eligible_heads(table["sums"].mean(axis=0), config)
    np.testing.assert_array_equal(rank_values(table, admitted, config)[0], np.full((3, 2), INF))
    one, two = (rank_values(table, admitted, dataclasses.replace(config, min_keep=n)) for n in (1, 2))
    np.testing.assert_array_equal(one[0], [[0.1, INF], [INF, INF], [INF, INF]])  # of any layer
    np.testing.assert_array_equal(one[1], [[INF, INF], [INF, INF], [INF, 0.9]])  # it has one
    np.testing.assert_array_equal(two[0], [[0.1, 0.2], [INF, INF], [INF, INF]])


def test_the_highest_sum_that_stands_in_may_have_no_component(scores) -> None:
    table = scores([[[0.9, 0.1]]], [[[INF, INF]]])
    values = rank_values(table, np.full((1, 2), True), criterion(skip_layers=0, min_keep=1))
    np.testing.assert_array_equal(np.isfinite(values[0]), [[True, False]])


def test_a_choice_without_code_behind_it_runs_as_no_other(scores) -> None:
    class Later(StrEnum):
        new = "new"

    admitted = np.full((3, 2), True)
    for options in ({"score": Later.new}, {"threshold": Later.new}):
        config = criterion()
        for name, value in options.items():
            object.__setattr__(config, name, value)  # past whatever checks the settings
        with pytest.raises((AssertionError, ConfigError), match="new"):
            rank_values(scores(SUMS, ENTROPY), admitted, config)


def test_a_fixed_tau_is_the_per_sample_threshold_too(scores) -> None:
    values = ranked(scores(SUMS, ENTROPY), criterion(threshold=Threshold.per_sample, tau=0.2))
    np.testing.assert_array_equal(values, [[INF, INF], [INF, 1.5], [2.0, 0.9]])


def test_the_bottom_row_filter_drops_a_head_in_the_samples_that_exceed_it(scores) -> None:
    bottom = [[[0, 0], [0.05, 0.0], [0.0, 0.0501]], [[0, 0], [0.2, 0.0], [0.0, 0.0]]]
    table = scores(SUMS * 2, ENTROPY * 2, bottom)
    config = criterion(score="entropy", max_bottom_row=0.05)
    values = rank_values(table, eligible_heads(table["sums"].mean(axis=0), config), config)
    np.testing.assert_array_equal(values[0], [[INF, INF], [0.5, 1.5], [2.0, INF]])
    np.testing.assert_array_equal(values[1], [[INF, INF], [INF, 1.5], [2.0, 0.9]])


def test_a_map_without_a_component_is_never_chosen_however_high_its_sum() -> None:
    sums = np.array([[[0.9, 0.5]]])
    entropy = np.array([[[np.inf, 1.0]]])
    scores = HeadScores(("a",), {"sums": sums, "entropy": entropy})
    criterion = CriterionConfig(score="s_img", skip_layers=0)
    chosen = best_heads(rank_values(scores, np.ones((1, 2), dtype=bool), criterion), 1)
    np.testing.assert_array_equal(chosen, [[[False, True]]])


def test_stored_entropies_are_found_by_all_that_they_depend_on() -> None:
    plain = CriterionConfig()
    assert plain.numbers_key() == ("mean", "area")  # as stores written earlier have it
    changes = ({}, {"empty_maps": EmptyMaps.zero}, {"precision": Precision.float32}, {"floor": Floor.relu_mean_eps},
               {"weighting": Weighting.mass})  # fmt: skip
    assert len({dataclasses.replace(plain, **change).numbers_key() for change in changes}) == len(changes)
    assert dataclasses.replace(plain, min_keep=3, candidates=5).numbers_key() == plain.numbers_key()
