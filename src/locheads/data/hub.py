"""Data sets of the Hugging Face hub, or local copies of their parquet files, through declared columns.

What a copy calls its columns, its splits and its boxes is in its conf/dataset/*.yaml, with its known defects.
No code of a repository is run: `datasets` reads the tables only.
"""

import hashlib
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from locheads.data.annotation_files import is_number, short
from locheads.data.columns import check_columns, find
from locheads.data.config import BoxFormat
from locheads.data.coordinate_frames import to_xyxy
from locheads.data.image_files import image_size
from locheads.data.image_groups import Row, boxes_only, group_samples
from locheads.data.masks import box_mask, overlapping, to_rle
from locheads.data.pathnames import find_image, inner_name, plain_name, slug
from locheads.data.tally import Tally
from locheads.errors import DataError, StoreError
from locheads.store.atomic import write_bytes
from locheads.store.derived import read_derived_json, write_derived_json
from locheads.store.digest import files_digest, json_digest
from locheads.types import Box, ImageGroup, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubCopy:
    """One copy of a data set."""

    hub: str
    """Its hub id; names it where `folder` is used, too."""
    folder: Path | None
    """A local copy of its parquet files: nothing is downloaded then."""
    columns: Mapping[str, str]
    images: Path
    """Images, where the table holds none."""
    cache: Path
    """Images of the table are written here once; `datasets` keeps its files here."""
    revision: str | None = None
    form: BoxFormat = BoxFormat.xywh
    split_names: Mapping[str, str] = field(default_factory=dict)
    """Official name of a split -> the copy's; others keep theirs."""
    notes: tuple[str, ...] = ()
    of_coco: bool = True
    """Whether its images are COCO's: see `image_id_of`."""


