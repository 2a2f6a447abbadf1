"""Intervals of many ways of answering that hold all at once: whoever looks at hundreds finds large ones by chance."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Real
from scipy.special import ndtr

from locheads.evaluation.intervals import influences, sum_ratio

DRAWS = 1000
"""Of the bootstrap of the maximum; they tell the quantile to within some 0.05 standard errors."""
BATCH_CELLS = 4_000_000
"""Numbers that the draws hold at once."""
_Sums = tuple[Real[np.ndarray, "#way image"], Real[np.ndarray, "#way image"]]


def joint_confidence(a: _Sums, b: _Sums, confidence: float = 0.95, seed: int = 0, draws: int = DRAWS) -> float:
    """The confidence that the interval of each difference b - a must have so that all hold at once with `confidence`:
    `difference_ends(a, b, joint_confidence(a, b))` are max-type intervals.

    Bootstrap of the maximum by Gaussian multipliers over images (Chernozhukov, Chetverikov & Kato 2013), of the
    largest absolute difference in units of its standard error. Ways that go up and down together cost little: of two
    that are the same the second costs nothing. A difference without any spread takes no part.

    a, b: ratios on the same images, each as (tops, bottoms); way by way, or one `a` for all.
    """
    parts = influences(*b, sum_ratio(*b)) - influences(*a, sum_ratio(*a))
    norms = np.sqrt((parts**2).sum(axis=1))
    unit = parts[norms > 0] / norms[norms > 0, None]
    if len(unit) == 0:
        return confidence
    largest = np.concatenate([*_largest(unit, seed, draws)])
    return max(confidence, float(2 * ndtr(np.quantile(largest, confidence)) - 1))


def _largest(unit: Float[np.ndarray, "way image"], seed: int, draws: int) -> Iterator[Float32[np.ndarray, "draw"]]:
    """Per draw the largest absolute sum of any way, part by part of the draws."""
    rng, batch = np.random.default_rng(seed), max(1, BATCH_CELLS // max(unit.shape))
    for start in range(0, draws, batch):
        drawn = rng.standard_normal((min(batch, draws - start), unit.shape[1]), dtype=np.float32)
        yield np.abs(drawn @ unit.T.astype(np.float32)).max(axis=1)
