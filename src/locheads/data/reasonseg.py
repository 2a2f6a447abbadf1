"""ReasonSeg (LISA, arXiv 2308.00692): `train|val|test/NAME.jpg` with `NAME.json` beside it.

The JSON holds `text` (queries), `is_sentence` (long queries or short phrases) and `shapes`, polygons labelled
"target", "ignore..." or "flag". The mask is made as the publishers' reader makes it
(github.com/dvlab-research/LISA, utils/data_processing.py), so that figures compare: OpenCV's polygons with
their outline on whole pixels, larger ones first, an ignored one taking away what it covers.
"""

from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import assert_never

import cv2
import numpy as np

from locheads.data.annotation_files import are_numbers, field, mapping, read_json, sha256_of
from locheads.data.config import QueryLength
from locheads.data.image_files import image_header
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import encode, tight_box
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import image_id_of
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup, Sample

SPLITS = ("train", "val", "test")
_SUFFIXES = (".jpg", ".jpeg", ".png")


class ReasonSegDataSet(DataSetReader):
    """A folder with train, val and test."""

    notes = ("Regions that ReasonSeg ignores count as background here; LISA leaves them out of its figures.",)

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The queries of one split, ordered by file name. Opens the header of every image for its size.

        Raises DataError, naming the file, for one that cannot be used; a `tally` that counts leaves it out.
        """
        tally = tally or Tally()
        rows = tally.each(self._rows, ((path,) for path in self._files(split)), split)
        return group_samples(chain.from_iterable(rows), self._folder / split, tally)

    def splits(self) -> list[str]:
        """Those that there are folders for."""
        return [split for split in SPLITS if (self._folder / split).is_dir()]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the JSON files of all splits."""
        return sha256_of(path for split in self.splits() for path in self._files(split))

    def _files(self, split: str) -> list[Path]:
        paths = sorted((self._folder / split).glob("*.json"))
        if not paths:
            raise DataError(
                f"{self._folder / split} holds no *.json, but ReasonSeg is a folder with train, val and test, each "
                "with NAME.jpg and NAME.json: set paths.data to the folder of all data sets, or dataset.folder."
            )
        return paths

    def _rows(self, path: Path, split: str) -> list[Row]:
        where = str(path)
        content = mapping(read_json(path, fallback="cp1252"), where)  # as the publishers do: some files are not UTF-8
        texts, long = field(content, "text", list, where), content.get("is_sentence")
        if not isinstance(long, bool):
            raise DataError(f"{where} has no 'is_sentence' that is true or false: take the file from its publisher.")
        if not _asked_for(self._config.query, long):
            return []
        image = next((p for s in _SUFFIXES if (p := path.with_suffix(s)).exists()), path.with_suffix(".jpg"))
        size = image_header(image).size
        mask = encode(_paint(field(content, "shapes", list, where), size, where), where)
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise DataError(f"{where} has a query of type {type(wrong[0]).__name__}: correct the file.")
        name, about = f"{split}-{path.stem}", (tight_box(mask), mask, "long" if long else "short")
        samples = (Sample(f"{name}-{number}", name, text, *about) for number, text in enumerate(texts))
        return [(image_id_of(image.name), image, size, sample) for sample in samples]


def _paint(shapes: list, size: tuple[int, int], where: str) -> np.ndarray:
    """[height, width], 1 on the target."""
    painted = []
    for shape in shapes:
        label = field(shape, "label", str, f"a shape of {where}").lower()
        if label != "flag":  # the publishers' mark for withdrawn annotations
            points = _points(field(shape, "points", list, f"a shape of {where}"), size, where)
            painted.append((_fill(points, np.zeros(size[::-1], np.uint8), 1).sum(), label, points))
    mask = np.zeros(size[::-1], np.uint8)
    # Stable, and the publishers reverse an ascending order: equal areas keep that reversal.
    for _, label, points in sorted(painted, key=lambda each: each[0])[::-1]:
        _fill(points, mask, 0 if "ignore" in label else 1)
    return mask


def _points(points: list, size: tuple[int, int], where: str) -> np.ndarray:
    if not points or not all(are_numbers(point, 2, 2 * max(size)) for point in points):
        raise DataError(
            f"{where} has a polygon that is not a list of [x, y] in pixels near its image: take the file from its "
            "publisher."
        )
    return np.array(points, dtype=np.int32)


def _fill(points: np.ndarray, mask: np.ndarray, value: int) -> np.ndarray:
    cv2.polylines(mask, [points], True, value, 1)
    cv2.fillPoly(mask, [points], value)
    return mask


def _asked_for(query: QueryLength, long: bool) -> bool:
    match query:
        case QueryLength.all:
            return True
        case QueryLength.long:
            return long
        case QueryLength.short:
            return not long
        case _:
            assert_never(query)
