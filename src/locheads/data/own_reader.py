"""The base class of all readers, a user's own among them, and what is checked of the samples of the latter."""

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

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        """Reads nothing yet. Raises ConfigError where the reader's settings do not fit it."""
        self._config, self._cache = config, cache
        self._folder, self._images = Path(config.folder), Path(config.images or config.folder)

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


class OwnDataSet(DataSetReader):
    """A user's reader behind the checks of its samples: what contradicts itself would give a wrong figure."""

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
        if sentence := _contradiction(groups):
            raise DataError(f"{self._setting}, split {split}: {sentence}.")
        return groups

    def splits(self) -> list[str]:
        return list(self._own.splits())

    @property
    def digest(self) -> str:
        """Of the files and of the reader's own code: an edited reader may read other expressions."""
        return json_digest([self._own.digest, self._code])


def _contradiction(groups: list[ImageGroup]) -> str | None:
    """The first thing that is wrong with the samples."""
    seen: set[str] = set()
    for group in groups:
        if not isinstance(group, ImageGroup) or not isinstance(group.path, Path) or not group.samples:
            return f"{group!r} is no ImageGroup with a Path and at least one sample"
        for sample in group.samples:
            if wrong := _wrong(sample, group, seen):
                return f"the sample {sample.sample_id} of image {group.image_id} {wrong}"
            seen.add(sample.sample_id)
    heats = {sample.heat is None for group in groups for sample in group.samples}
    if len(heats) > 1:
        return "some samples have a heat map as their truth and others have none, which no figure takes together"
    return None if groups else "there are no images"


def _wrong(sample: Sample, group: ImageGroup, seen: set[str]) -> str | None:
    x0, y0, x1, y1 = sample.box
    width, height = group.width, group.height
    text, size = sample.expression, list(sample.mask["size"])  # type: ignore[call-overload]
    rules = {
        "has the id of another sample": sample.sample_id in seen,
        "has no expression": not (isinstance(text, str) and text.strip()),
        f"has the box {sample.box}, which must be (x0, y0, x1, y1)": sample.heat is None and not (x0 < x1 and y0 < y1),
        f"has the box {sample.box}, which leaves its image of {width} x {height} pixels": not inside(
            sample.box, width, height
        ),
        f"has a mask of another size than its image of {height} x {width} rows and columns": size != [height, width],
    }
    return next((sentence for sentence, broken in rules.items() if broken), None)
