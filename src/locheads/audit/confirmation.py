"""A split of the images into those on which readings are picked and those that confirm them."""

import numpy as np
from jaxtyping import Bool, Float

from locheads.evaluation.intervals import sum_ratio

SPLITS = 200
"""Random halves by which it is told how often the same reading is picked again."""


def confirming(n_images: int, share: float, seed: int) -> Bool[np.ndarray, "image"]:
    """The images that have no say in which reading is picked."""
    order = np.random.default_rng([seed, 1]).permutation(n_images)
    return order < round(share * n_images)


def picked_again(
    tops: Float[np.ndarray, "reading image"],
    bottoms: Float[np.ndarray, "reading image"],
    seed: int,
    target: float | None = None,
    higher_is_better: bool = True,
) -> float:
    """The share of random halves of the images on which the best reading (or the closest to `target`) is the one that
    all images name. Of readings that are equal on all images any will do; on a half the first of equal ones is taken.
    """
    rng = np.random.default_rng([seed, 2])
    n = tops.shape[1]
    halves = np.stack([rng.permutation(n) < n // 2 for _ in range(SPLITS)]).astype(np.float64)
    above, below = halves @ tops.T, halves @ bottoms.T
    on_half = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    sign = 1 if higher_is_better else -1
    worse = (lambda v: -sign * v) if target is None else (lambda v: np.abs(v - target))
    on_all = worse(sum_ratio(tops, bottoms))
    return float((on_all[worse(on_half).argmin(axis=1)] == on_all.min()).mean())
