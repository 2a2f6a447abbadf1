"""Data sets of the Hugging Face hub, or local copies of their parquet files, through declared columns.

What a copy calls its columns, its splits and its boxes is in its conf/dataset/*.yaml, with its known defects.
No code of a repository is run: `datasets` reads the tables only.

A column is declared as a path of names joined by dots. It goes into mappings, into every item of a list, and into text
that is JSON. `row_number` is the row's own, from 0.
"""

import hashlib
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from locheads.data.annotation_files import is_number, short
from locheads.data.config import DatasetConfig
from locheads.data.coordinate_frames import to_xyxy
from locheads.data.image_files import image_header
from locheads.data.image_groups import Row, boxes_only, group_samples
from locheads.data.masks import box_mask, overlapping, to_rle
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import find_image, image_id_of, inner_name, plain_name, slug
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError, StoreError, boundary
from locheads.store.atomic import write_bytes
from locheads.store.derived import read_derived_json, write_derived_json
from locheads.store.digest import files_digest, json_digest
from locheads.types import Box, ImageGroup, Sample

log = logging.getLogger(__name__)

COLUMN_CONTENTS = {
    "objects": "the list of objects, where a row is an image; other paths that start with it mean one object",
    "image": "the image itself, where the table holds it",
    "file_name": "its file name",
    "width": "its width (else from its header)",
    "height": "its height",
    "expressions": "one expression, or the list of an object's",
    "expression_ids": "their ids, in the same order",
    "ref_id": "the object's id",
    "box": "four numbers, in dataset.box_format",
    "mask": "polygons, one flat polygon, or run-length code",
    "category": "the object's category",
    "crowd": "1 where the mask is of a crowd",
    "distractors": "the other objects that the expression might mean: how many, or a list of them",
    "negation": "whether the expression says what the object is not",
}
_NEEDED = ("file_name", "expressions", "box")
_CORRECT = "correct dataset.columns"