class HubDataSet:
    """A copy on the hub or on disk."""

    def __init__(self, copy: HubCopy) -> None:
        check_columns(copy.columns)
        self._copy, self._copy_notes = copy, [f"{copy.hub}: {note}" for note in copy.notes]
        self._contents: dict[str, str] = {}
        self.notes = list(self._copy_notes)

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The samples of one split, grouped by image in the order of the rows; logs the copy's known defects.

        Raises DataError where the copy cannot be had or a row cannot be used; a `tally` that counts leaves
        such rows out.
        """
        tally = tally or Tally()
        for note in () if tally.counting else self._copy_notes:
            log.warning("%s", note)
        rows: list[Row] = []
        for number, record in enumerate(self._table(split)):
            where = f"row {number} of {self._copy.hub} {split}"
            rows += tally.attempt(self._rows, record, where, f"{split}-{number}", tally) or ()
        if missing := boxes_only(tally):
            self.notes = [*self._copy_notes, *missing]
        groups = group_samples(rows, f"{self._copy.hub} {split}", tally, self._copy.of_coco)
        self._contents[split] = _digest(groups)
        return groups

    def splits(self) -> list[str]:
        """The declared splits."""
        return list(self._copy.split_names)

    @property
    def digest(self) -> str:
        """SHA-256 over the samples of the splits that were read: a hub id tells nothing about its content."""
        return hashlib.sha256(json.dumps(sorted(self._contents.items())).encode()).hexdigest()

    def _table(self, split: str) -> Iterable[dict]:
        import datasets  # late: it takes a second

        copy, name = self._copy, self._copy.split_names.get(split, split)
        files = _files(copy.folder, name, copy.hub) if copy.folder else []
        options: dict[str, Any] = {"path": copy.hub, "split": name, "revision": copy.revision}
        if files:
            options = {"path": "parquet", "data_files": list(map(str, files)), "split": "train"}
        try:
            table = _load(copy.cache, options)
        # Offline, a wrong name, a damaged file: each library below raises its own.
        except Exception as error:
            raise DataError(_unavailable(copy, name, bool(files), error)) from error
        return _without_decoding(table, datasets.Image(decode=False))

    def _rows(self, record: dict, where: str, fallback_id: str, tally: Tally) -> list[Row]:
        """The samples of one row, which is an object or an image of several."""
        objects_path = self._copy.columns.get("objects")
        if not objects_path:
            return self._of_object(record, record, "", where, fallback_id, tally)
        objects = find(record, objects_path, where)
        if not isinstance(objects, list):
            raise DataError(f"{where} has no list of objects at {objects_path!r}: correct dataset.columns.")
        rows: list[Row] = []
        for number, each in enumerate(objects):
            place = f"{objects_path}.", f"object {number} of {where}", f"{fallback_id}-{number}"
            rows += tally.attempt(self._of_object, each, record, *place, tally) or ()
        return rows

    def _of_object(self, item: Any, record: dict, prefix: str, where: str, fallback_id: str, tally: Tally) -> list[Row]:
        def value(key: str) -> Any:
            path = self._copy.columns.get(key)
            if not path:
                return None
            own = bool(prefix) and path.startswith(prefix)
            return find(item if own else record, path.removeprefix(prefix) if own else path, where)

        name = inner_name(plain_name(_text(value("file_name"), "file name", where)), where, self._copy.images)
        path, size = self._image(name, value("image"), value("width"), value("height"), where)
        box = to_xyxy(value("box"), self._copy.form, *size, where)
        mask = self._mask(value("mask"), box, size, where, tally)
        tally.seen["crowd"] += value("crowd") == 1
        ref_id = str(fallback_id if (own_id := value("ref_id")) is None else own_id)
        category = str(value("category") or "")
        return [
            (name, path, size, Sample(sample_id, ref_id, text, box, mask, category))
            for sample_id, text in _expressions(value("expressions"), value("expression_ids"), ref_id, where)
        ]

    def _image(self, name: str, image: Any, width: Any, height: Any, where: str) -> tuple[Path, tuple[int, int]]:
        if not self._copy.columns.get("image"):
            path = find_image(self._copy.images, name)
            is_size = type(width) is int and type(height) is int and 0 < width < 65_536 and 0 < height < 65_536
            return path, (width, height) if is_size else image_size(path, where)
        content = image.get("bytes") if isinstance(image, dict) else None
        if not content:
            raise DataError(f"{where} holds no image at {self._copy.columns['image']!r}: correct dataset.columns.")
        # A folder per content: another revision may hold another image of this name, while a run still reads this
        # one. The file keeps its name, which may tell its COCO id.
        version = hashlib.sha256(content).hexdigest()[:16]
        path = self._copy.cache / "data" / slug(self._copy.hub) / version / slug(name)
        # Bytes as they are: an image that is encoded anew is another image.
        if (cached := _bytes(path)) != content:
            if cached is not None:
                log.warning("%s is damaged (it is not what the copy holds) and is made again.", path)
            write_bytes(path, content)
        try:
            with Image.open(io.BytesIO(content)) as opened:
                return path, opened.size
        except Exception as error:
            raise DataError(f"{where} holds an image that cannot be read: download the copy again.") from error

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


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


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


def _unavailable(copy: HubCopy, name: str, local: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {short((str(error).splitlines() or [''])[0])}"
    if local:
        return f"The parquet files of {copy.hub} in {copy.folder} cannot be read ({reason}): download them again."
    return (
        f"The split {name!r} of {copy.hub} cannot be had from the hub ({reason}): check the network and the name, "
        "or put its parquet files into a folder and set dataset.folder to it."
    )


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


def _without_decoding(table: Any, undecoded: Any) -> Any:
    for name, feature in table.features.items():
        if type(feature).__name__ == "Image":
            table = table.cast_column(name, undecoded)
    return table


def _digest(groups: list[ImageGroup]) -> str:
    content = hashlib.sha256()
    for group in groups:
        for s in group.samples:
            line = [group.image_id, group.width, group.height, s.sample_id, s.ref_id, s.expression, s.box, s.mask]
            content.update(json.dumps(line).encode())
    return content.hexdigest()
