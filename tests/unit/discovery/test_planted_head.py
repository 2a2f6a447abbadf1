"""Discovery finds a head planted in synthetic attention, and does not find it where the plant is missing."""

from dataclasses import replace

import numpy as np
import pytest

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover, greedy_heads, top_heads
from locheads.discovery.scores import score, score_all
from locheads.types import HeadIndex

PLANT = HeadIndex(2, 1)
ALL = [np.arange(40), np.arange(20)]


def test_the_planted_head_is_chosen_in_every_sample_and_ranks_first(attentions) -> None:
    criterion = CriterionConfig(candidates=2)
    found = discover(score_all(attentions(40, planted=True), criterion), ALL, criterion)
    assert top_heads(found, 1) == [PLANT]
    assert found.frequency_mean[2, 1] == 1.0
    others = np.delete(found.frequency_mean.ravel(), 2 * 4 + 1)
    assert others.max() < 0.6


def test_without_the_plant_no_head_stands_out(attentions) -> None:
    criterion = CriterionConfig(candidates=2)
    found = discover(score_all(attentions(40, planted=False), criterion), ALL, criterion)
    assert found.frequency_mean.max() < 0.75
    assert found.frequency_mean[2, 1] < 0.75


def test_only_heads_with_a_high_sum_outside_the_first_two_layers_are_eligible(attentions) -> None:
    criterion = CriterionConfig(candidates=2)
    found = discover(score_all(attentions(40, planted=True), criterion), ALL, criterion)
    expected = np.zeros((4, 4), dtype=bool)
    expected[[2, 2, 3, 3, 3], [1, 3, 0, 2, 3]] = True  # L1H0 has as high a sum, but lies in the first two layers
    np.testing.assert_array_equal(found.eligible, expected)
    assert found.tau == pytest.approx(0.5, abs=1e-6)


def test_a_planted_head_in_the_first_two_layers_is_ignored_unless_they_are_admitted(attentions) -> None:
    moved = []
    for attention in attentions(20, planted=True):
        maps = attention.maps.copy()
        maps[0, 1, 0], maps[0, 2, 1] = attention.maps[0, 2, 1], attention.maps[0, 1, 0]
        moved.append(replace(attention, maps=maps))
    criterion = CriterionConfig(candidates=1)
    trials = [np.arange(20)]
    default = discover(score_all(moved, criterion), trials, criterion)
    assert default.frequency_mean[1, 0] == 0.0
    admitted = replace(criterion, skip_layers=0)
    assert top_heads(discover(score_all(moved, admitted), trials, admitted), 1) == [HeadIndex(1, 0)]


def test_greedy_selection_takes_the_plant_first_in_every_sample(attentions) -> None:
    criterion = CriterionConfig()
    scores = score_all(attentions(12, planted=True), criterion)
    chosen = greedy_heads(scores, discover(scores, [np.arange(12)], criterion), 3, criterion)
    assert {sample_id: heads[0] for sample_id, heads in chosen.items()} == {f"s{i}": PLANT for i in range(12)}
    assert {len(set(heads)) for heads in chosen.values()} == {3}


def test_the_sum_alone_does_not_find_the_plant(attentions) -> None:
    criterion = CriterionConfig(score="s_img", candidates=1)
    found = discover(score_all(attentions(40, planted=True), criterion), ALL, criterion)
    assert found.frequency_mean[2, 1] == 0.0


def test_scores_hold_the_three_numbers_of_every_map(attentions) -> None:
    first, second = attentions(2, planted=True)
    scores = score_all([first, second], CriterionConfig())
    assert scores.sample_ids == ("s0", "s1")
    np.testing.assert_array_equal(scores["sums"][1], second.sums[0])
    assert scores["entropy"][0, 2, 1] == 0.0  # a block is one component
    assert scores["entropy"][0, 2, 0] > 1.0  # noise is many
    assert scores["bottom_row"][1, 3, 2] == max(second.maps[0, 3, 2, 11])
    single = score(second, CriterionConfig())
    np.testing.assert_array_equal(scores["entropy"][1:], single["entropy"])


def test_rows_of_scores_follow_the_positions_asked_for_repeats_included(attentions) -> None:
    scores = score_all(attentions(3, planted=True), CriterionConfig())
    picked = scores.rows(np.array([2, 0, 2]))
    assert picked.sample_ids == ("s2", "s0", "s2")
    np.testing.assert_array_equal(picked["entropy"][0], scores["entropy"][2])
    np.testing.assert_array_equal(picked["bottom_row"][1], scores["bottom_row"][0])
