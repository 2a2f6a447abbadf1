"""Do fewer samples lead to the same heads? From the scores of one discovery: the LVLM does not run again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from locheads.config import Config
from locheads.discovery.frequencies import discover
from locheads.types import HeadScores


def stability(scores: HeadScores, trials: Sequence[np.ndarray], config: Config) -> list[dict[str, Any]]:
    """Per size of discovery.sizes that the trials reach, ascending: {"n", "tops": each trial's k heads}.

    Of each trial the first n samples in an order that is drawn once, so a larger size holds the smaller ones, while
    the trials stay independent of each other.
    """
    orders = [np.random.default_rng([config.seed, 2, i]).permutation(trial) for i, trial in enumerate(trials)]
    reach = min((len(order) for order in orders), default=0)
    sizes = sorted({size for size in config.discovery.sizes if size <= reach})
    return [{"n": size, "tops": _tops(scores, [order[:size] for order in orders], config)} for size in sizes]


def _tops(scores: HeadScores, trials: list[np.ndarray], config: Config) -> list[list[str]]:
    found = discover(scores, [np.sort(trial) for trial in trials], config.criterion)
    return [[str(head) for head in ranking[: config.heads.k]] for ranking in found.ranking_per_trial()]
