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

from locheads.data.annotation_files import NO_FILES, field, file_sha256, name_of, read_lines, require, short
from locheads.data.config import DatasetConfig
from locheads.data.coordinate_frames import to_xyxy
from locheads.data.headers import LEADS_OUT
from locheads.data.image_files import image_header, read_mask
from locheads.data.image_groups import Row, boxes_only, group_samples
from locheads.data.masks import box_mask, encode, tight_box, to_rle
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import find_file, find_image, image_id_of, inner_name, leads_out, real_places
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.store.digest import json_digest
from locheads.types import Box, ImageGroup, Sample

_LAYOUT = (
    'a JSONL data set is a folder with one file per split, such as {}, of lines like {{"image": "a.jpg", '
    '"expression": "the cup", "box": [x, y, w, h]}}'
)


class JsonlDataSet(DataSetReader):
    """A folder with one JSONL file per split; `dataset.refs` names it and holds {split}."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        super().__init__(config, cache)
        if "{split}" not in config.refs:
            raise ConfigError(f"dataset.refs={config.refs} has no {{split}}: write {{split}}.jsonl, or alike.")
        self._places = real_places([self._folder, self._images, *map(Path, config.links)])

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The lines of one split, grouped by image in the order of their first line.

        Opens the header of every image for its size. Raises DataError, naming file and line, for a line
        that cannot be used and for an image that is not there; a `tally` that counts leaves them out.
        """
        tally = tally or Tally()
        path = self._path(split)
        sizes: dict[Path, tuple[int, int]] = {}
        rows = list(tally.each(self._row, read_lines(path, tally), split, sizes, tally))
        self.notes = boxes_only(tally) or self.notes
        return group_samples(rows, path, tally)

    def splits(self) -> list[str]:
        """The splits that there are files for."""
        return sorted(self._files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files of all splits and of the mask files that they name."""
        if not self._files:
            raise DataError(NO_FILES)
        named = sorted(self._files.items()) + [
            (name, find_file(self._folder, name)) for name in sorted(self._survey[0])
        ]
        # A mask of another split may be absent; the reader of that split says so.
        return json_digest([[name, file_sha256(path) if os.path.isfile(path) else None] for name, path in named])

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Split -> its file. The pattern may hold folders, and {split} more than once."""
        whole = os.path.normpath(self._folder / self._config.refs)
        first, *others = (re.escape(part) for part in whole.split("{split}"))
        form = re.compile(first + r"(?P<split>[^/\\]+)" + r"(?P=split)".join(others))
        paths = glob.glob("*".join(map(glob.escape, whole.split("{split}"))))
        matches = [(form.fullmatch(path), Path(path)) for path in paths]
        return {match["split"]: path for match, path in matches if match and path.is_file()}

    @cached_property
    def _survey(self) -> tuple[set[str], dict[str, tuple[Path, Path]]]:
        """(mask files, ids with two expressions -> their files) of all splits, because they share one attention store,
        whose maps are found by sample id. Anything but a sample (predictions may lie in the folder) is passed over."""
        masks: set[str] = set()
        first: dict[str, tuple[Path, object]] = {}
        clashes: dict[str, tuple[Path, Path]] = {}
        counting = Tally(counting=True)  # what is wrong with a line, its own reader says
        for split, path in sorted(self._files.items()):
            for sample_id, text, mask in counting.each(_outline, read_lines(path, counting), split):
                if isinstance(mask, str):
                    masks.add(mask)
                if isinstance(text, str):
                    other, known = first.setdefault(sample_id, (path, text))
                    if other != path and known != text:
                        clashes.setdefault(sample_id, (other, path))
        return masks, clashes

    def _path(self, split: str) -> Path:
        if split in self._files:
            return self._files[split]
        path = self._folder / self._config.refs.replace("{split}", split)
        known = f" There are the splits {', '.join(self.splits())}." if self.splits() else ""
        require(path, _LAYOUT.format(path.name), known)
        # Not among the files of the digest: a change of it would go unnoticed.
        raise DataError(f"{path} lies where {self._config.refs} finds no split: name its folder in dataset.refs.")

    def _row(self, where: str, record: dict, split: str, sizes: dict[Path, tuple[int, int]], tally: Tally) -> Row:
        # Another spelling would be another image to the leakage guard.
        name = inner_name(field(record, "image", str, where), where, self._images)
        path = find_image(self._images, name)
        size = sizes[path] = sizes.get(path) or image_header(path, where).size
        text = field(record, "expression", str, where)
        sample_id, _, _ = _outline(where, record, split)
        if sample_id in self._survey[1]:
            one, two = self._survey[1][sample_id]
            raise DataError(
                f"The id {short(sample_id)} has one expression in {one} and another in {two}: ids name the samples of "
                "all splits, so renumber them or leave 'id' out."
            )
        box, mask = self._truth(record, size, where, tally)
        ref_id, category = name_of(record, "ref_id", sample_id, where), name_of(record, "category", "", where)
        sample = Sample(sample_id, ref_id, text, box, mask, category)
        return image_id_of(name, self._config.coco_names), path, size, sample

    def _truth(self, record: dict, size: tuple[int, int], where: str, tally: Tally) -> tuple[Box, dict]:
        box, mask = record.get("box"), record.get("mask")
        if box is None and mask is None:
            raise DataError(f"{where} has neither 'box' nor 'mask': give one of them.")
        code = None
        if mask is not None:
            code = self._mask_file(mask, size, where) if isinstance(mask, str) else to_rle(mask, *size, where)
        if box is None and code is not None:
            return tight_box(code), code
        xyxy = to_xyxy(box, self._config.box_format, *size, where)
        tally.seen["no mask"] += code is None
        return xyxy, code or box_mask(xyxy, *size, where)

    def _mask_file(self, name: str, size: tuple[int, int], where: str) -> dict:
        path = find_file(self._folder, inner_name(name, where, self._folder, "mask"))
        if real := leads_out(path, self._places):
            raise DataError(LEADS_OUT.format(f"{where} names the mask {path}", real))
        return encode(read_mask(path, size, self._config.mask_threshold, where), where)


def _outline(where: str, record: dict, split: str) -> tuple[str, object, object]:
    """(sample id, expression, mask)."""
    sample_id = name_of(record, "id", f"{split}-{where.rpartition(' ')[2]}", where)
    return sample_id, record.get("expression"), record.get("mask")
