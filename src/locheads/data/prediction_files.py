"""Other people's predictions: a JSONL or CSV file of boxes, masks or both, read line by line.

A line is `{"id": "12", "box": [x, y, w, h], "mask": {...}}`. Where the file has no masks, a box stands for its mask;
where it has no boxes, a mask's tight box. `null` (CSV: an empty cell) says that nothing was answered. A box may also be
the model's answer in words, which is read as stage=direct reads it.
"""

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, assert_never

from pycocotools import mask as coco

from locheads.data.annotation_files import is_number, short
from locheads.data.box_text import WrittenBox, placed_point, read_answer, read_point
from locheads.data.config import AnswerFormat, BoxFormat, Frame, PointFormat, PredictionsConfig
from locheads.data.coordinate_frames import (
    BoxFault,
    CoordinateFrame,
    fault_of,
    in_pixels,
    padded_square,
    resized,
    smart_size,
    whole_image,
)
from locheads.data.masks import any_rle, box_code, tight_box
from locheads.errors import ConfigError, DataError
from locheads.types import Box

_LONGEST_CELL = 1 << 26  # a mask is longer than csv admits by itself
_NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>"}
"""Cells that say that nothing was answered, in lower case: empty ones, and what pandas and R write."""
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Answer:
    """What a file says about one sample; None where it answers nothing."""

    sample_id: str
    box: Box | None
    mask: dict[str, object] | None
    """COCO run-length code."""
    written: WrittenBox | None = field(default=None, compare=False)
    """How the box stands in the file; None where the line has none."""
    point: tuple[float, float] | None = None
    """(x, y) in pixels, of a file of points."""


def read_predictions(
    path: Path, form: PredictionsConfig, sizes: dict[str, tuple[int, int]], what: str
) -> Iterator[Answer]:
    """The answers in the order of the file. `sizes`: sample id -> (width, height) of its image, of the samples that
    the file may be about; `what` names these in an error.

    A box that spans no area answers nothing. Raises DataError, naming file and line, for what is no prediction, an
    unknown id, one that is there twice, and lines of which only some have boxes or masks; ConfigError where the
    boxes' format is not stated.
    """
    seen: dict[str, str] = {}
    kinds: list[str] | None = None
    for where, record in _records(path, form):
        kinds = _kinds(record, form, kinds, where)
        sample_id = _id(record, form.id, where, sizes)
        if sample_id not in sizes:
            raise DataError(
                f"{where} is about the sample {short(sample_id)}, which {what} does not hold: choose the data set and "
                "split that the file is about, or set predictions_format.id to where its ids are."
            )
        if sample_id in seen:
            raise DataError(
                f"{where} is about the sample {short(sample_id)}, which {seen[sample_id]} is about, too: remove one."
            )
        seen[sample_id] = where.removeprefix(f"{path}, ")
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


def frame_of(form: PredictionsConfig, width: int, height: int) -> CoordinateFrame:
    """What the coordinates of an image's boxes refer to."""
    match form.frame:
        case Frame.image:
            return whole_image(width, height)
        case Frame.padded_square:
            return padded_square(width, height, form.side)
        case Frame.input:
            own = (form.side, form.side) if form.side else (width, height)
            if not form.side and form.multiple:
                own = smart_size(width, height, form.multiple, form.min_pixels, form.max_pixels)
            return resized(width, height, own)
    assert_never(form.frame)


def _answer(record: dict, form: PredictionsConfig, sample_id: str, size: tuple[int, int], where: str) -> Answer:
    has_box, has_mask = form.box in record, form.mask in record
    if form.point_format is not None:
        if has_mask:
            raise DataError(
                f"{where} has a mask, but predictions_format.point_format says that the file holds points: set it "
                "to null."
            )
        return _point(record[form.box], form.point_format, sample_id, frame_of(form, *size), where)
    written = _box(record[form.box], form, size, where) if has_box else None
    box = written.box if written else None
    code = _mask(record[form.mask], size, where) if has_mask else None
    if not has_mask and box is not None:
        code = box_code(box, *size)
    if not has_box and code is not None:
        box = tight_box(code)
    return Answer(sample_id, box, code, written)


