"""Criteria that read how heads depend on the words: words, dependence, and the filter of any other."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover, greedy_heads, top_heads
from locheads.errors import DiscoveryError
from locheads.types import HeadIndex, HeadScores

SUMS = [[[0.9, 0.5, 0.4, 0.1]], [[0.7, 0.7, 0.2, 0.1]]]
"""Of two samples, a layer of four heads: the first is a sink, which looks most at the image."""
DEPENDENCE = [[0.0, 0.5, 0.9, -0.2]]
ALL = [np.array([0, 1])]


@pytest.fixture
def known(scores: Callable[..., HeadScores]) -> HeadScores:
    of_heads = {"dependence": np.array(DEPENDENCE), "lex": np.array([[0.0, 0.4, np.nan, 0.1]])}
    return replace(scores(SUMS), of_heads=of_heads)


def config(**settings: object) -> CriterionConfig:
    return CriterionConfig(**{"skip_layers": 0, "candidates": 2, **settings})  # type: ignore[arg-type]


def heads(found: list[HeadIndex]) -> list[int]:
    return [head.head for head in found]


def test_words_ranks_by_the_mean_sum_times_the_dependence(known: HeadScores) -> None:
    found = discover(known, ALL, config(score="words"))
    assert found.score is not None
    np.testing.assert_allclose(found.score, [[0, 0.6 * 0.5, 0.3 * 0.9, 0]], atol=1e-12)
    assert heads(found.ranking()) == [1, 2], "a sink, and a head below 0, are never chosen"
    assert heads(top_heads(discover(known, ALL, config(score="s_img")), 1)) == [0], "which the sum alone prefers"


def test_dependence_ranks_by_itself(known: HeadScores) -> None:
    found = discover(known, ALL, config(score="dependence"))
    assert heads(found.ranking()) == [2, 1]
    assert found.score is not None and found.score[0, 2] == pytest.approx(0.9)


def test_a_sample_ranks_its_own_sums_times_the_dependence(known: HeadScores) -> None:
    criterion = config(score="words")
    own = greedy_heads(known, discover(known, ALL, criterion), 1, criterion)
    # 0.5 x 0.5 < 0.4 x 0.9, and 0.7 x 0.5 > 0.2 x 0.9.
    assert {name: heads(chosen) for name, chosen in own.items()} == {"s0": [2], "s1": [1]}


@pytest.mark.parametrize(
    ("least", "expected"),
    [(None, {0, 1, 2, 3}), (0.0, {1, 2}), (0.5, {1, 2}), (0.6, {2})],  # the sink's lex is not above 0
)
def test_any_criterion_can_ask_for_dependence(known: HeadScores, least: float | None, expected: set[int]) -> None:
    found = discover(known, ALL, config(score="s_img", min_dependence=least, candidates=4))
    assert set(heads(found.ranking())) == expected


def test_trials_are_ranked_by_their_own_sums(known: HeadScores) -> None:
    found = discover(known, [np.array([0]), np.array([1])], config(score="words"))
    assert [heads(ranking)[0] for ranking in found.ranking_per_trial()] == [2, 1]


@pytest.mark.parametrize("settings", [{"score": "words"}, {"score": "entropy", "min_dependence": 0.5}])
@pytest.mark.parametrize("of_heads", [{}, {"dependence": np.full((1, 4), np.nan), "lex": np.full((1, 4), np.nan)}])
def test_without_pairs_the_sentence_says_what_is_missing(
    scores: Callable[..., HeadScores], settings: dict[str, object], of_heads: dict[str, np.ndarray]
) -> None:
    with pytest.raises(
        DiscoveryError, match=r"how heads depend on the words, and no image has expressions for several"
    ):
        discover(replace(scores(SUMS), of_heads=of_heads), ALL, config(**settings))
