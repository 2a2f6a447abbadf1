"""From attention maps to the numbers that discovery ranks heads by."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from locheads.dependence.head_dependence import HeadDependence
from locheads.discovery.config import CriterionConfig
from locheads.discovery.criteria import numbers_of
from locheads.map_numbers import ENTROPY, spatial_entropies
from locheads.types import Attention, HeadScores


def score(attention: Attention, criterion: CriterionConfig) -> HeadScores:
    """Every number of every head that the criterion needs, for the expressions of one image: those that came with the
    maps of all heads, or worked out from them."""
    return score_each(attention, [criterion])[0]


def score_each(attention: Attention, criteria: Sequence[CriterionConfig]) -> list[HeadScores]:
    """`score` by each criterion; their entropies share the components of a map."""
    stored = None if attention.scores is None else attention.scored_by
    new = [criterion for criterion in criteria if criterion.numbers_key() != stored]
    flat = attention.maps.reshape(-1, *attention.maps.shape[-2:])
    ways = [{name: getattr(criterion, name) for name in ENTROPY.options} for criterion in new]
    found = (_numbers(attention, *pair) for pair in zip(new, spatial_entropies(flat, ways), strict=True))
    return [attention.scores if criterion.numbers_key() == stored else next(found) for criterion in criteria]  # type: ignore[misc]


def _numbers(attention: Attention, criterion: CriterionConfig, entropies: Float[np.ndarray, "n"]) -> HeadScores:
    assert attention.sums is not None
    sums = attention.sums  # from before the maps were packed into 16 bits
    numbers = {"sums": sums, ENTROPY.name: entropies.reshape(sums.shape)}
    for number in numbers_of(criterion.score):
        if number.name not in numbers:
            numbers[number.name] = number.of(attention.maps, criterion)
    return HeadScores(attention.sample_ids, numbers)


def score_all(attentions: Iterable[Attention], criterion: CriterionConfig) -> HeadScores:
    """Scores of many images, one after the other: only numbers of the heads stay in memory, no map."""
    return stack_scores([score(a, criterion) for a in attentions if a.heads is None or a.scores is not None])


def stack_scores(parts: Sequence[HeadScores]) -> HeadScores:
    """The scores of several images as one."""
    names = parts[0].numbers if parts else ()
    numbers = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return HeadScores(tuple(i for part in parts for i in part.sample_ids), numbers)


def with_dependence(scores: HeadScores, dependence: HeadDependence | None) -> HeadScores:
    """The scores with what is known of the heads' dependence on the words, for criteria that read it."""
    return scores if dependence is None else replace(scores, of_heads=dependence.arrays())


def mean_entropy(scores: HeadScores) -> Float[np.ndarray, "layer head"]:
    """Mean spatial entropy of every head in nats over the samples in which its map has a component; NaN without any."""
    finite = np.isfinite(scores["entropy"])
    total = np.where(finite, scores["entropy"], 0.0).sum(axis=0, dtype=np.float64)
    count = finite.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
