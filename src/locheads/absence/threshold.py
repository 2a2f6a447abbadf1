"""From which score on the answer is "none": rules on samples of which it is known whether what they name is there."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.absence.config import AbsenceConfig, AbsenceRule


@dataclass(frozen=True)
class Rates:
    """What every threshold that can be told apart gives, the lowest first; the last says "none" to nothing."""

    thresholds: Float[np.ndarray, "t"]
    n_acc: Float[np.ndarray, "t"]
    """Share of the absent samples whose score reaches it."""
    false_alarm: Float[np.ndarray, "t"]
    """Share of the targeted samples whose score reaches it: 1 - T-acc."""


def rates(scores: Float[np.ndarray, "n"], absent: Bool[np.ndarray, "n"]) -> Rates:
    """At every score that occurs, and above all of them."""
    levels = np.unique(scores)
    thresholds = np.append(levels, np.nextafter(levels[-1], np.inf))
    kinds = [np.sort(scores[kind]) for kind in (absent, ~absent)]
    # Counted before they are divided: 1 of 20 is 0.05, and 1 - 19 / 20 is more.
    shares = [(len(own) - np.searchsorted(own, thresholds)) / len(own) for own in kinds]
    return Rates(thresholds, *shares)


def threshold_of(scores: Float[np.ndarray, "n"], absent: Bool[np.ndarray, "n"], config: AbsenceConfig) -> float:
    """By `config.rule`; of several that are equally good the one that says "none" least. Both kinds of samples must be
    there."""
    found = rates(scores, absent)
    match config.rule:
        case AbsenceRule.equal_error:
            badness = np.abs(found.false_alarm - (1 - found.n_acc))
        case AbsenceRule.youden:
            badness = found.false_alarm - found.n_acc
        case AbsenceRule.false_alarm:
            badness = np.where(found.false_alarm <= config.false_alarm, -found.n_acc, np.inf)
        case _:
            assert_never(config.rule)
    best = np.flatnonzero(badness <= badness.min() + 1e-12)
    return float(found.thresholds[best[-1]])