class HubDataSet(DataSetReader):
    """A copy on the hub, or in `dataset.folder`: nothing is downloaded then. Images of the table are written once."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        super().__init__(config, cache)
        if not config.hub:
            raise ConfigError("dataset.hub is empty: give the hub id that the copy comes from.")
        check_columns(config.columns)
        self._local = bool(config.folder) and self._folder.is_dir()
        if config.folder and not self._local:
            log.warning("%s is not there: %s is taken from the hub, or from its cache.", self._folder, config.hub)
        self._copy_notes = [f"{config.hub}: {note}" for note in config.notes]
        self._contents: dict[str, str] = {}
        self.notes = self._copy_notes

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The samples of one split, grouped by image in the order of the rows; logs the copy's known defects.

        Raises DataError where the copy cannot be had or a row cannot be used; a `tally` that counts leaves
        such rows out.
        """
        tally, source = tally or Tally(), f"{self._config.hub} {split}"
        for note in () if tally.counting else self._copy_notes:
            log.warning("%s", note)
        numbered = enumerate(self._table(split))
        records = (
            ({"row_number": number} | record, f"row {number} of {source}", f"{split}-{number}")
            for number, record in numbered
        )
        rows = list(chain.from_iterable(tally.each(self._rows, records, tally)))
        if missing := boxes_only(tally):
            self.notes = [*self._copy_notes, *missing]
        groups = group_samples(rows, source, tally)
        self._contents[split] = _digest(groups)
        return groups

    def splits(self) -> list[str]:
        """The declared splits."""
        return list(self._config.split_names)

    @property
    def digest(self) -> str:
        """SHA-256 over the samples of the splits that were read: a hub id tells nothing about its content."""
        return json_digest(sorted(self._contents.items()))

    def _table(self, split: str) -> Iterable[dict]:
        import datasets  # late: it takes a second

        hub, name = self._config.hub, self._config.split_names.get(split, split)
        options: dict[str, Any] = {"path": hub, "split": name, "revision": self._config.revision}
        failed = f"The split {name!r} of {hub} cannot be had from the hub"
        advice = "check the network and the name, or put its parquet files into a folder and set dataset.folder to it"
        if self._local:
            files = _files(self._folder, name, hub)
            options = {"path": "parquet", "data_files": list(map(str, files)), "split": "train"}
            failed, advice = f"The parquet files of {hub} in {self._folder} cannot be read", "download them again"
        # Offline, a wrong name, a damaged file: each library below raises its own.
        with boundary(failed, DataError, f"{advice}."):
            table = _load(self._cache, options)
        images = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
        for name in images:
            table = table.cast_column(name, datasets.Image(decode=False))
        return table

    def _rows(self, record: dict, where: str, fallback_id: str, tally: Tally) -> list[Row]:
        """The samples of one row, which is an object or an image of several."""
        path = self._config.columns.get("objects")
        if not path:
            return self._of_object(record, where, fallback_id, record, "", tally)
        objects = find(record, path, where)
        if not isinstance(objects, list):
            raise DataError(f"{where} has no list of objects at {path!r}: correct dataset.columns.")
        named = ((each, f"object {n} of {where}", f"{fallback_id}-{n}") for n, each in enumerate(objects))
        return list(chain.from_iterable(tally.each(self._of_object, named, record, f"{path}.", tally)))

    def _of_object(self, item: Any, where: str, fallback_id: str, record: dict, prefix: str, tally: Tally) -> list[Row]:
        def value(key: str) -> Any:
            path = self._config.columns.get(key)
            if not path:
                return None
            own = bool(prefix) and path.startswith(prefix)
            return find(item if own else record, path.removeprefix(prefix) if own else path, where)

        name = inner_name(plain_name(_text(value("file_name"), "file name", where)), where, self._images)
        path, size = self._image(name, value("image"), value("width"), value("height"), where)
        box = to_xyxy(value("box"), self._config.box_format, *size, where)
        mask = self._mask(value("mask"), box, size, where, tally)
        tally.seen["crowd"] += value("crowd") == 1
        ref_id = str(fallback_id if (own_id := value("ref_id")) is None else own_id)
        about = str(value("category") or ""), _count(value("distractors"), where), _truth(value("negation"), where)
        return [
            (image_id_of(name, of_coco=True), path, size, Sample(sample_id, ref_id, text, box, mask, *about))
            for sample_id, text in _expressions(value("expressions"), value("expression_ids"), ref_id, where)
        ]

    def _image(self, name: str, image: Any, width: Any, height: Any, where: str) -> tuple[Path, tuple[int, int]]:
        column = self._config.columns.get("image")
        if not column:
            path = find_image(self._images, name)
            is_size = all(type(side) is int and 0 < side < 65_536 for side in (width, height))
            return path, (width, height) if is_size else image_header(path, where).size
        content = image.get("bytes") if isinstance(image, dict) else None
        if not content:
            raise DataError(f"{where} holds no image at {column!r}: correct dataset.columns.")
        # A folder per content: another revision may hold another image of this name, while a run still reads this
        # one. The file keeps its name, which may tell its COCO id.
        version = hashlib.sha256(content).hexdigest()[:16]
        path = self._cache / "data" / slug(self._config.hub) / version / slug(name)
        # Bytes as they are: an image that is encoded anew is another image.
        cached = None
        with suppress(OSError):
            cached = path.read_bytes()
        if cached != content:
            if cached is not None:
                log.warning("%s is damaged (it is not what the copy holds) and is made again.", path)
            write_bytes(path, content)
        with boundary(f"{where} holds an image that cannot be read", DataError, "download the copy again."):
            return path, Image.open(io.BytesIO(content)).size

    def _mask(self, mask: Any, box: Box, size: tuple[int, int], where: str, tally: Tally) -> dict:
        if isinstance(mask, str):
            mask = find({"mask": mask}, "mask", where)
        if mask is None:
            tally.seen["no mask"] += 1
            return box_mask(box, *size, where)
        if isinstance(mask, list) and mask and is_number(mask[0]):
            mask = [mask]
        code = to_rle(mask, *size, where)
        tally.seen["overlap"] += tally.counting and overlapping(mask, *size)
        return code


def _expressions(texts: Any, ids: Any, ref_id: str, where: str) -> list[tuple[str, str]]:
    """(id, expression) of one object; ids are numbered where the copy has none."""
    texts = texts if isinstance(texts, list) else [texts]
    ids = [f"{ref_id}-{n}" for n in range(len(texts))] if ids is None else ids if isinstance(ids, list) else [ids]
    if len(ids) != len(texts):
        raise DataError(f"{where} has {len(texts)} expressions but {len(ids)} ids: correct dataset.columns.")
    return [(str(i), _text(text, "expression", where)) for i, text in zip(ids, texts, strict=True)]


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} has the {what} {short(value)}, which is no text: correct dataset.columns.")
    return value


