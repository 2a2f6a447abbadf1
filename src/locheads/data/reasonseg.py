"""ReasonSeg (LISA, arXiv 2308.00692): `train|val|test/NAME.jpg` with `NAME.json` beside it.

The JSON holds `text` (queries), `is_sentence` (long queries or short phrases) and `shapes`, polygons labelled
"target", "ignore..." or "flag". The mask is made as the publishers' reader makes it
(github.com/dvlab-research/LISA, utils/data_processing.py), so that figures compare: OpenCV's polygons with
their outline on whole pixels, larger ones first, an ignored one taking away what it covers.
"""

from functools import cached_property
from pathlib import Path
from typing import assert_never

import cv2
import numpy as np

from locheads.data.annotation_files import field, is_number, read_json, sha256_of
from locheads.data.config import QueryLength
from locheads.data.image_files import image_size
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import encode, tight_box
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup, Sample

SPLITS = ("train", "val", "test")
_SUFFIXES = (".jpg", ".jpeg", ".png")


class ReasonSegDataSet:
    """A folder with train, val and test."""

    def __init__(self, folder: Path, query: QueryLength = QueryLength.all) -> None:
        self._folder, self._query = folder, query
        self.notes = ["Regions that ReasonSeg ignores count as background here; LISA leaves them out of its figures."]

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The queries of one split, ordered by file name. Opens the header of every image for its size.

        Raises DataError, naming the file, for one that cannot be used; a `tally` that counts leaves it out.
        """
        tally = tally or Tally()
        rows: list[Row] = []
        for path in self._files(split):
            rows += tally.attempt(self._rows, path, split) or ()
        return group_samples(rows, self._folder / split, tally)

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
        content = read_json(path, fallback="cp1252")  # as the publishers do: some files are not UTF-8
        texts, where = field(content, "text", list, str(path)), str(path)
        long = _is_sentence(content, where)
        if not _asked_for(self._query, long):
            return []
        image = next((p for s in _SUFFIXES if (p := path.with_suffix(s)).exists()), path.with_suffix(".jpg"))
        size = image_size(image)
        mask = encode(_paint(field(content, "shapes", list, where), size, where), where)
        box, rows = tight_box(mask), []
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{where} has a query of type {type(text).__name__}: correct the file.")
            name = f"{split}-{path.stem}"
            sample = Sample(f"{name}-{number}", name, text, box, mask, "long" if long else "short")
            rows.append((image.name, image, size, sample))
        return rows


def _is_sentence(content: object, where: str) -> bool:
    """`is_sentence`, true or false."""
    value = content.get("is_sentence") if isinstance(content, dict) else None
    if not isinstance(value, bool):
        raise DataError(f"{where} has no 'is_sentence' that is true or false: take the file from its publisher.")
    return value


def _paint(shapes: list, size: tuple[int, int], where: str) -> np.ndarray:
    """[height, width], 1 on the target."""
    painted = []
    for shape in shapes:
        label = field(shape, "label", str, f"a shape of {where}").lower()
        if label != "flag":  # the publishers' mark for withdrawn annotations
            points = _points(field(shape, "points", list, f"a shape of {where}"), size, where)
            painted.append((int(_fill(points, size, np.zeros(size[::-1], np.uint8), 1).sum()), label, points))
    mask = np.zeros(size[::-1], np.uint8)
    # Stable, and the publishers reverse an ascending order: equal areas keep that reversal.
    for _, label, points in sorted(painted, key=lambda each: each[0])[::-1]:
        _fill(points, size, mask, 0 if "ignore" in label else 1)
    return mask


def _points(points: list, size: tuple[int, int], where: str) -> np.ndarray:
    reach = 2 * max(size)
    pairs = all(isinstance(p, list) and len(p) == 2 and all(is_number(v, reach) for v in p) for p in points)
    if not points or not pairs:
        raise DataError(
            f"{where} has a polygon that is not a list of [x, y] in pixels near its image: take the file from its "
            "publisher."
        )
    return np.array(points, dtype=np.int32)


def _fill(points: np.ndarray, size: tuple[int, int], mask: np.ndarray, value: int) -> np.ndarray:
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
