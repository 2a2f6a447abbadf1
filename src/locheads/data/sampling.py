"""Which samples take part: random draws for the discovery trials, subsets, limits, and the leakage guard."""

import logging
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from locheads.data.pathnames import image_key
from locheads.errors import ConfigError, DataError
from locheads.types import ImageGroup

logger = logging.getLogger(__name__)


def draw_trials(sample_ids: list[str], n_samples: int, trials: int, seed: int) -> list[Int[np.ndarray, "sample"]]:
    """Per trial, the positions in `sample_ids` of samples drawn at random without replacement, ascending.

    Each trial has a generator of its own, seeded by [seed, trial]: asking for more trials does not change the
    earlier ones. Where there are fewer than `n_samples`, every trial uses all of them: `len(draws[0])` tells,
    and a warning is logged. Raises DataError where there are none, ConfigError for counts below 1.
    """
    if n_samples < 1 or trials < 1 or seed < 0:
        raise ConfigError(
            f"n_samples={n_samples}, trials={trials}, seed={seed} cannot be drawn: the counts must be at "
            "least 1 and the seed at least 0."
        )
    available = len(sample_ids)
    if available == 0:
        raise DataError("There are no samples to draw from: check the discovery split and its limits.")
    if available < n_samples:
        logger.warning("Only %d of the n_samples=%d are there: every trial uses all.", available, n_samples)
        return [np.arange(available) for _ in range(trials)]
    return [
        np.sort(np.random.default_rng([seed, trial]).choice(available, n_samples, replace=False))
        for trial in range(trials)
    ]


def subset(groups: list[ImageGroup], sample_ids: Collection[str]) -> list[ImageGroup]:
    """Only these samples, in the groups' order; images that keep none go. Other ids do nothing."""
    wanted = set(sample_ids)
    kept = [replace(g, samples=tuple(s for s in g.samples if s.sample_id in wanted)) for g in groups]
    return [group for group in kept if group.samples]


def shuffle(groups: list[ImageGroup], seed: int) -> list[ImageGroup]:
    """The images in a random order; the expressions of an image stay together."""
    # A stream of its own: trials draw with [seed, 0], [seed, 1], ...
    order = np.random.default_rng([seed, 2**31]).permutation(len(groups))
    return [groups[i] for i in order]


def limit(groups: list[ImageGroup], n_expressions: int | None, offset: int = 0) -> list[ImageGroup]:
    """`n_expressions` expressions (all for None) after the first `offset`; the first and the last image may keep
    only some of their own.

    Raises ConfigError for a number below 1, a negative offset, and an offset that leaves nothing.
    """
    if offset:
        groups = _without_first(groups, offset)
    if n_expressions is None:
        return groups
    if n_expressions < 1:
        raise ConfigError(f"The limit of {n_expressions} expressions leaves nothing: use 1 or more, or null for all.")
    kept: list[ImageGroup] = []
    for group in groups:
        if n_expressions <= 0:
            break
        kept.append(replace(group, samples=group.samples[:n_expressions]))
        n_expressions -= len(group.samples)
    return kept


def _without_first(groups: list[ImageGroup], offset: int) -> list[ImageGroup]:
    total = sum(len(group.samples) for group in groups)
    if not 0 <= offset < total:
        raise ConfigError(f"The offset of {offset} leaves nothing of {total} expressions: use 0 to {total - 1}.")
    kept: list[ImageGroup] = []
    for group in groups:
        skipped = min(offset, len(group.samples))
        offset -= skipped
        if skipped < len(group.samples):
            kept.append(replace(group, samples=group.samples[skipped:]))
    return kept


def exclude_images(groups: list[ImageGroup], keys: Collection[str]) -> tuple[list[ImageGroup], int]:
    """The groups whose image is not among `keys` (see `image_key`), and how many images that excluded.

    The guard against leakage: discovery must not see an image of an evaluated split, and RefCOCO, RefCOCO+
    and RefCOCOg share COCO's images and ids.
    """
    banned = set(keys)
    kept = [group for group in groups if image_key(group.image_id, group.path.name) not in banned]
    return kept, len(groups) - len(kept)
