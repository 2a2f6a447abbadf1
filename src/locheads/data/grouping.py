"""Samples in the order of a file -> groups per image."""

import logging
from pathlib import Path

from locheads.data.pathnames import image_id_of
from locheads.data.tally import Tally
from locheads.errors import DataError
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
