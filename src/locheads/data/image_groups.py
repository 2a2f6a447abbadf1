"""Samples in groups per image: made from the rows of a file, numbered, limited, kept apart."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from jaxtyping import Int

from locheads.data.pathnames import image_key
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.types import ImageGroup, Sample

log = logging.getLogger(__name__)

_BOXES_ONLY = "{} samples have no mask: their box stands for it, so mask figures mean nothing for them."

Row = tuple[str, Path, tuple[int, int], Sample]
"""(image id, the image's path, its (width, height), the sample)."""


def group_samples(rows: Iterable[Row], source: Path | str, tally: Tally) -> list[ImageGroup]:
    """The rows grouped by image, images in the order of their first row.

    Raises DataError (or counts it) for a sample id that is used twice and for an id of two images, and DataError where
    no row is left.
    """
    images: dict[str, tuple[tuple[Path, tuple[int, int]], list[Sample]]] = {}
    ids: set[str] = set()
    for image_id, path, size, sample in rows:
        first, samples = images.setdefault(image_id, ((path, size), []))
        # The leakage guard, the intervals and the gallery know an image by this id only.
        if first != (path, size):
            both = f"{first[0]} and {path}"
            tally.reject(DataError(f"{source} has two images of the id {image_id}, {both}: rename one."))
        elif sample.sample_id in ids:
            tally.reject(DataError(f"{source} holds the sample id {sample.sample_id!r} twice: renumber them."))
        else:
            ids.add(sample.sample_id)
            samples.append(sample)
    if not images and not tally.rejected:
        raise DataError(f"{source} holds no sample: choose another split or file.")
    return [ImageGroup(key, path, *size, tuple(samples)) for key, ((path, size), samples) in images.items() if samples]


def boxes_only(tally: Tally) -> list[str]:
    """The note on samples whose box stands for their mask; logged in a run. Empty where there are none."""
    notes = [_BOXES_ONLY.format(missing)] if (missing := tally.seen["no mask"]) else []
    for note in () if tally.counting else notes:
        log.warning("%s", note)
    return notes


def with_heat(groups: Iterable[ImageGroup]) -> bool:
    """Whether the truth is a heat map, and neither box nor mask: of all samples, or of none."""
    return any(sample.heat is not None for group in groups for sample in group.samples)


def may_name_several(groups: Iterable[ImageGroup]) -> bool:
    """Whether the data set says how many objects an expression names: any number, none among them."""
    return any(sample.boxes is not None for group in groups for sample in group.samples)


def image_numbers(groups: list[ImageGroup]) -> Int[np.ndarray, "sample"]:
    """Of each sample, in the groups' order, the position of its image."""
    return np.repeat(np.arange(len(groups)), np.array([len(group.samples) for group in groups], dtype=int))


def subset(groups: list[ImageGroup], sample_ids: Collection[str]) -> list[ImageGroup]:
    """Only these samples, in the groups' order; images that keep none go. Other ids do nothing."""
    ids = set(sample_ids)
    kept = [replace(g, samples=tuple(s for s in g.samples if s.sample_id in ids)) for g in groups]
    return [group for group in kept if group.samples]


def without_absent(groups: list[ImageGroup]) -> list[ImageGroup]:
    """Only the samples that name something, as `subset`; the same groups where all do."""
    absent = any(sample.absent for group in groups for sample in group.samples)
    present = [sample.sample_id for group in groups for sample in group.samples if not sample.absent]
    return subset(groups, present) if absent else groups


def merged(groups: Iterable[ImageGroup]) -> list[ImageGroup]:
    """Every image once, with all samples that any of the groups has of it."""
    images: dict[tuple[str, Path], tuple[ImageGroup, dict[str, Sample]]] = {}
    for group in groups:
        _, samples = images.setdefault((group.image_id, group.path), (group, {}))
        samples.update({sample.sample_id: sample for sample in group.samples})
    return [replace(group, samples=tuple(samples.values())) for group, samples in images.values()]


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
    pairs = [(number, sample) for number, group in enumerate(groups) for sample in group.samples]
    if offset and not 0 <= offset < len(pairs):
        last = len(pairs) - 1
        raise ConfigError(f"The offset of {offset} leaves nothing of {len(pairs)} expressions: use 0 to {last}.")
    if n_expressions is not None and n_expressions < 1:
        raise ConfigError(f"The limit of {n_expressions} expressions leaves nothing: use 1 or more, or null for all.")
    kept = pairs[offset:] if n_expressions is None else pairs[offset : offset + n_expressions]
    by_group = groupby(kept, itemgetter(0))
    return [replace(groups[number], samples=tuple(sample for _, sample in part)) for number, part in by_group]


def exclude_images(groups: list[ImageGroup], keys: Collection[str]) -> tuple[list[ImageGroup], int]:
    """The groups whose image is not among `keys` (see `image_key`), and how many images that excluded.

    The guard against leakage: discovery must not see an image of an evaluated split, and RefCOCO, RefCOCO+
    and RefCOCOg share COCO's images and ids.
    """
    banned = set(keys)
    kept = [group for group in groups if image_key(group.image_id, group.path.name) not in banned]
    return kept, len(groups) - len(kept)
