"""How much speaks for "it is not there", from the chosen heads' maps alone: no truth, no second look at the image.

Every score lies in [0, 1], and 1 is what a map gives that tells nothing: flat, without weight, at odds with the other
heads, or the same whatever is asked. The first five read an expression's own maps, the others those of other questions
about the image, too.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from locheads.absence.config import AbsenceScore
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import contrast
from locheads.grounding.fuse import normalise, smooth, without_sinks

Maps = Float[np.ndarray, "n head row col"]
PerSample = Float[np.ndarray, "n"]


def peak(fused: Float[np.ndarray, "n row col"]) -> PerSample:
    """mean / max; 1 for a map of zeros."""
    return _over(fused.mean(axis=(1, 2)), fused.max(axis=(1, 2)), 1.0)


def entropy(fused: Float[np.ndarray, "n row col"]) -> PerSample:
    """-sum P ln P / ln(cells), P the map over its sum; 1 for a map of zeros."""
    p = distributions(fused).reshape(len(fused), -1)
    nats = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(p.any(axis=1), nats / np.log(max(p.shape[1], 2)), 1.0)


def mass(maps: Maps) -> PerSample:
    """1 - the mean over the heads of the maps' sums."""
    return 1 - maps.sum(axis=(2, 3), dtype=np.float64).mean(axis=1)


def agreement(smoothed: Maps) -> PerSample:
    """1 - the mean over pairs of heads of sum min(P, P'), each map over its sum."""
    p = distributions(smoothed)
    shared = [np.minimum(p[:, a], p[:, b]).sum(axis=(1, 2)) for a, b in _pairs(smoothed)]
    return 1 - np.mean(shared, axis=0)


def scatter(smoothed: Maps) -> PerSample:
    """The mean over pairs of heads of the distance between the maps' strongest cells, over the map's diagonal."""
    rows, cols = smoothed.shape[2:]
    places = np.divmod(smoothed.reshape(*smoothed.shape[:2], -1).argmax(axis=2), cols)
    away = [np.hypot(*(at[:, a] - at[:, b] for at in places)) for a, b in _pairs(smoothed)]
    return np.mean(away, axis=0) / max(np.hypot(rows - 1, cols - 1), 1)


def own_scores(maps: Maps, smoothed: Maps, fused: Float[np.ndarray, "n row col"]) -> dict[AbsenceScore, PerSample]:
    """Those that read an expression's own maps; with one head there are no pairs to agree.

    `maps`: of the chosen heads as the model gave them; `smoothed` and `fused`: what the run makes of them.
    """
    single = {AbsenceScore.peak: peak(fused), AbsenceScore.entropy: entropy(fused), AbsenceScore.mass: mass(maps)}
    if maps.shape[1] < 2:
        return single
    return single | {AbsenceScore.agreement: agreement(smoothed), AbsenceScore.scatter: scatter(smoothed)}


def scores_of_one(maps: Float[np.ndarray, "head row col"], config: GroundingConfig) -> dict[str, float]:
    """`own_scores` of one expression."""
    stack = maps[None]
    smoothed = smooth(normalise(without_sinks(stack, config), config), config)
    return {name.value: float(value[0]) for name, value in own_scores(stack, smoothed, smoothed.sum(axis=1)).items()}


def shared(
    fused: Float[np.ndarray, "n row col"],
    references: Float[np.ndarray, "m row col"],
    against: Bool[np.ndarray, "n m"],
) -> PerSample:
    """The share of each map's weight that contrast with its references takes away: 1 - sum ReLU(map - mean of the
    references) / sum. 0 without references, as if it were there. `against[i, j]`: whether j is a reference of i."""
    values = np.asarray(fused, np.float64)
    left = contrast(values, np.asarray(references, np.float64), against)
    return 1 - _over(left.sum(axis=(1, 2)), values.sum(axis=(1, 2)), 0.0)


def other_refs(ref_ids: Sequence[str]) -> Bool[np.ndarray, "n n"]:
    """Which samples of an image belong to another ref. Where the objects are, and whether they are, is not used."""
    ids = np.array(ref_ids, dtype=object)
    return (ids[:, None] != ids[None, :]).astype(bool)


def distributions(maps: Float[np.ndarray, "*n row col"]) -> Float[np.ndarray, "*n row col"]:
    """Every map over its sum; zeros stay zeros."""
    values = np.asarray(maps, dtype=np.float64)
    return _over(values, values.sum(axis=(-2, -1), keepdims=True), 0.0)


def _pairs(maps: Maps) -> list[tuple[int, int]]:
    return list(combinations(range(maps.shape[1]), 2))


def _over(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below > 0)
