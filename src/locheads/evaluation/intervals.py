"""Confidence intervals that resample pictures, because the expressions of one picture are not independent."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

BATCH_CELLS = 1_000_000
"""Resampled values held at once, per array: some 8 MB an array, however large the data set."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """sum(numerators) / sum(denominators) over n expressions, with a percentile bootstrap over pictures.

    `groups` names each expression's picture (numbers or text). A mean is the ratio with denominators of 1
    (Acc@0.5: hits / 1, mIoU: IoU / 1; a baseline of random draws passes its mean hits per expression); cIoU
    is intersections / unions. Deterministic in `seed`. With fewer than two pictures nothing is known of the
    spread: low = high = value. 0 where the denominators sum to 0.

    Source: cluster bootstrap (Davison & Hinkley 1997, 3.8), resampled by `scipy.stats.bootstrap`.
    """
    per_picture = sums_per_picture(numerators, denominators, groups)
    value = float(sum_ratio(*per_picture))
    pictures = len(per_picture[0])
    if pictures < 2:
        return Interval(value, value, value)
    result = bootstrap(
        per_picture,
        sum_ratio,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_CELLS // pictures),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(value, float(low), float(high))


def sums_per_picture(
    numerators: ArrayLike, denominators: ArrayLike, groups: ArrayLike
) -> tuple[Float[np.ndarray, "picture"], Float[np.ndarray, "picture"]]:
    """Sums first: the statistic needs no more of a picture, and resampling them is exact and cheap."""
    _, picture = np.unique(np.asarray(groups), return_inverse=True)
    top, bottom = (
        np.bincount(picture, weights=np.asarray(values, dtype=np.float64)) for values in (numerators, denominators)
    )
    return top, bottom


def sum_ratio(
    numerators: Float[np.ndarray, "*batch picture"],
    denominators: Float[np.ndarray, "*batch picture"],
    axis: int = -1,
) -> Float[np.ndarray, "*batch"]:
    """sum(numerators) / sum(denominators); 0 where the denominators sum to 0."""
    tops, bottoms = np.sum(numerators, axis=axis), np.sum(denominators, axis=axis)
    return np.divide(tops, bottoms, out=np.zeros(np.shape(tops)), where=bottoms > 0)
