"""The table of criteria: what ranks the heads of one sample. A new criterion is one entry.

A user's own is a `Criterion` in a module of theirs, named by its dotted path: `criterion.score=my_module:own`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from locheads import dotted
from locheads.errors import ConfigError
from locheads.map_numbers import NUMBERS, Number
from locheads.types import HeadScores


def has_component(scores: HeadScores) -> Bool[np.ndarray, "sample layer head"]:
    """A map without a component says nothing: never chosen, whatever its sum."""
    return np.isfinite(scores["entropy"])


@dataclass(frozen=True)
class Criterion:
    """How a sample's heads are ranked by their numbers."""

    values: Callable[[HeadScores], Float[np.ndarray, "sample layer head"]]
    """What the heads are sorted by, the lowest first; one that is not finite is never chosen."""
    thresholded: bool = False
    """Whether a head must reach the threshold on the attention sum (criterion.threshold, criterion.elbow,
    criterion.tau)."""
    numbers: tuple[Number, ...] = ()
    """What `values` and `admits` read besides `NUMBERS`."""
    admits: Callable[[HeadScores], Bool[np.ndarray, "sample layer head"]] = has_component
    """Which heads of a sample may be chosen at all."""
    pooled: bool = False
    """Whether the heads are ranked by the mean of their values over all samples, not by how many samples choose
    them."""
    reads_dependence: bool = False
    """Whether it reads what `dependence` measures of the heads (`HeadDependence`)."""

    def __post_init__(self) -> None:
        names = [number.name for number in (*NUMBERS, *self.numbers)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"A criterion reads two numbers with the name {twice[0]}: give its own another name.")


def _entropy(scores: HeadScores) -> Float[np.ndarray, "sample layer head"]:
    return scores["entropy"].astype(np.float64)


def map_entropy(maps: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "n"]:
    """Shannon's entropy of each map normalised to sum 1, in nats; NaN, never chosen, for one without attention."""
    from scipy.special import entr  # only here: the settings' classes load this file

    totals = maps.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
    shares = np.divide(maps, totals, out=np.full(maps.shape, np.nan), where=totals > 0)
    return entr(shares).sum(axis=(1, 2))


def _dependent(scores: HeadScores) -> Bool[np.ndarray, "sample layer head"]:
    """A head that does not depend on the words is never chosen; nor is one of which that is not known."""
    return scores["dependence"] > 0


def _words(scores: HeadScores) -> Float[np.ndarray, "sample layer head"]:
    return -scores["sums"].astype(np.float64) * np.nan_to_num(scores["dependence"])


CRITERIA = {
    # Highest attention sum.
    "s_img": Criterion(lambda scores: -scores["sums"].astype(np.float64)),
    # Lowest spatial entropy.
    "entropy": Criterion(_entropy),
    # Lowest spatial entropy among the heads whose attention sum reaches the threshold (the paper).
    "s_img_entropy": Criterion(_entropy, thresholded=True),
    # Lowest entropy of the normalised map, whatever its components, among the same heads.
    "map_entropy": Criterion(lambda scores: scores["map_entropy"], True, (Number("map_entropy", map_entropy),)),
    # Highest mean attention sum times the head's dependence on the words.
    "words": Criterion(_words, admits=_dependent, pooled=True, reads_dependence=True),
    # Highest dependence on the words.
    "dependence": Criterion(lambda s: -s["dependence"], admits=_dependent, pooled=True, reads_dependence=True),
}
"""The values of criterion.score."""


def find_criterion(score: str) -> Criterion:
    """The criterion of this name, or the user's own at this dotted path. Raises ConfigError where there is none."""
    if score in CRITERIA:
        return CRITERIA[score]
    if not dotted.is_dotted(score):
        names = ", ".join(CRITERIA)
        raise ConfigError(
            f"There is no criterion.score={score}: use one of {names}, or package.module:Name of your own."
        )
    own = dotted.load(score, Criterion, "criterion.score")
    if isinstance(own, type):
        raise ConfigError(f"criterion.score={score} is a class: name a Criterion(...) that was made of it.")
    return own


def numbers_of(score: str) -> tuple[Number, ...]:
    """Every number of a head that the criterion needs."""
    return NUMBERS + find_criterion(score).numbers


def source_of(score: str) -> str:
    """Digest of the file that holds the criterion, so that an edited one finds no numbers of the former one."""
    return dotted.source_digests(score).get(score) or dotted.file_digest(Path(__file__))
