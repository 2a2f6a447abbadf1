"""ScreenSpot-v2 and ScreenSpot-Pro: instructions about a screen, each with the box of the element that it means.

v2 (OS-Copilot/ScreenSpot-v2): `screenspot_{mobile,desktop,web}_v2.json` with records {"img_filename", "bbox": [x, y,
width, height], "instruction", "data_type": "text" or "icon", "data_source"}, images in `screenspotv2_image/`. Pro
(likaixin/ScreenSpot-Pro): `annotations/*.json` with records {"id", "img_filename", "bbox": [x0, y0, x1, y1],
"img_size": [width, height], "instruction", "ui_type": "text" or "icon", "group", ...}, images in `images/`. Converted
copies of v2 have Pro's names and corners (microsoft/GUI-Actor); `dataset.box_format` says which of the two boxes are.
"""

import re
from functools import cached_property
from pathlib import Path

from locheads.data.annotation_files import are_numbers, field, name_of, read_json, sha256_of, short
from locheads.data.checks import FEW
from locheads.data.coordinate_frames import to_xyxy
from locheads.data.headers import inside
from locheads.data.image_files import image_header
from locheads.data.image_groups import Row, boxes_only, group_samples
from locheads.data.masks import box_mask
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import find_file, image_id_of, inner_name
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup, Sample

SPLIT = "test"
ELEMENTS = ("text", "icon")


class ScreenSpotDataSet(DataSetReader):
    """A folder with JSON lists of records; `dataset.refs` is the pattern of their names."""

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The records of all files, in the order of the files' names. Opens the header of an image whose size the
        records do not tell.

        Raises DataError, naming file and record, for one that cannot be used, and where boxes leave their images; a
        `tally` that counts leaves the former out, and lets the latter be.
        """
        if split != SPLIT:
            raise DataError(
                f"{self._folder} has one split, {SPLIT}, and no {split}: heads must be found on other data, so name "
                "them (heads.set)."
            )
        tally, sizes = tally or Tally(), dict[Path, tuple[int, int]]()
        rows = list(tally.each(self._row, self._records(), sizes))
        if not tally.counting:
            self._refuse_other_boxes(rows)
        tally.seen["no mask"] += len(rows)
        self.notes = boxes_only(tally)
        return group_samples(rows, self._folder, tally)

    def splits(self) -> list[str]:
        return [SPLIT]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the JSON files."""
        return sha256_of(self._files())

    def _files(self) -> list[Path]:
        paths = sorted(self._folder.glob(self._config.refs))
        if not paths:
            raise DataError(
                f"{self._folder} holds no {self._config.refs}, the annotations of ScreenSpot: set paths.data to the "
                "folder of all data sets, dataset.folder to this one, or dataset.refs to their names."
            )
        return paths

    def _records(self) -> list[tuple[Path, int, object]]:
        """(file, number in it, record)."""
        found = []
        for path in self._files():
            records = read_json(path)
            if not isinstance(records, list):
                raise DataError(f"{path} is not a JSON list of records: take the file anew from its publisher.")
            found += [(path, number, record) for number, record in enumerate(records)]
        return found

    def _row(self, path: Path, number: int, record: dict, sizes: dict[Path, tuple[int, int]]) -> Row:
        where = f"record {number} of {path}"
        name = inner_name(field(record, "img_filename", str, where), where, self._images)
        image, text = find_file(self._images, name), field(record, "instruction", str, where)
        if image not in sizes:
            sizes[image] = _size(record, where) or image_header(image, where).size
        size, element = sizes[image], _element(record, where)
        box = to_xyxy(field(record, "bbox", list, where), self._config.box_format, *size, where)
        sample_id = name_of(record, "id", f"{path.stem}-{number}", where)
        kinds = element, f"{_platform(record, path, where)} {element}"
        mask = box_mask(box, *size, where)
        return image_id_of(name), image, size, Sample(
            sample_id, sample_id, text, box, mask, element, kinds=kinds, screen=True
        )  # fmt: skip

    def _refuse_other_boxes(self, rows: list[Row]) -> None:
        """A copy with the other form of boxes would give plausible figures."""
        outside = [(size, sample) for _, _, size, sample in rows if not inside(sample.box, *size)]
        if len(outside) <= FEW * len(rows):
            return
        (width, height), sample = outside[0]
        raise DataError(
            f"{len(outside):,} of {len(rows):,} boxes of {self._folder} leave their image when read as "
            f"{self._config.box_format.value}, the first that of {sample.sample_id}, {sample.box} in "
            f"{width} x {height} pixels: ScreenSpot-v2 has xywh, ScreenSpot-Pro and converted copies have xyxy, so "
            "correct dataset.box_format."
        )


def _size(record: dict, where: str) -> tuple[int, int] | None:
    """(width, height) where the record tells it; whether the image has it is looked at with all headers."""
    size = record.get("img_size")
    if size is None:
        return None
    if not are_numbers(size, 2, 65_535) or any(int(side) != side or side < 1 for side in size):
        raise DataError(f"{where} has the img_size {short(size)}, which is not [width, height] in pixels: correct it.")
    return int(size[0]), int(size[1])


def _element(record: dict, where: str) -> str:
    key = "data_type" if "data_type" in record else "ui_type"
    element = field(record, key, str, where)
    if element not in ELEMENTS:
        raise DataError(f"{where} has the {key} {short(element)}, which is neither text nor icon: correct it.")
    return element


def _platform(record: dict, path: Path, where: str) -> str:
    """Pro's group of applications, which a converted copy uses for v2's platform; else that of the file's name."""
    of_file = re.fullmatch(r"screenspot_(.+?)(_v2)?", path.stem)
    return name_of(record, "group", of_file[1] if of_file else path.stem, where)
