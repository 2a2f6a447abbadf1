"""Does a set of heads follow the words? Judged by its fused map, without ground truth."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float

from locheads.dependence.head_dependence import head_dependence
from locheads.dependence.overlaps import PairTable

FOLLOWS, STILL = 0.25, 0.10
"""Peak gaps: a set follows where the low end of its interval is at least the first; it does not where the high end is
at most the second."""
MOVES = 0.4
"""Dependence from which most of the map moves with the peak."""
SAME_PLACE = 0.5
"""stays_other from which heads look at one place."""
FEW_IMAGES = 10
"""Fewer tell nothing."""


class Follows(StrEnum):
    """The verdict."""

    follow = "follow"
    peak_only = "peak only"
    same_place = "same place"
    elsewhere = "elsewhere"
    partly = "partly"
    unknown = "unknown"


SENTENCES = {
    Follows.follow: "These heads follow the words.",
    Follows.peak_only: "The peak of these heads follows the words, but most of their map stays where it is: a sink. "
    "Try grounding.contrast=others.",
    Follows.same_place: "These heads do not follow the words: they look at the same place whatever is asked.",
    Follows.elsewhere: "These heads do not follow the words: they move, but not with the object.",
    Follows.partly: "These heads follow the words only partly.",
    Follows.unknown: "Whether these heads follow the words is not known.",
}


@dataclass(frozen=True)
class WordVerdict:
    """A verdict with what it rests on; shares in [0, 1], NaN where there are no pairs."""

    follows: Follows
    gap: float
    """The peak gap: stays_same - stays_other."""
    low: float
    high: float
    """Ends of its 95 % interval over images."""
    dependence: float
    stays_same: float
    """Share of pairs about one object whose peaks are at the same place."""
    stays_other: float
    """The same of pairs about two objects."""
    n_images: int
    """With a pair of either kind."""
    n_same: int
    n_other: int

    @property
    def sentence(self) -> str:
        """What is judged, and the numbers in plain words."""
        if self.n_same == 0 or self.n_other == 0:
            kind = "two wordings for one object" if self.n_same == 0 else "two objects"
            return f"{SENTENCES[self.follows]} No image has expressions for {kind} whose maps can be compared."
        few = f" {self.n_images} images are too few to tell." if self.follows == Follows.unknown else ""
        return (
            f"{SENTENCES[self.follows]}{few} Asked in other words for the same object, their peak stays in "
            f"{self.stays_same:.0%} of {self.n_same} pairs; asked for another object of the image, in "
            f"{self.stays_other:.0%} of {self.n_other} (gap {self.gap:.2f} [{self.low:.2f}, {self.high:.2f}], "
            f"dependence {self.dependence:.2f}; {self.n_images} images)."
        )


def judge(table: PairTable, resamples: int, seed: int) -> WordVerdict:
    """From the pairs of fused maps (one head) whose attention was taken from the same token."""
    pairs = table.only(table.same_token)
    found = head_dependence(table)
    low, high = gap_ends(pairs, resamples, seed)
    n_images = len(np.intersect1d(pairs.image[pairs.same], pairs.image[~pairs.same]))
    gap, dependence, stays_other = float(found.gap), float(found.dependence), float(found.stays_other)
    return WordVerdict(
        _follows(low, high, dependence, stays_other) if n_images >= FEW_IMAGES else Follows.unknown,
        gap,
        low,
        high,
        dependence,
        float(found.stays_same),
        stays_other,
        n_images,
        int(pairs.same.sum()),
        int((~pairs.same).sum()),
    )


def _follows(low: float, high: float, dependence: float, stays_other: float) -> Follows:
    if low >= FOLLOWS:
        return Follows.follow if dependence >= MOVES else Follows.peak_only
    if high <= STILL:
        return Follows.same_place if stays_other >= SAME_PLACE else Follows.elsewhere
    return Follows.partly


def gap_ends(pairs: PairTable, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of the peak gap: percentiles of a bootstrap over images. NaN without pairs of either kind."""
    if pairs.same.all() or not pairs.same.any():
        return float("nan"), float("nan")
    images, image = np.unique(pairs.image, return_inverse=True)
    sums = np.stack([_sums(image, pairs.same == same, pairs.stays) for same in (True, False)])
    counts = np.random.default_rng(seed).multinomial(len(images), np.full(len(images), 1 / len(images)), resamples)
    drawn = np.einsum("ri,kni->rkn", counts, sums)  # [resample, same or other, stays or all]
    with np.errstate(invalid="ignore"):
        shares = drawn[..., 0] / drawn[..., 1]
    low, high = np.nanpercentile(shares[:, 0] - shares[:, 1], [2.5, 97.5])
    return float(low), float(high)


def _sums(image: np.ndarray, of_kind: np.ndarray, stays: np.ndarray) -> Float[np.ndarray, "2 image"]:
    """Of each image, pairs of a kind that stay, and all of that kind."""
    n = image.max() + 1
    return np.stack([np.bincount(image, of_kind & stays.reshape(len(image)), n), np.bincount(image, of_kind, n)])
