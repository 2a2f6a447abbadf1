"""One sample's ranking of its heads: the criterion, the thresholds on the attention sum, and the elbow."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.discovery.config import CriterionConfig, ElbowRule, Threshold
from locheads.discovery.criteria import find_criterion
from locheads.errors import DiscoveryError, chosen
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
    if not find_criterion(criterion.score).thresholded or criterion.threshold != Threshold.mean:
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
    """What a sample's heads are sorted by, ascending; inf for a head that the sample must not choose.

    Raises:
        DiscoveryError: a criterion of the user's that does not give one value per sample and head.
    """
    ranked_by, sums = find_criterion(criterion.score), scores["sums"]
    values, admitted = np.asarray(ranked_by.values(scores), np.float64), np.asarray(ranked_by.admits(scores), bool)
    for found in (values, admitted):
        if found.shape != sums.shape:
            raise DiscoveryError(
                f"criterion.score={criterion.score} gives values of the shape {found.shape} for {sums.shape} (sample, "
                "layer, head): it must give one per sample and head."
            )
    reached = _reached(sums, criterion) if ranked_by.thresholded else np.full(sums.shape, True)
    clear = np.full(sums.shape, True) if (most := criterion.max_bottom_row) is None else scores["bottom_row"] <= most
    kept = np.where(eligible & reached & clear & admitted & _depends(scores, criterion), values, np.inf)
    if criterion.min_keep == 0:
        return kept
    few = np.isfinite(kept).sum(axis=(1, 2)) < criterion.min_keep
    # As released code C1: of any layer, and the bottom row is looked at only above the threshold.
    highest = best_heads(np.where(clear | ~reached, -sums.astype(np.float64), np.inf), criterion.min_keep)
    instead = np.where(highest, np.minimum(values, np.finfo(np.float64).max), np.inf)
    return np.where(few[:, None, None], instead, kept)


def _depends(scores: HeadScores, criterion: CriterionConfig) -> Bool[np.ndarray, "sample layer head"]:
    """The heads whose dependence on the words reaches criterion.min_dependence; all where that is not set."""
    if criterion.min_dependence is None:
        return np.full(scores["sums"].shape, True)
    lex = scores["lex"]
    return (scores["dependence"] >= criterion.min_dependence) & ((lex > 0) | np.isnan(lex))


def best_heads(values: Float[np.ndarray, "sample layer head"], n: int) -> Bool[np.ndarray, "sample layer head"]:
    """The n lowest finite values of each sample; ties go to the lower (layer, head)."""
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1, kind="stable")[:, :n]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return (chosen & np.isfinite(flat)).reshape(values.shape)


def elbow_threshold(values: Float[np.ndarray, "*n"] | Sequence[float], rule: str = "chord") -> float:
    """tau, the value at the elbow of `values` sorted ascending (the paper's "maximum curvature").

    With "chord", a curve without an elbow (constant, or a straight line) gives its smallest value, which admits
    everything; of several farthest points the first counts.

    Raises:
        DiscoveryError: no values, values that are not finite, or a curve in which `kneed` finds no knee.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    return float(flat[elbow_index(flat, rule)])


def elbow_index(values: Float[np.ndarray, "*n"] | Sequence[float], rule: str = "chord") -> int:
    """Where, in the order given (flat), the value stands that `elbow_threshold` returns. Raises as that does."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    if len(flat) == 0 or not np.isfinite(flat).all():
        raise DiscoveryError("The elbow needs at least one attention sum and only finite ones.")
    order, find = np.argsort(flat, kind="stable"), _ELBOWS[chosen(ElbowRule, rule)]
    return int(order[find(flat[order])])


def _reached(
    sums: Float[np.ndarray, "sample layer head"], criterion: CriterionConfig
) -> Bool[np.ndarray, "sample layer head"]:
    """The heads that reach their own sample's threshold; all where the threshold is one on the means.

    The released codes' thresholds: both put all heads on the curve, whatever layers are skipped later.
    """
    flat = sums.reshape(len(sums), -1)
    match criterion.threshold:
        case Threshold.mean:
            return np.full(sums.shape, True)
        case Threshold.per_sample:
            tau = criterion.tau
            reached = [own >= (elbow_threshold(own, criterion.elbow) if tau is None else tau) for own in flat]
        case Threshold.per_sample_index_bug:
            reached = [np.arange(len(own)) >= _own_index(own, criterion) for own in flat]
        case _:
            assert_never(criterion.threshold)
    return np.array(reached, dtype=bool).reshape(sums.shape)


def _own_index(own: Float[np.ndarray, "head"], criterion: CriterionConfig) -> int:
    """C0's threshold: the flat index (layer x heads + head) of the head at the elbow; with a fixed tau, of the head
    with the lowest sum that reaches it."""
    if criterion.tau is None:
        return elbow_index(own, criterion.elbow)
    reaching = np.where(own >= criterion.tau, own, np.inf)
    return int(reaching.argmin()) if np.isfinite(reaching).any() else len(own)


def _farthest_from_chord(curve: Float[np.ndarray, "n"]) -> int:
    # Distance to a fixed line is proportional to the vertical gap, so no scaling of the axes matters.
    gap = np.abs(curve - np.linspace(curve[0], curve[-1], len(curve)))
    if gap.max() <= 1e-12 * max(1.0, abs(curve[-1])):
        return 0
    return int(gap.argmax())


def _kneed(curve: Float[np.ndarray, "n"]) -> int:
    from kneed import KneeLocator

    knee = KneeLocator(np.arange(len(curve)), curve, curve="convex", direction="increasing").knee
    if knee is None:
        raise DiscoveryError(
            "kneed finds no knee in the curve of attention sums: use criterion.elbow=chord or set criterion.tau."
        )
    return int(knee)


_ELBOWS = {ElbowRule.chord: _farthest_from_chord, ElbowRule.kneed: _kneed}
