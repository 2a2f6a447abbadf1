"""Your own data: one JSON object a line, `{"image": "a.jpg", "expression": "the cup", "box": [x, y, w, h]}`.

`box` is in the format that `dataset.box_format` declares. `mask` may stand beside it or instead of it: COCO
polygons, COCO run-length code, or the name of an image that is not black on the object. Optional: `id` (else
split and line number; one id in two files must have one expression), `ref_id` (else the line is a ref of its own),
`category`.
"""

import glob
import os
import re
from functools import cached_property
from pathlib import Path

from locheads.data.annotation_files import field, name_of, read_lines, require, sha256_of_named, short
from locheads.data.config import BoxFormat
from locheads.data.coordinate_frames import to_xyxy
from locheads.data.headers import LEADS_OUT
from locheads.data.image_files import image_size, read_mask
from locheads.data.image_groups import boxes_only, group_samples
from locheads.data.masks import box_mask, encode, tight_box, to_rle
from locheads.data.pathnames import find_file, find_image, inner_name, leads_out, real_places
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import Box, ImageGroup, Sample

_LAYOUT = (
    'a JSONL data set is a folder with one file per split, such as {}, of lines like {{"image": "a.jpg", '
    '"expression": "the cup", "box": [x, y, w, h]}}'
)


class JsonlDataSet:
    """A folder with one JSONL file per split; `pattern` names it and holds {split}."""

    def __init__(
        self,
        folder: Path,
        pattern: str,
        images: Path,
        form: BoxFormat,
        mask_threshold: int | None = None,
        of_coco: bool = False,
        links: tuple[Path, ...] = (),
    ) -> None:
        """`mask_threshold`: see `read_mask`. `of_coco`: see `image_id_of`. `links`: where links of masks may lead."""
        self._folder, self._pattern, self._images, self._form = folder, pattern, images, form
        self._threshold, self._of_coco = mask_threshold, of_coco
        self._places = real_places([folder, images, *links])
        self.notes: list[str] = []

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The lines of one split, grouped by image in the order of their first line.

        Opens the header of every image for its size. Raises DataError, naming file and line, for a line
        that cannot be used and for an image that is not there; a `tally` that counts leaves them out.
        """
        tally = tally or Tally()
        path = self._path(split)
        sizes: dict[str, tuple[int, int]] = {}
        rows = [
            tally.attempt(self._row, record, where, split, sizes, tally) for where, record in read_lines(path, tally)
        ]
        self.notes = boxes_only(tally) or self.notes
        return group_samples([row for row in rows if row is not None], path, tally, self._of_coco)

    def splits(self) -> list[str]:
        """The splits that there are files for."""
        return sorted(self._files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files of all splits and of the mask files that they name."""
        masks = {name: find_file(self._folder, name) for name in self._survey.masks}
        # A mask of another split may be absent; the reader of that split says so.
        mask_files = [(name, path if os.path.isfile(path) else None) for name, path in sorted(masks.items())]
        return sha256_of_named([*sorted(self._files.items()), *mask_files])

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Split -> its file. The pattern may hold folders, and {split} more than once."""
        whole = os.path.normpath(self._folder / self._pattern)
        first, *others = (re.escape(part) for part in whole.split("{split}"))
        form = re.compile(first + r"(?P<split>[^/\\]+)" + r"(?P=split)".join(others))
        paths = glob.glob("*".join(map(glob.escape, whole.split("{split}"))))
        matches = [(form.fullmatch(path), Path(path)) for path in paths]
        return {match["split"]: path for match, path in matches if match and path.is_file()}

    @cached_property
    def _survey(self) -> "_Survey":
        """Of all splits, because they share one attention store, whose maps are found by sample id."""
        survey = _Survey()
        for split, path in sorted(self._files.items()):
            counting = Tally(counting=True)  # what is wrong with a line, its own reader says
            for where, record in read_lines(path, counting):
                counting.attempt(survey.add, record, where, split, path)
        return survey

    def _path(self, split: str) -> Path:
        if split in self._files:
            return self._files[split]
        path = self._folder / self._pattern.replace("{split}", split)
        known = f" There are the splits {', '.join(self.splits())}." if self.splits() else ""
        require(path, _LAYOUT.format(path.name), known)
        # Not among the files of the digest: a change of it would go unnoticed.
        raise DataError(f"{path} lies where {self._pattern} finds no split: name its folder in dataset.refs.")

    def _row(self, record: dict, where: str, split: str, sizes: dict, tally: Tally) -> tuple[str, Path, tuple, Sample]:
        """(image name, its path, its size, the sample)."""
        # Another spelling would be another image to the leakage guard.
        name = inner_name(field(record, "image", str, where), where, self._images)
        path = find_image(self._images, name)
        if name not in sizes:
            sizes[name] = image_size(path, where)
        text = field(record, "expression", str, where)
        sample_id = _sample_id(record, where, split)
        self._survey.check(sample_id)
        box, mask = self._truth(record, sizes[name], where, tally)
        ref_id, category = name_of(record, "ref_id", sample_id, where), name_of(record, "category", "", where)
        return name, path, sizes[name], Sample(sample_id, ref_id, text, box, mask, category)

    def _truth(self, record: dict, size: tuple[int, int], where: str, tally: Tally) -> tuple[Box, dict]:
        box, mask = record.get("box"), record.get("mask")
        if box is None and mask is None:
            raise DataError(f"{where} has neither 'box' nor 'mask': give one of them.")
        code = None
        if mask is not None:
            code = self._mask_file(mask, size, where) if isinstance(mask, str) else to_rle(mask, *size, where)
        if box is None:
            assert code is not None
            return tight_box(code), code
        xyxy = to_xyxy(box, self._form, *size, where)
        tally.seen["no mask"] += code is None
        return xyxy, code or box_mask(xyxy, *size, where)

    def _mask_file(self, name: str, size: tuple[int, int], where: str) -> dict:
        path = find_file(self._folder, inner_name(name, where, self._folder, "mask"))
        if real := leads_out(path, self._places):
            raise DataError(LEADS_OUT.format(f"{where} names the mask {path}", real))
        return encode(read_mask(path, size, self._threshold, where), where)


class _Survey:
    """What the files of all splits say together: the mask files they name, and ids with two expressions."""

    def __init__(self) -> None:
        self.masks: set[str] = set()
        self._first: dict[str, tuple[Path, str]] = {}
        self._clashes: dict[str, tuple[Path, Path]] = {}

    def add(self, record: dict, where: str, split: str, path: Path) -> None:
        """Takes in one line. Anything but a sample (predictions may lie in the folder) is passed over."""
        text, mask = record.get("expression"), record.get("mask")
        if isinstance(mask, str):
            self.masks.add(mask)
        if not isinstance(text, str):
            return
        sample_id = _sample_id(record, where, split)
        other, known = self._first.setdefault(sample_id, (path, text))
        if other != path and known != text:
            self._clashes.setdefault(sample_id, (other, path))

    def check(self, sample_id: str) -> None:
        """Raises DataError where the id has another expression in another file."""
        if sample_id in self._clashes:
            one, two = self._clashes[sample_id]
            raise DataError(
                f"The id {short(sample_id)} has one expression in {one} and another in {two}: ids name the samples of "
                "all splits, so renumber them or leave 'id' out."
            )


def _sample_id(record: dict, where: str, split: str) -> str:
    return name_of(record, "id", f"{split}-{where.rpartition(' ')[2]}", where)
