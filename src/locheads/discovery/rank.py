"""One sample's ranking of its heads, by the configured criterion."""

from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.discovery.config import CriterionConfig, Score, Threshold
from locheads.discovery.criteria import elbow_index, elbow_threshold
from locheads.errors import DiscoveryError
from locheads.types import HeadScores


def tau_of(mean_sums: Float[np.ndarray, "layer head"], criterion: CriterionConfig) -> float | None:
    """The threshold on the mean attention sums: the fixed one if the configuration gives it, else their elbow.

    The curve holds the heads of the admitted layers only: the skipped ones are no candidates. None for a
    criterion that has no threshold on means.

    Raises:
        DiscoveryError: the criterion skips all layers.
    """
    layers = len(mean_sums)
    if criterion.skip_layers >= layers:
        raise DiscoveryError(
            f"criterion.skip_layers={criterion.skip_layers} leaves none of the model's {layers} layers: lower it."
        )
    if not _on_means(criterion):
        return None
    if criterion.tau is not None:
        return criterion.tau
    return elbow_threshold(mean_sums[criterion.skip_layers :], criterion.elbow)


def eligible_heads(
    mean_sums: Float[np.ndarray, "layer head"], criterion: CriterionConfig
) -> Bool[np.ndarray, "layer head"]:
    """Heads that the criterion admits for every sample. Per-sample thresholds come on top, in `rank_values`."""
    admitted = np.zeros(mean_sums.shape, dtype=bool)
    admitted[criterion.skip_layers :] = True
    tau = tau_of(mean_sums, criterion)
    return admitted if tau is None else admitted & (mean_sums >= tau)


def rank_values(
    scores: HeadScores, eligible: Bool[np.ndarray, "layer head"], criterion: CriterionConfig
) -> Float[np.ndarray, "sample layer head"]:
    """What a sample's heads are sorted by, ascending; inf for a head that the sample must not choose."""
    reached = _reached(scores.sums, criterion)
    clear = np.full(reached.shape, True) if (most := criterion.max_bottom_row) is None else scores.bottom_row <= most
    values = _values(scores, criterion)
    # A map without a component says nothing: never chosen, whatever its sum.
    kept = np.where(eligible & reached & clear & np.isfinite(scores.entropy), values, np.inf)
    if criterion.min_keep == 0:
        return kept
    few = np.isfinite(kept).sum(axis=(1, 2)) < criterion.min_keep
    # As released code C1: of any layer, and the bottom row is looked at only above the threshold.
    highest = best_heads(np.where(clear | ~reached, -scores.sums.astype(np.float64), np.inf), criterion.min_keep)
    instead = np.where(highest, np.minimum(values, np.finfo(np.float64).max), np.inf)
    return np.where(few[:, None, None], instead, kept)


def best_heads(values: Float[np.ndarray, "sample layer head"], n: int) -> Bool[np.ndarray, "sample layer head"]:
    """The n lowest finite values of each sample; ties go to the lower (layer, head)."""
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1, kind="stable")[:, :n]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return (chosen & np.isfinite(flat)).reshape(values.shape)


def _values(scores: HeadScores, criterion: CriterionConfig) -> Float[np.ndarray, "sample layer head"]:
    match criterion.score:
        case Score.s_img:
            return -scores.sums.astype(np.float64)
        case Score.entropy | Score.s_img_entropy:
            return scores.entropy.astype(np.float64)
        case _:
            assert_never(criterion.score)


def _on_means(criterion: CriterionConfig) -> bool:
    """Whether the threshold is one on the mean sums, the same for all samples."""
    match criterion.score:
        case Score.s_img | Score.entropy:
            return False
        case Score.s_img_entropy:
            return criterion.threshold == Threshold.mean
        case _:
            assert_never(criterion.score)


def _reached(
    sums: Float[np.ndarray, "sample layer head"], criterion: CriterionConfig
) -> Bool[np.ndarray, "sample layer head"]:
    """The heads that reach their own sample's threshold; all where there is none.

    The released codes' thresholds: both put all heads on the curve, whatever layers are skipped later.
    """
    everyone = np.full(sums.shape, True)
    if criterion.score != Score.s_img_entropy:
        return everyone
    flat = sums.reshape(len(sums), -1)
    match criterion.threshold:
        case Threshold.mean:
            return everyone
        case Threshold.per_sample:
            reached = [own >= _own_tau(own, criterion) for own in flat]
        case Threshold.per_sample_index_bug:
            reached = [np.arange(len(own)) >= _own_index(own, criterion) for own in flat]
        case _:
            assert_never(criterion.threshold)
    return np.array(reached, dtype=bool).reshape(sums.shape)


def _own_tau(own: Float[np.ndarray, "head"], criterion: CriterionConfig) -> float:
    return elbow_threshold(own, criterion.elbow) if criterion.tau is None else criterion.tau


def _own_index(own: Float[np.ndarray, "head"], criterion: CriterionConfig) -> int:
    """C0's threshold: the flat index (layer x heads + head) of the head at the elbow; with a fixed tau, of the head
    with the lowest sum that reaches it."""
    if criterion.tau is None:
        return elbow_index(own, criterion.elbow)
    reaching = np.where(own >= criterion.tau, own, np.inf)
    return int(reaching.argmin()) if np.isfinite(reaching).any() else len(own)
