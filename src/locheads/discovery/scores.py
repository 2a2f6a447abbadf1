"""From attention maps to the numbers that discovery ranks heads by."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from locheads.discovery.config import CriterionConfig
from locheads.discovery.criteria import spatial_entropy
from locheads.types import Attention, CompactAttention, HeadScores


def score(attention: Attention, criterion: CriterionConfig) -> HeadScores:
    """Scores of every head for the expressions of one image."""
    maps = attention.maps
    samples, layers, heads, rows, cols = maps.shape
    options = {name: getattr(criterion, name) for name in ("floor", "weighting", "empty_maps", "precision")}
    entropy = spatial_entropy(maps.reshape(-1, rows, cols), **options).reshape(samples, layers, heads)
    return HeadScores(attention.sample_ids, attention.sums, entropy, maps[..., -1, :].max(axis=-1))


def score_all(attentions: Iterable[Attention | CompactAttention], criterion: CriterionConfig) -> HeadScores:
    """Scores of many images, one after the other: only three numbers per head stay in memory, no map."""
    found = (score(a, criterion) if isinstance(a, Attention) else a.scores for a in attentions)
    return stack_scores([part for part in found if part is not None])


def stack_scores(parts: Sequence[HeadScores]) -> HeadScores:
    """The scores of several images as one."""
    return HeadScores(
        sample_ids=tuple(i for part in parts for i in part.sample_ids),
        sums=np.concatenate([part.sums for part in parts]),
        entropy=np.concatenate([part.entropy for part in parts]),
        bottom_row=np.concatenate([part.bottom_row for part in parts]),
    )


def mean_entropy(scores: HeadScores) -> Float[np.ndarray, "layer head"]:
    """Mean spatial entropy of every head in nats over the samples in which its map has a component; NaN without any."""
    finite = np.isfinite(scores.entropy)
    total = np.where(finite, scores.entropy, 0.0).sum(axis=0, dtype=np.float64)
    count = finite.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
