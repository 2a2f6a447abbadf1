"""Heads that look at one spot of the image and not at what is asked: made on purpose, to see which criteria they fool.

Each kind satisfies the paper's two criteria: all attention lies on the image, in one component.
"""

import zlib
from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

import numpy as np
from jaxtyping import Float

from locheads.dependence.pairs import content_words, text_of, words_of
from locheads.geometry import Geometry
from locheads.types import NO_BOX, Box, Sample

SPREAD = 1.0
"""Standard deviation of a spot, in cells."""
JITTER = 2
"""Cells by which a spot jitters, at most."""


class Plant(StrEnum):
    """Where a planted head looks."""

    none = "none"
    fixed_spot = "fixed_spot"
    """At one place, the same in every image."""
    image_spot = "image_spot"
    """At one place of each image."""
    border_row = "border_row"
    """At the last row."""
    salient_object = "salient_object"
    """At the image's largest annotated object, whatever is asked."""
    background = "background"
    """At all that no annotated object covers."""
    checkerboard = "checkerboard"
    """At every other cell: one component, because cells that touch at a corner belong together."""
    jitter = "jitter"
    """About one place, and a little elsewhere for every expression."""
    by_wording = "by_wording"
    """At a place that the whole text decides."""
    by_length = "by_length"
    """At a place that the number of words decides."""
    by_one_word = "by_one_word"
    """At a place that one word of the text decides, the first in the alphabet that names something."""
    other_object = "other_object"
    """At another object of the image than the one that is named: what nothing here tells from a head that follows."""


def planted_map(
    kind: Plant, sample: Sample, image: Sequence[Sample], geometry: Geometry, seed: Sequence[int]
) -> Float[np.ndarray, "row col"]:
    """What a planted head looks at.

    Args:
        kind: of the head; not none.
        sample: what is asked.
        image: every sample that is known of its image.
        geometry: of the maps.
        seed: of the head.
    """
    grid = geometry.rows, geometry.cols
    match kind:
        case Plant.border_row:
            return _even(np.arange(grid[0])[:, None] == grid[0] - 1, grid)
        case Plant.checkerboard:
            return _even(np.indices(grid).sum(axis=0) % 2 == 0, grid)
        case Plant.background:
            return _even(~_covered(image, geometry), grid)
        case Plant.salient_object:
            objects = [box for one in image for box in one.objects]
            return _spot(_centre(max(objects, key=_area, default=NO_BOX), geometry), grid)
        case Plant.other_object:
            return _spot(_centre(next(iter(_next_object(sample, image).objects), NO_BOX), geometry), grid)
        case Plant.jitter:
            moved = np.random.default_rng([*seed, _number(text_of(sample))]).integers(-JITTER, JITTER + 1, 2)
            place = np.clip(_anywhere(seed, grid) + moved, 0, np.array(grid) - 1)
            return _spot(place, grid)
        case Plant.fixed_spot | Plant.image_spot | Plant.by_wording | Plant.by_length | Plant.by_one_word:
            return _spot(_anywhere([*seed, *_decides(kind, sample, image)], grid), grid)
        case Plant.none:
            raise ValueError("nothing is planted")
        case _:
            assert_never(kind)


def _decides(kind: Plant, sample: Sample, image: Sequence[Sample]) -> list[int]:
    """What the place of a spot depends on besides its head."""
    match kind:
        case Plant.image_spot:
            return [_number(min(one.sample_id for one in image))]
        case Plant.by_wording:
            return [_number(text_of(sample))]
        case Plant.by_length:
            return [len(words_of(sample))]
        case Plant.by_one_word:
            return [_number(min(content_words(sample), default=""))]
        case _:
            return []


def _number(text: str) -> int:
    """The same in every process, as `hash` is not."""
    return zlib.crc32(text.encode())


def _anywhere(seed: Sequence[int], grid: tuple[int, int]) -> Float[np.ndarray, "2"]:
    return np.random.default_rng(seed).integers(0, grid).astype(float)


def _centre(box: Box, geometry: Geometry) -> Float[np.ndarray, "2"]:
    """(row, col) of the middle of an object, in cells."""
    x0, y0, x1, y1 = geometry.to_cells(np.array([box]))[0]
    return np.array([(y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5])


def _next_object(sample: Sample, image: Sequence[Sample]) -> Sample:
    """Another object for each: the next ref of the image, round and round; the named one where it is alone."""
    refs = {one.ref_id: one for one in image}
    names = list(refs)
    at = names.index(sample.ref_id)
    return next((refs[name] for name in names[at + 1 :] + names[:at] if refs[name].is_apart_from(sample)), sample)


def _area(box: Box) -> float:
    x0, y0, x1, y1 = box
    return (x1 - x0) * (y1 - y0)


def _covered(image: Sequence[Sample], geometry: Geometry) -> np.ndarray:
    rows, cols = np.indices((geometry.rows, geometry.cols)) + 0.5
    boxes = geometry.to_cells(np.array([box for sample in image for box in sample.objects]).reshape(-1, 4))
    return np.any([(x0 <= cols) & (cols < x1) & (y0 <= rows) & (rows < y1) for x0, y0, x1, y1 in boxes], axis=0)


def _spot(place: Float[np.ndarray, "2"], grid: tuple[int, int]) -> Float[np.ndarray, "row col"]:
    distance = sum((axis - at) ** 2 for axis, at in zip(np.indices(grid), place, strict=True))
    weights = np.exp(-distance / (2 * SPREAD**2))
    return (weights / weights.sum()).astype(np.float32)


def _even(cells: np.ndarray, grid: tuple[int, int]) -> Float[np.ndarray, "row col"]:
    """The same weight on some cells; on all where there are none."""
    weights = np.broadcast_to(cells if cells.any() else True, grid).astype(np.float32)
    return weights / weights.sum()
