"""Bootstrap over pictures of many ways of answering the same expressions at once: every resample serves all of them."""

import numpy as np
from jaxtyping import Float

from locheads.evaluation.intervals import BATCH_CELLS, sum_ratio


def ratios(
    tops: Float[np.ndarray, "*way picture"], bottoms: Float[np.ndarray, "*way picture"]
) -> Float[np.ndarray, "*way"]:
    """Sum of tops over sum of bottoms; 0 where the bottoms sum to 0."""
    # Contiguous: numpy rounds a sum over strided memory differently, and a value is to be the same to the bit.
    return sum_ratio(np.ascontiguousarray(tops), np.ascontiguousarray(bottoms))


def resampled_ratios(
    tops: Float[np.ndarray, "way picture"], bottoms: Float[np.ndarray, "way picture"], resamples: int, seed: int
) -> Float[np.ndarray, "resample way"]:
    """The ratio of every way in every resample of the pictures; the same resamples for all, and those of
    `ratio_interval` with this seed."""
    pictures = tops.shape[1]
    rng, batch = np.random.default_rng(seed), max(1, BATCH_CELLS // pictures)
    found = []
    for start in range(0, resamples, batch):
        drawn = rng.integers(0, pictures, (min(batch, resamples - start), pictures))
        rows = np.arange(len(drawn))[:, None] * pictures
        counts = np.bincount((rows + drawn).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        top, bottom = counts @ tops.T, counts @ bottoms.T
        found.append(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))
    return np.concatenate(found)


def ends(drawn: Float[np.ndarray, "resample *way"], confidence: float) -> Float[np.ndarray, "2 *way"]:
    """(low, high) of the percentile interval."""
    tail = (1 - confidence) / 2
    return np.quantile(drawn, [tail, 1 - tail], axis=0)
