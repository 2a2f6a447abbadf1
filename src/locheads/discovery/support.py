"""How many samples are enough: how often the same heads come first where the images are drawn anew."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import added_by_samples
from locheads.records.heads_file import SupportRecord
from locheads.types import HeadScores

FIRST_SIZE = 50
"""Samples of the first point of the curve, and of a trial at the first look of discovery.until=stable; then it
doubles."""
RESAMPLES = 500
"""They tell a share of 95 % to within 2 points."""
BATCH_CELLS = 4_000_000
"""Numbers that the resamples hold at once."""


def doublings(most: int) -> list[int]:
    """50, 100, 200, ... below `most`, and `most` itself."""
    sizes = [FIRST_SIZE]
    while 2 * sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    return [*(size for size in sizes if size < most), most]


def needed_share(confidence: float, looks: int) -> float:
    """The share with which a look may stop, so that all looks together stop too early no more often than
    1 - `confidence` (Bonferroni: whoever looks often finds by chance what suits)."""
    return 1 - (1 - confidence) / looks


def support(
    scores: HeadScores,
    trials: Sequence[np.ndarray],
    criterion: CriterionConfig,
    images: Int[np.ndarray, "sample"],
    k: int,
    seed: int,
    confidence: float = 0.95,
) -> SupportRecord:
    """Of the k heads that `discover` finds in these trials (arguments as there), by a bootstrap over images (Hall &
    Miller 2009: how far to trust a ranking).

    An image counts with all that its samples add to the heads' ranking in all trials; the thresholds on the attention
    sum are taken as they are, as in the frequencies' intervals.
    """
    added = _by_image(scores, trials, criterion, images)
    n = len(np.unique(np.concatenate(trials)))
    rng = np.random.default_rng([seed, 3])
    curve = tuple((size, share_again(added, size / n, k, rng)) for size in doublings(n))
    return SupportRecord(confidence=confidence, resamples=RESAMPLES, curve=curve)


def share_again(
    added: Float[np.ndarray, "image head"], part: float, k: int, rng: np.random.Generator, resamples: int = RESAMPLES
) -> float:
    """The share of resamples of the images, drawn with replacement, in which the k heads with the highest sums are
    those of all images. Ties go to the first head; a head without votes does not come again. 0 for a single image,
    which tells nothing of others.

    `part`: how many images a resample has, as a share of all. n of N samples that are drawn *without* replacement vary
    as N n / (N - n) that are drawn with it: half of a record agrees with the whole as often as a resample of its size.
    """
    n_images = len(added)
    if n_images < 2:
        return 0.0
    top = _first(added.sum(axis=0)[None], k)[0]
    again, size = 0, max(1, round(part * n_images))
    batch = max(1, BATCH_CELLS // max(n_images, added.shape[1]))
    for start in range(0, resamples, batch):
        sums = _resampled(n_images, size, min(batch, resamples - start), rng) @ added
        again += int(((_first(sums, k) == top).all(axis=1) & (sums[:, top] > 0).all(axis=1)).sum())
    return again / resamples


def _resampled(n_images: int, size: int, n: int, rng: np.random.Generator) -> Float[np.ndarray, "draw image"]:
    """How often each image is in each of n draws of `size` images."""
    places = rng.integers(0, n_images, (n, size)) + n_images * np.arange(n)[:, None]
    return np.bincount(places.ravel(), minlength=n * n_images).reshape(n, n_images).astype(np.float64)


def _first(sums: Float[np.ndarray, "draw head"], k: int) -> Int[np.ndarray, "draw k"]:
    """The places of the k highest, ascending."""
    return np.sort(np.argsort(-sums, axis=1, kind="stable")[:, :k], axis=1)


def _by_image(
    scores: HeadScores, trials: Sequence[np.ndarray], criterion: CriterionConfig, images: Int[np.ndarray, "sample"]
) -> Float[np.ndarray, "image head"]:
    """What each image adds to the ranking, of the heads that any sample adds to. A trial that lost samples weighs as
    much as the others."""
    _, image = np.unique(images, return_inverse=True)
    result = np.zeros((image.max(initial=0) + 1, scores["sums"][0].size))
    for trial, added in zip(trials, added_by_samples(scores, trials, criterion), strict=True):
        np.add.at(result, image[trial], added.reshape(len(trial), -1) * (len(trials[0]) / len(trial)))
    used = np.isin(np.arange(len(result)), image[np.concatenate(trials)])
    return result[np.ix_(used, result.any(axis=0))]
