"""A user's own reader of a data set, named by its dotted path: its base class, and what is checked of its samples."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from locheads import dotted
from locheads.data.config import DatasetConfig
from locheads.data.headers import inside
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError, boundary
from locheads.store.digest import json_digest
from locheads.types import ImageGroup, Sample


class DataSetReader(ABC):
    """A data set of referring expressions. Nothing of it opens an image's pixels; all raise DataError.

    A reader of one's own is a subclass, made as `Class(config, cache)` with the settings of the group `dataset` and a
    folder for what it prepares: `dataset.reader=my_package.module:Class`.
    """

    notes: Sequence[str] = ()
    """What a reader of the figures must know of this copy; complete once its splits are read."""

    @abstractmethod
    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The images of the split with their expressions. A tally that counts keeps unusable records out."""

    @abstractmethod
    def splits(self) -> list[str]:
        """The names of all splits."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 over all that the samples are read from: it decides which stored attention maps are read again."""


class OwnDataSet:
    """What `inputs.DataSet` asks for, from a user's reader: what contradicts itself would give a wrong figure."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        """Raises ConfigError where the dotted path names no reader, or it cannot be made."""
        self._setting = f"dataset.reader={config.reader}"
        kind = dotted.load(config.reader, DataSetReader, "dataset.reader")
        if not isinstance(kind, type) or inspect.isabstract(kind):
            lacks = ", ".join(sorted(getattr(kind, "__abstractmethods__", ()))) or "a class"
            raise ConfigError(f"{self._setting} is no complete reader: it lacks {lacks}.")
        with boundary(f"{self._setting} cannot be made", ConfigError, "correct the class."):
            self._own = kind(config, cache)
        self.notes = list(self._own.notes)
        self._code = dotted.source_digests(config.reader)

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        with boundary(f"{self._setting} cannot read {split}", DataError, "correct the reader or its files."):
            groups = list(self._own.read(split, tally))
        self.notes = list(self._own.notes)
        for sentence in _contradictions(groups):
            raise DataError(f"{self._setting}, split {split}: {sentence}")
        return groups

    def splits(self) -> list[str]:
        return list(self._own.splits())

    @property
    def digest(self) -> str:
        """Of the files and of the reader's own code: an edited reader may read other expressions."""
        return json_digest([self._own.digest, self._code])


def _contradictions(groups: list[ImageGroup]) -> list[str]:
    """The first thing that is wrong with the samples, as a sentence."""
    if not groups:
        return ["there are no images."]
    seen: set[str] = set()
    for group in groups:
        if not isinstance(group, ImageGroup) or not isinstance(group.path, Path) or not group.samples:
            return [f"{group!r} is no ImageGroup with a Path and at least one sample."]
        for sample in group.samples:
            if wrong := _wrong(sample, group, seen):
                return [f"the sample {sample.sample_id} of image {group.image_id} {wrong}."]
            seen.add(sample.sample_id)
    return []


def _wrong(sample: Sample, group: ImageGroup, seen: set[str]) -> str | None:
    x0, y0, x1, y1 = sample.box
    rules = {
        "has the id of another sample": sample.sample_id in seen,
        "has no expression": not (isinstance(sample.expression, str) and sample.expression.strip()),
        f"has the box {sample.box}, which must be (x0, y0, x1, y1)": not (x0 < x1 and y0 < y1),
        f"has the box {sample.box}, which leaves its image of {group.width} x {group.height} pixels": not inside(
            sample.box, group.width, group.height
        ),
        f"has a mask of another size than its image of {group.height} x {group.width} rows and columns": list(
            sample.mask["size"]  # type: ignore[call-overload]
        )
        != [group.height, group.width],
    }
    return next((sentence for sentence, broken in rules.items() if broken), None)
