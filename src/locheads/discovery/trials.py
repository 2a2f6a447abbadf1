"""Which samples each trial of discovery sees: random expressions, as in the paper, or whole images."""

import logging

import numpy as np
from jaxtyping import Int

from locheads.discovery.config import Draw
from locheads.errors import ConfigError, DataError, chosen

log = logging.getLogger(__name__)


def draw_trials(
    images: Int[np.ndarray, "sample"], n_samples: int, trials: int, seed: int, draw: str = Draw.expression
) -> list[Int[np.ndarray, "drawn"]]:
    """Per trial, the positions of samples drawn at random without replacement, ascending.

    `images` names each sample's image by a number from 0. Each trial has a generator of its own, seeded by
    [seed, trial]: asking for more trials does not change the earlier ones. Where there are fewer than `n_samples`,
    every trial uses all of them: `len(draws[0])` tells, and a warning is logged. Raises DataError where there are
    none, ConfigError for counts below 1 and for an unknown draw.
    """
    by, available = chosen(Draw, draw), len(images)
    if n_samples < 1 or trials < 1 or seed < 0:
        raise ConfigError(
            f"n_samples={n_samples}, trials={trials}, seed={seed} cannot be drawn: the counts must be at "
            "least 1 and the seed at least 0."
        )
    if available == 0:
        raise DataError("There are no samples to draw from: check the discovery split and its limits.")
    if available < n_samples:
        log.warning("Only %d of the n_samples=%d are there: every trial uses all.", available, n_samples)
    size = min(n_samples, available)
    generators = (np.random.default_rng([seed, trial]) for trial in range(trials))
    if by == Draw.expression:
        return [np.sort(generator.choice(available, size, replace=False)) for generator in generators]
    return [np.sort(random_order(images, generator, by)[:size]) for generator in generators]


def order_of_trial(images: Int[np.ndarray, "sample"], seed: int, trial: int, draw: Draw) -> Int[np.ndarray, "sample"]:
    """The order in which a trial's samples, of these images, are asked where fewer may do: drawn once per trial."""
    return random_order(images, np.random.default_rng([seed, 2, trial]), draw)


def random_order(
    images: Int[np.ndarray, "sample"], generator: np.random.Generator, draw: Draw
) -> Int[np.ndarray, "sample"]:
    """All positions in an order whose beginning is a smaller draw of the same kind.

    By image: one image after the other, each with its samples in a random order, so that an image that is cut off
    gives a random part of them.
    """
    if draw == Draw.expression:
        return generator.permutation(len(images))
    rank = generator.permutation(images.max(initial=0) + 1)
    return np.lexsort((generator.random(len(images)), rank[images]))
