"""From attention maps to the numbers that discovery ranks heads by."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from locheads.discovery.config import CriterionConfig
from locheads.discovery.criteria import numbers_of
from locheads.types import Attention, HeadScores


def score(attention: Attention, criterion: CriterionConfig) -> HeadScores:
    """Every number of every head that the criterion needs, for the expressions of one image: those that came with the
    maps of all heads, or worked out from them."""
    if attention.scores is not None and attention.scored_by == criterion.numbers_key():
        return attention.scores
    assert attention.sums is not None
    numbers = {"sums": attention.sums}  # from before the maps were packed into 16 bits
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


def mean_entropy(scores: HeadScores) -> Float[np.ndarray, "layer head"]:
    """Mean spatial entropy of every head in nats over the samples in which its map has a component; NaN without any."""
    finite = np.isfinite(scores["entropy"])
    total = np.where(finite, scores["entropy"], 0.0).sum(axis=0, dtype=np.float64)
    count = finite.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
