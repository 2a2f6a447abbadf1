"""Absent objects for a data set that has none: every expression once more, about an image that lacks what it names.

What an image lacks is told by the categories of its annotated objects. That is sure where the expression names its
category ("the red circle"), and a guess where it does not ("the left one" fits what it was not said of): hence the two
options of `Absent`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from locheads.data.config import Absent, DatasetConfig
from locheads.data.masks import empty_code
from locheads.data.own_reader import DataSetReader
from locheads.data.refer import read_instances
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import NO_BOX, ImageGroup, Sample

Categories = Mapping[str, frozenset[str]]
"""File name of an image -> the categories of its annotated objects."""


class SwappedDataSet(DataSetReader):
    """Another reader's samples, and the absent ones made of them."""

    def __init__(self, own: DataSetReader, config: DatasetConfig, cache: Path, seed: int) -> None:
        super().__init__(config, cache)
        self._own, self._seed = own, seed

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        groups = self._own.read(split, tally)
        self.notes = self._own.notes
        instances = self._folder / self._config.instances
        known = annotated_categories(instances) if instances.is_file() else categories_of(groups)
        return with_swapped(groups, known, self._seed, named=self._config.absent == Absent.swapped_named)

    def splits(self) -> list[str]:
        return self._own.splits()

    @property
    def digest(self) -> str:
        """As of the own samples: the id of an absent one tells its expression and its image."""
        return self._own.digest


def annotated_categories(path: Path) -> Categories:
    """Of all annotations of a COCO json, crowds included."""
    content = read_instances(path)
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = defaultdict(set)
    for annotation in content["annotations"]:
        found[annotation["image_id"]].add(names[annotation["category_id"]])
    return {Path(image["file_name"]).name: frozenset(found[image["id"]]) for image in content["images"]}


def categories_of(groups: Iterable[ImageGroup]) -> Categories:
    """As far as the samples tell. Raises DataError where they tell nothing."""
    found = {group.path.name: frozenset(sample.category for sample in group.samples) for group in groups}
    if "" in frozenset().union(*found.values()):
        raise DataError(
            "dataset.absent needs the categories of an image's objects, and this data set has none: use "
            f"dataset.absent={Absent.none.value}."
        )
    return found


def with_swapped(groups: Sequence[ImageGroup], categories: Categories, seed: int, named: bool) -> list[ImageGroup]:
    """The images with their own samples, whose `boxes` now tell how many objects they name, and with those of other
    images that name nothing here.

    Every sample is moved to one image, drawn evenly from those that hold no object of its category; a category that all
    images hold is not moved. `named`: only expressions that name their category.
    """
    rng, moved = np.random.default_rng([seed, 2**31 + 3]), defaultdict[int, list[Sample]](list)
    lacking: dict[str, list[int]] = {}
    for sample in (sample for group in groups for sample in group.samples if not sample.absent):
        if sample.category not in lacking:
            lacking[sample.category] = _images_without(sample.category, groups, categories)
        if (images := lacking[sample.category]) and (not named or names_category(sample)):
            target = images[int(rng.integers(len(images)))]
            moved[target].append(_about(groups[target], sample))
    return [replace(g, samples=(*map(_counted, g.samples), *moved[i])) for i, g in enumerate(groups)]


def _images_without(category: str, groups: Sequence[ImageGroup], categories: Categories) -> list[int]:
    """Positions of the images that are known to hold none of the categories, which commas part (gRefCOCO)."""
    names = frozenset(category.split(", "))
    return [i for i, group in enumerate(groups) if names.isdisjoint(categories.get(group.path.name, names))]


def names_category(sample: Sample) -> bool:
    """Whether the expression holds the words of its category's name, as they are."""
    return set(sample.category.casefold().replace(",", " ").split()) <= set(sample.expression.casefold().split())


def _counted(sample: Sample) -> Sample:
    return sample if sample.boxes is not None else replace(sample, boxes=(sample.box,))


def _about(group: ImageGroup, sample: Sample) -> Sample:
    """The expression about another image, in which it names nothing."""
    return replace(
        sample,
        sample_id=f"{sample.sample_id}~{group.image_id}",
        ref_id=f"{sample.ref_id}~{group.image_id}",
        box=NO_BOX,
        mask=empty_code(group.width, group.height),
        distractors=0,
        boxes=(),
    )
