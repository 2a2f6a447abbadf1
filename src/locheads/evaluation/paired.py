"""How much one way differs from another on the same samples: the difference's interval, not the two intervals'."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from locheads.evaluation.intervals import _BATCH_CELLS, Interval, _sums_per_picture


def paired_difference(
    a_top: ArrayLike,
    a_bottom: ArrayLike,
    b_top: ArrayLike,
    b_bottom: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """sum(a_top) / sum(a_bottom) less the same of b, over n expressions answered both ways.

    A percentile bootstrap over pictures, which both ways share in every resample; see `ratio_interval`.
    """
    a, b = (_sums_per_picture(top, bottom, groups) for top, bottom in ((a_top, a_bottom), (b_top, b_bottom)))
    tops, bottoms = (np.stack([one, other]) for one, other in zip(a, b, strict=True))
    value, drawn = ratios(tops, bottoms), resampled_ratios(tops, bottoms, resamples, seed)
    low, high = ends(drawn[:, 0] - drawn[:, 1], confidence)
    return Interval(float(value[0] - value[1]), float(low), float(high))


def ratios(
    tops: Float[np.ndarray, "*way picture"], bottoms: Float[np.ndarray, "*way picture"]
) -> Float[np.ndarray, "*way"]:
    """Sum of tops over sum of bottoms; 0 where the bottoms sum to 0."""
    # Contiguous: numpy rounds a sum over strided memory differently, and a value is to be the same to the bit.
    top, bottom = (np.ascontiguousarray(values).sum(axis=-1) for values in (tops, bottoms))
    return np.divide(top, bottom, out=np.zeros(np.shape(top)), where=bottom > 0)


def resampled_ratios(
    tops: Float[np.ndarray, "way picture"], bottoms: Float[np.ndarray, "way picture"], resamples: int, seed: int
) -> Float[np.ndarray, "resample way"]:
    """The ratio of every way in every resample of the pictures; the same resamples for all, and those of
    `ratio_interval` with this seed."""
    pictures = tops.shape[1]
    rng, batch = np.random.default_rng(seed), max(1, _BATCH_CELLS // pictures)
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