def _point(values: object, form: PointFormat, sample_id: str, frame: CoordinateFrame, where: str) -> Answer:
    if values is None:
        return Answer(sample_id, None, None)
    if isinstance(values, str):
        point, several = read_point(values, form, frame)
        fault = None if point else BoxFault.no_numbers
        return Answer(sample_id, None, None, WrittenBox(fault=fault, several=several), point)
    if not isinstance(values, list) or len(values) != 2 or not all(is_number(value) for value in values):
        raise DataError(
            f"{where} has the point {short(values)}, which is not two finite numbers: correct the line, or write null "
            "where nothing was answered."
        )
    point = placed_point(values, form, frame)
    return Answer(sample_id, None, None, WrittenBox(fault=None if point else BoxFault.outside), point)


def _box(values: object, form: PredictionsConfig, size: tuple[int, int], where: str) -> WrittenBox | None:
    """None where nothing was answered. A box beyond its frame is kept as it was answered."""
    if _is_nothing(values):
        return None
    if form.box_format is None:
        raise ConfigError(
            f"{where} has a box, but how it is written is not stated: choose predictions_format=FORMAT, one of "
            f"{', '.join(BoxFormat)}."
        )
    frame = frame_of(form, *size)
    if isinstance(values, str):
        return read_answer(values, AnswerFormat(form.box_format.value), frame, *size)
    numbers = _flat(values)
    if numbers is None:
        raise DataError(
            f"{where} has the box {short(values)}, which is not four finite numbers: correct the line, or write null "
            "where nothing was answered."
        )
    box = in_pixels(numbers, form.box_format, frame)
    kept = box if box[2] > box[0] and box[3] > box[1] else None
    return WrittenBox(kept, fault_of(box, form.box_format, frame), tuple(map(float, numbers)))


def _is_nothing(values: object) -> bool:
    if isinstance(values, list):
        return len(values) == 4 and all(isinstance(value, float) and math.isnan(value) for value in values)
    return values is None or (isinstance(values, float) and math.isnan(values))


def _flat(values: object) -> list[float] | None:
    """[1, 2, 3, 4] from itself, [[1, 2, 3, 4]] or [[1, 2], [3, 4]]; None for anything but four finite numbers."""
    if isinstance(values, list) and [len(v) if isinstance(v, list) else 0 for v in values] in ([4], [2, 2]):
        values = [number for part in values for number in part]
    whole = isinstance(values, list) and len(values) == 4 and all(is_number(value) for value in values)
    return values if whole else None  # type: ignore[return-value]


def _mask(segmentation: object, size: tuple[int, int], where: str) -> dict[str, object] | None:
    if segmentation is None or segmentation == []:
        return None
    code = any_rle(segmentation, *size, where)
    return code if coco.area(code) else None


def _id(record: dict, key: str, where: str, known: Iterable[str]) -> str:
    value = record.get(key)
    # pandas makes floats of whole numbers where a row has none.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value not in known and re.fullmatch(r"\d+\.0*", value):
        value = value.split(".")[0]
    if (isinstance(value, str) and value.strip()) or type(value) is int:
        return str(value)
    raise DataError(f"{where} has no text or whole number at {key!r}: set predictions_format.id to where the ids are.")