def _count(value: Any, where: str) -> int | None:
    """A number as it is; of a list, how many things; text is read as JSON, or else its numbers are counted, as the
    code of Ref-Adv does."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, str | list):
        return len(re.findall(r"\d+", value) if isinstance(value, str) else value)
    if value is not None and (type(value) is not int or value < 0):
        raise DataError(f"{where} has the distractors {short(value)}, neither a number nor a list: {_CORRECT}.")
    return value


def _truth(value: Any, where: str) -> bool | None:
    if value not in (None, 0, 1):
        raise DataError(f"{where} has the negation {short(value)}, which is neither true nor false: {_CORRECT}.")
    return None if value is None else bool(value)


def _files(folder: Path, name: str, hub: str) -> list[Path]:
    """`val-00000-of-00004.parquet`, `val.parquet` or `ref-l4-val.parquet`, at any depth."""
    pattern = re.compile(rf"(.*-)?{re.escape(name)}(-\d+-of-\d+.*)?\.parquet")
    files = sorted(path for path in folder.rglob("*.parquet") if pattern.fullmatch(path.name))
    if not files:
        raise DataError(
            f"{folder} holds no parquet files of the split {name!r} of {hub}, such as {name}-00000-of-00001.parquet: "
            "download them there, set paths.data or dataset.folder to where they lie, or leave dataset.folder empty to "
            "take them from the hub."
        )
    return files


def _load(cache: Path, options: dict[str, Any]) -> Any:
    """The table that `datasets` keeps, made again where it is not what it was when it was first read."""
    import datasets

    note = cache / "datasets" / f"{json_digest(options)[:16]}.json"
    again = _is_damaged(read_derived_json(note), cache)
    mode = datasets.DownloadMode
    kept = mode.REUSE_CACHE_IF_EXISTS if again else mode.REUSE_DATASET_IF_EXISTS
    table = datasets.load_dataset(**options, cache_dir=str(cache / "datasets"), download_mode=kept)
    folders = {Path(file["filename"]).parent for file in table.cache_files}
    files = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    with suppress(StoreError):  # the next time it is read unchecked, as this time
        write_derived_json(note, {"files": list(map(str, files)), "digest": files_digest(files, cache)})
    return table


def _is_damaged(known: dict[str, Any] | None, cache: Path) -> bool:
    """Whether files that `datasets` keeps have changed (logged) or gone since they were noted."""
    if known is None:
        return False
    files = list(map(Path, known["files"]))
    try:
        if files_digest(files, cache) == known["digest"]:
            return False
    except OSError:
        return True
    log.warning("The table that is kept in %s is damaged and is made again.", files[0].parent)
    return True


def _digest(groups: list[ImageGroup]) -> str:
    content = hashlib.sha256()
    for g, s in ((group, sample) for group in groups for sample in group.samples):
        line = [g.image_id, g.width, g.height, s.sample_id, s.ref_id, s.expression, s.box, s.mask]
        content.update(json.dumps(line).encode())
    return content.hexdigest()


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises ConfigError for a key that means nothing, and for a needed one that is absent."""
    for key in columns:
        if key not in COLUMN_CONTENTS:
            raise ConfigError(f"dataset.columns.{key} means nothing: there are {', '.join(COLUMN_CONTENTS)}.")
    for key in _NEEDED:
        if not columns.get(key):
            raise ConfigError(
                f"dataset.columns.{key} is not declared: name the column that holds {COLUMN_CONTENTS[key]}."
            )


def find(row: Any, path: str, where: str) -> Any:
    """What `path` leads to; None where a mapping on the way has no value there.

    Raises DataError where the way ends: no such column, or a value of another kind.
    """
    for name in path.split("."):
        if isinstance(row, str):
            failed = f"{where} holds text on the way {path!r} that is not JSON"
            with boundary(failed, DataError, "correct dataset.columns."):
                row = json.loads(row)
        if row is None:
            return None
        many = isinstance(row, list)
        row = [_step(item, name, path, where) for item in row] if many else _step(row, name, path, where)
    return row


def _step(value: Any, name: str, path: str, where: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        kind = f"only {', '.join(map(short, value))}" if isinstance(value, Mapping) else type(value).__name__
        raise DataError(f"{where} has no {name!r} on the way {path!r}, {kind}: correct dataset.columns for this copy.")
    return value[name]
