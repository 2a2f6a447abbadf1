"""Samples in groups per image: made from the rows of a file, drawn for the trials, limited, kept apart."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from locheads.data.pathnames import image_id_of, image_key
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.types import ImageGroup, Sample

log = logging.getLogger(__name__)

_BOXES_ONLY = "{} samples have no mask: their box stands for it, so mask figures mean nothing for them."

Row = tuple[str, Path, tuple[int, int], Sample]
"""(image name, its path, its (width, height), the sample)."""


def group_samples(rows: list[Row], source: Path | str, tally: Tally, of_coco: bool = False) -> list[ImageGroup]:
    """The rows grouped by image file, images in the order of their first row.

    An image's id is that of `image_id_of`, which `of_coco` tells whether all images are COCO's. Raises DataError
    (or counts it) for a sample id that is used twice and for an id of two images, and DataError where no row is left.
    """
    images: dict[str, tuple[Path, tuple[int, int], list[Sample]]] = {}
    ids: set[str] = set()
    for name, path, size, sample in rows:
        image_id = image_id_of(name, of_coco)
        first = images.get(image_id, (path,))[0]
        # The leakage guard, the intervals and the gallery know an image by this id only.
        if first != path:
            tally.reject(DataError(f"{source} has two images of the id {image_id}, {first} and {path}: rename one."))
            continue
        if sample.sample_id in ids:
            tally.reject(DataError(f"{source} holds the sample id {sample.sample_id!r} twice: renumber them."))
            continue
        ids.add(sample.sample_id)
        images.setdefault(image_id, (path, size, []))[2].append(sample)
    if not images and not tally.rejected:
        raise DataError(f"{source} holds no sample: choose another split or file.")
    return [ImageGroup(image_id, path, *size, tuple(samples)) for image_id, (path, size, samples) in images.items()]


def boxes_only(tally: Tally) -> list[str]:
    """The note on samples whose box stands for their mask; logged in a run. Empty where there are none."""
    missing = tally.seen["no mask"]
    if missing and not tally.counting:
        log.warning(_BOXES_ONLY.format(missing))
    return [_BOXES_ONLY.format(missing)] if missing else []


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
    ids = set(sample_ids)
    kept = [replace(g, samples=tuple(s for s in g.samples if s.sample_id in ids)) for g in groups]
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
