"""One sample's ranking of its heads, by the configured criterion."""

import numpy as np
from jaxtyping import Bool, Float

from locheads.discovery.choices import CriterionConfig, Score, Threshold
from locheads.discovery.criteria import elbow_threshold
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
    if criterion.score is not Score.s_img_entropy or criterion.threshold is not Threshold.mean:
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
    values = -scores.sums.astype(np.float64) if criterion.score is Score.s_img else scores.entropy
    # A map without a component says nothing: never chosen, whatever its sum.
    allowed = eligible & np.isfinite(scores.entropy)
    if criterion.score is Score.s_img_entropy and criterion.threshold is not Threshold.mean:
        allowed &= _reaches_own_elbow(scores.sums, criterion)
    if criterion.max_bottom_row is not None:
        allowed &= scores.bottom_row <= criterion.max_bottom_row
    return np.where(allowed, values, np.inf)


def best_heads(values: Float[np.ndarray, "sample layer head"], n: int) -> Bool[np.ndarray, "sample layer head"]:
    """The n lowest finite values of each sample; ties go to the lower (layer, head)."""
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1, kind="stable")[:, :n]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return (chosen & np.isfinite(flat)).reshape(values.shape)


def _reaches_own_elbow(
    sums: Float[np.ndarray, "sample layer head"], criterion: CriterionConfig
) -> Bool[np.ndarray, "sample layer head"]:
    """The released codes' thresholds. Both put all heads on the curve, whatever layers are skipped later."""
    flat = sums.reshape(len(sums), -1)
    reached = np.zeros(flat.shape, dtype=bool)
    for row, own in zip(reached, flat, strict=True):
        tau = criterion.tau if criterion.tau is not None else elbow_threshold(own, criterion.elbow)
        if criterion.threshold is Threshold.per_sample_index_bug:
            # C0 takes the elbow's rank on the sorted curve and compares head *indices* with it.
            row[:] = np.arange(len(own)) >= int((own < tau).sum())
        else:
            row[:] = own >= tau
    return reached.reshape(sums.shape)
