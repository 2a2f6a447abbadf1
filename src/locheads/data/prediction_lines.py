"""The lines of a file of predictions, JSONL or CSV, as one mapping each, read one after the other."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from locheads.data.annotation_files import encoding_of, is_number, mapping, parse_json, readable, short
from locheads.data.box_text import read_answer
from locheads.data.config import AnswerFormat, PredictionsConfig
from locheads.data.coordinate_frames import whole_image
from locheads.errors import DataError

_LONGEST_CELL = 1 << 26  # a mask is longer than csv admits by itself
_NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>"}
"""Cells that say that nothing was answered, in lower case: empty ones, and what pandas and R write."""
_SEPARATORS = ",;\t|"


def prediction_lines(path: Path, form: PredictionsConfig) -> Iterator[tuple[str, dict]]:
    """("FILE, line 3", its content) of every line that is not blank."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv}
    if path.suffix.lower() not in readers:
        raise DataError(f"predictions={path} is neither *.jsonl nor *.csv: convert it to one of them.")
    try:
        with readable(path, f"predictions={path}"), path.open("rb") as stream:
            head = stream.read(4096)
            stream.seek(0)
            encoding = encoding_of(head)
            if b"\0" in head and encoding == "utf-8-sig":
                raise DataError(f"{path} is no text in UTF-8 (it holds NUL bytes): save it as UTF-8.")
            yield from readers[path.suffix.lower()](stream, path, form, encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is neither UTF-8 nor UTF-16 ({error.reason}): save it as UTF-8.") from error


def _jsonl(stream: BinaryIO, path: Path, form: PredictionsConfig, encoding: str) -> Iterator[tuple[str, dict]]:
    # UTF-8 as bytes, so that a line in another encoding is named.
    lines: Iterable[Any] = stream if encoding == "utf-8-sig" else io.TextIOWrapper(stream, encoding=encoding)
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, mapping(parse_json(line, where), where)


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
            record[form.mask] = None if mask.lower() in _NOTHING else parse_json(mask, f"{where}, column {form.mask}")
        if form.scores in row:
            scores = row[form.scores]
            nothing = scores.lower() in _NOTHING
            record[form.scores] = None if nothing else parse_json(scores, f"{where}, column {form.scores}")
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
