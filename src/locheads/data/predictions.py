"""Other people's predictions: a JSONL or CSV file of boxes, masks or both, read line by line.

A line is `{"id": "12", "box": [x, y, w, h], "mask": {...}}`. Where the file has no masks, a box stands for its mask;
where it has no boxes, a mask's tight box. `null` (CSV: an empty cell) says that nothing was answered.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pycocotools import mask as coco

from locheads.data.boxes import in_pixels
from locheads.data.choices import BoxFormat, PredictionsConfig
from locheads.data.masks import any_rle, box_code, tight_box
from locheads.data.records import is_number, short
from locheads.errors import ConfigError, DataError
from locheads.types import Box

_LONGEST_CELL = 1 << 26  # a mask is longer than csv admits by itself


@dataclass(frozen=True)
class Answer:
    """What a file says about one sample; None where it answers nothing."""

    sample_id: str
    box: Box | None
    mask: dict[str, object] | None
    """COCO run-length code."""


def read_predictions(
    path: Path, form: PredictionsConfig, sizes: dict[str, tuple[int, int]], what: str
) -> Iterator[Answer]:
    """The answers in the order of the file. `sizes`: sample id -> (width, height) of its picture, of the samples that
    the file may be about; `what` names these in an error.

    A box that spans no area answers nothing. Raises DataError, naming file and line, for what is no prediction, an
    unknown id, one that is there twice, and lines of which only some have boxes or masks; ConfigError where the
    boxes' format is not stated.
    """
    seen: set[str] = set()
    kinds: list[str] | None = None
    for where, record in _records(path, form):
        kinds = _kinds(record, form, kinds, where)
        sample_id = _id(record, form.id, where)
        if sample_id not in sizes:
            raise DataError(
                f"{where} is about the sample {short(sample_id)}, which {what} does not hold: choose the data set and "
                "split that the file is about, or set predictions_format.id to where its ids are."
            )
        if sample_id in seen:
            raise DataError(f"{where} is about the sample {short(sample_id)}, which an earlier line has: remove one.")
        seen.add(sample_id)
        yield _answer(record, form, sample_id, sizes[sample_id], where)


def _kinds(record: dict, form: PredictionsConfig, before: list[str] | None, where: str) -> list[str]:
    """Which of box and mask the line has: the same as the lines before, because it decides what stands for what."""
    kinds = [key for key in (form.box, form.mask) if key in record]
    if not kinds:
        raise DataError(
            f"{where} has neither {form.box!r} nor {form.mask!r}: set predictions_format.box or .mask to where they "
            "are, and write null where nothing was answered."
        )
    if before is not None and kinds != before:
        raise DataError(
            f"{where} has {' and '.join(kinds)}, but the lines before have {' and '.join(before)}: give every line the "
            "same, and write null where nothing was answered."
        )
    return kinds


def _answer(record: dict, form: PredictionsConfig, sample_id: str, size: tuple[int, int], where: str) -> Answer:
    has_box, has_mask = form.box in record, form.mask in record
    box = _box(record[form.box], form, size, where) if has_box else None
    code = _mask(record[form.mask], size, where) if has_mask else None
    if not has_mask and box is not None:
        code = box_code(box, *size)
    if not has_box and code is not None:
        box = tight_box(code)
    return Answer(sample_id, box, code)


def _box(values: object, form: PredictionsConfig, size: tuple[int, int], where: str) -> Box | None:
    if values is None:
        return None
    if form.box_format is None:
        raise ConfigError(
            f"{where} has a box, but how it is written is not stated: choose predictions_format=FORMAT, one of "
            f"{', '.join(BoxFormat)}."
        )
    if not isinstance(values, list) or len(values) != 4 or not all(is_number(value) for value in values):
        raise DataError(
            f"{where} has the box {short(values)}, which is not four finite numbers: correct the line, or write null "
            "where nothing was answered."
        )
    box = in_pixels(values, form.box_format, *size)
    return box if box[2] > box[0] and box[3] > box[1] else None


def _mask(segmentation: object, size: tuple[int, int], where: str) -> dict[str, object] | None:
    if segmentation is None or segmentation == []:
        return None
    code = any_rle(segmentation, *size, where)
    return code if coco.area(code) else None


def _id(record: dict, key: str, where: str) -> str:
    value = record.get(key)
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise DataError(f"{where} has no text or whole number at {key!r}: set predictions_format.id to where the ids are.")


def _records(path: Path, form: PredictionsConfig) -> Iterator[tuple[str, dict]]:
    """("FILE, line 3", its content) of every line that is not blank."""
    readers = {".jsonl": _jsonl, ".csv": _csv}
    if path.suffix not in readers:
        raise DataError(f"predictions={path} is neither *.jsonl nor *.csv: convert it to one of them.")
    try:
        with path.open("rb") as stream:
            yield from readers[path.suffix](stream, path, form)
    except OSError as error:
        raise DataError(f"predictions={path} cannot be read: {error.strerror or error}.") from error


def _jsonl(stream: BinaryIO, path: Path, form: PredictionsConfig) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        record = _json(line, where)
        if not isinstance(record, dict):
            raise DataError(f"{where} is not a mapping but {type(record).__name__}: correct the line.")
        yield where, record


def _csv(stream: BinaryIO, path: Path, form: PredictionsConfig) -> Iterator[tuple[str, dict]]:
    csv.field_size_limit(_LONGEST_CELL)
    rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    try:
        names = rows.fieldnames or ()
        four = form.box.split(",")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where} has not as many cells as the first line has names: correct the line.")
            record: dict[str, object] = {form.id: row.get(form.id)}
            if len(four) == 4 and set(four) <= set(names):
                cells = [row[name].strip() for name in four]
                record[form.box] = [_json(cell, where) for cell in cells] if any(cells) else None
            record |= {key: _json(row[key], where) if row[key].strip() else None for key in (form.box, form.mask)
                       if key in row}  # fmt: skip
            yield where, record
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}, line {rows.line_num + 1} is no CSV ({error}): correct the line.") from error


def _json(text: str | bytes, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not complete JSON ({str(error).splitlines()[0]}): correct the line.") from error