def _records(path: Path, form: PredictionsConfig) -> Iterator[tuple[str, dict]]:
    """("FILE, line 3", its content) of every line that is not blank."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv}
    if path.suffix.lower() not in readers:
        raise DataError(f"predictions={path} is neither *.jsonl nor *.csv: convert it to one of them.")
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            stream.seek(0)
            wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            if b"\0" in head and not wide:
                raise DataError(f"{path} is no text in UTF-8 (it holds NUL bytes): save it as UTF-8.")
            yield from readers[path.suffix.lower()](stream, path, form, "utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise DataError(f"predictions={path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is neither UTF-8 nor UTF-16 ({error.reason}): save it as UTF-8.") from error


def _jsonl(stream: BinaryIO, path: Path, form: PredictionsConfig, encoding: str) -> Iterator[tuple[str, dict]]:
    wide = io.TextIOWrapper(stream, encoding=encoding) if encoding == "utf-16" else None
    for number, line in enumerate(stream if wide is None else (text.encode() for text in wide), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        record = _json(line, where)
        if not isinstance(record, dict):
            raise DataError(f"{where} is not a mapping but {type(record).__name__}: correct the line.")
        yield where, record


def _csv(stream: BinaryIO, path: Path, form: PredictionsConfig, encoding: str) -> Iterator[tuple[str, dict]]:
    csv.field_size_limit(_LONGEST_CELL)
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    number = 1
    try:
        first = text.readline()
        if declared := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # Excel's own hint
            first, number = text.readline(), 2
        table = _Table(path, first, form, declared[1] if declared else None)
        rows, header = csv.reader(text, delimiter=table.separator, strict=True, skipinitialspace=True), number
        for cells in rows:
            number = header + rows.line_num
            if any(cell.strip() for cell in cells):
                where = f"{path}, line {number}"
                yield where, table.record(cells, where)
    except csv.Error as error:
        raise DataError(f"{path}, line {number + 1} is no CSV ({error}): correct the line.") from error


class _Table:
    """The columns of a CSV, from its first line; what separates them is what shows a column of ids."""

    def __init__(self, path: Path, first: str, form: PredictionsConfig, separator: str | None) -> None:
        self._form = form
        self._four = re.split(r"\s*[,;]\s*", form.box.strip())
        by_separator = {sep: _cells(first, sep) for sep in (separator or _SEPARATORS)}
        fitting = [sep for sep, names in by_separator.items() if form.id in names]
        self.separator = fitting[0] if fitting else max(by_separator, key=lambda sep: len(by_separator[sep]))
        self.names = by_separator[self.separator]
        columns = f"{path}, line 1 has the columns {short(self.names)}"
        if not fitting:
            raise DataError(f"{columns}, but not {form.id!r}: set predictions_format.id to where the ids are.")
        self._is_split = len(self._four) == (2 if form.point_format else 4) and set(self._four) <= set(self.names)
        if not self._is_split and not {form.box, form.mask} & set(self.names):
            raise DataError(
                f"{columns}, but neither {form.box!r} nor {form.mask!r}: set predictions_format.box or .mask to where "
                "they are."
            )
        if twice := [name for name in self.names if name and self.names.count(name) > 1]:
            raise DataError(f"{columns}, of which {twice[0]!r} is there twice: rename one.")

    def record(self, cells: list[str], where: str) -> dict[str, object]:
        """A row as a line of a JSONL would be."""
        cells = [cell.strip() for cell in cells]
        while len(cells) > len(self.names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(self.names):
            raise DataError(
                f"{where} has not as many cells as the first line has names ({len(cells)}, not {len(self.names)}): "
                "correct the line."
            )
        row, form = dict(zip(self.names, cells, strict=True)), self._form
        record: dict[str, object] = {form.id: row[form.id]}
        if self._is_split:
            record[form.box] = self._numbers(row, where)
        elif form.box in row:
            record[form.box] = self._written(row[form.box], where)
        if form.mask in row:
            mask = row[form.mask]
            record[form.mask] = None if mask.lower() in _NOTHING else _json(mask, f"{where}, column {form.mask}")
        return record

    def _numbers(self, row: dict[str, str], where: str) -> list[float] | None:
        """Of four columns."""
        if all(row[name].lower() in _NOTHING for name in self._four):
            return None
        return [self._number(row[name], f"{where}, column {name}") for name in self._four]

    def _number(self, cell: str, where: str) -> float:
        plain = re.fullmatch(r"([-+]?\d+),(\d+)", cell) if self.separator != "," else None
        try:
            value = float(f"{plain[1]}.{plain[2]}" if plain else cell)  # a European decimal comma
        except ValueError:
            value = math.nan
        if not is_number(value):
            raise DataError(
                f"{where} holds {short(cell)}, which is no finite number: correct the cell, or leave all of them empty "
                "where nothing was answered."
            )
        return value

    def _written(self, cell: str, where: str) -> object:
        """A box in one cell: JSON, or the model's words."""
        if cell.lower() in _NOTHING:
            return None
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass
        form = self._form.box_format
        known = form and read_answer(cell, AnswerFormat(form.value), whole_image(1, 1), 1, 1).numbers
        if self._form.point_format is None and known is None:
            raise DataError(
                f"{where}, column {self._form.box} holds {short(cell)}, which is no box: correct the cell, or leave it "
                "empty where nothing was answered."
            )
        return cell


def _cells(line: str, separator: str) -> list[str]:
    rows = list(csv.reader([line], delimiter=separator, skipinitialspace=True))
    return [name.strip() for name in rows[0]] if rows else []


def _json(text: str | bytes, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not complete JSON ({str(error).splitlines()[0]}): correct the line.") from error
