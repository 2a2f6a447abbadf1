"""Look-ups in records that other people wrote: the value, or one sentence that names the record."""

import gc
import hashlib
import io
import itertools
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from locheads.data.tally import Tally
from locheads.errors import DataError, boundary
from locheads.store.digest import file_digest

T = TypeVar("T")

NO_FILES = "The data set has no annotation file: correct dataset.folder or dataset.refs."
_LARGEST = 1e9
"""No coordinate comes near; also keeps C code from overflowing."""
_LARGEST_ID = 2**63
ADVICE = "take the file anew from its publisher, or correct the record"
_NAMES = {int: "a whole number", str: "text", list: "a list", dict: "a mapping"}
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {BOM_UTF32_LE: "utf-32", BOM_UTF32_BE: "utf-32", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}


def mapping(record: object, where: str) -> dict:
    """The record, if it is a mapping. `where` names it in the DataError."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a mapping but {type(record).__name__}: {ADVICE}.")
    return record


def field(record: object, key: str, kind: type[T], where: str) -> T:
    """`record[key]`, checked to be of exactly this kind. `where` names the record in the DataError."""
    if key not in mapping(record, where):
        raise DataError(f"{where} has no {key!r}: {ADVICE}.")
    value = record[key]  # type: ignore[index]
    # `True` is an int in Python, but no data set means it as one.
    if not isinstance(value, kind) or isinstance(value, bool):
        found = f"of type {type(value).__name__} where {_NAMES[kind]} is needed, {short(value)}"
        raise DataError(f"{where} has {key!r} {found}: {ADVICE}.")
    if isinstance(value, int) and abs(value) > _LARGEST_ID:
        raise DataError(f"{where} has a {key!r} of more than 64 bits: {ADVICE}.")
    if isinstance(value, str):
        check_text(value, key, where)
    return value


def whole_ids(records: object, *keys: str) -> None:
    """Turns ids that other programs wrote as 7.0 (pandas) or "7" into 7, in place; others stay for `field` to name."""
    mappings = (each for each in records if isinstance(each, dict)) if isinstance(records, list) else ()
    for record, key in itertools.product(mappings, keys):
        value: Any = record.get(key)
        digits = isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value)
        if digits or (isinstance(value, float) and value.is_integer()):
            record[key] = int(value)


def check_text(value: str, key: str, where: str) -> None:
    """Raises DataError for half of a surrogate pair, which JSON may hold and neither a tokenizer nor a file takes."""
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where} has half of a surrogate pair in {key!r}, which is no letter: {ADVICE}.")


def name_of(record: dict, key: str, default: str, where: str) -> str:
    """`record[key]`, text or a whole number, as text; the default where it is absent or null."""
    value = record.get(key)
    if value is None:
        return default
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where} has {key!r} of type {type(value).__name__}, not a text or a number: {ADVICE}.")
    check_text(str(value), key, where)
    return str(value)


def is_number(value: object, limit: float = _LARGEST) -> bool:
    """Whether it is an int or float with |value| <= limit: False for NaN, infinities, text and booleans."""
    return type(value) in (int, float) and abs(value) <= limit  # type: ignore[arg-type]


def are_numbers(values: object, count: int, limit: float = _LARGEST) -> bool:
    """Whether it is a list of `count` numbers, each as `is_number` says."""
    return isinstance(values, list) and len(values) == count and all(is_number(value, limit) for value in values)


def side(record: dict, key: str, where: str) -> int:
    """The width or height of an image in pixels. Raises DataError where no JPEG could have it."""
    value = field(record, key, int, where)
    if not 1 <= value <= 65_535:
        raise DataError(f"{where} has the {key} {short(value)}, but an image has 1 to 65535 pixels a side: {ADVICE}.")
    return value


def xywh_box(record: dict, where: str) -> tuple[float, float, float, float]:
    """`record["bbox"]`, `[x, y, width, height]` in pixels (COCO) -> xyxy in pixels, not clipped.

    Raises DataError where it is not four finite numbers with a positive width and height.
    """
    values = field(record, "bbox", list, where)
    if not are_numbers(values, 4) or min(values[2:]) <= 0:
        raise DataError(
            f"{where} has the bbox {short(values)}, which is not [x, y, width, height] in pixels with finite "
            f"numbers and a width and height above 0: {ADVICE}."
        )
    x, y, width, height = map(float, values)
    return x, y, x + width, y + height


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For reading large files, as a decorator too: nothing is garbage yet, the search doubles the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def readable(path: Path, name: str = "") -> Iterator[None]:
    """Around the reading of a file: raises DataError, naming it, where it is absent or may not be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{name or path} cannot be read: {error.strerror or error}.") from error


def encoding_of(content: bytes) -> str:
    """By the byte order mark: UTF-16 or UTF-32, else UTF-8. Each of these decoders takes the mark away."""
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")


def read_text(path: Path, fallback: str | None = None) -> str:
    """The text of a file: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one (Excel, PowerShell).

    Ends of lines stay as they are. Raises DataError, naming the file and the first wrong byte, for any other encoding;
    `fallback` is that of a file that is none of these.
    """
    with readable(path):
        content = path.read_bytes()
    try:
        text = content.decode(encoding_of(content))
    except UnicodeDecodeError as error:
        if fallback is not None:
            return content.decode(fallback, "replace")
        raise DataError(f"{path}{_place(content, error)}: save it as UTF-8.") from error
    if "\0" in text:  # what UTF-16 without a mark looks like; no text holds it
        place = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path} holds a zero byte in line {place}, as UTF-16 without a mark does: save it as UTF-8.")
    return text


def _place(content: bytes, error: UnicodeDecodeError) -> str:
    """Where the text ends to be text."""
    line = content[: error.start].count(b"\n") + 1
    byte = f"byte 0x{content[error.start]:02x}, number {error.start} of the file"
    return f", line {line} is not {error.encoding.upper()} text ({byte})"


def parse_json(text: str | bytes, where: str, advice: str = "correct the line") -> object:
    """The content of a text in JSON. `where` names it in the DataError for what is not complete JSON."""
    with boundary(f"{where} is not complete JSON", DataError, f"{advice}."):
        return json.loads(text)


def read_json(path: Path, fallback: str | None = None) -> object:
    """The content of a JSON file. Raises DataError as `read_text`, and where it is not complete JSON."""
    return parse_json(read_text(path, fallback), str(path), "copy or download it again")


def read_lines(path: Path, tally: Tally) -> list[tuple[str, dict]]:
    """(where, object) of every line of a JSONL file that is not blank; `where` is "FILE, line 3".

    Raises DataError as `read_text`, and (or counts it) for a line that is no JSON object.
    """
    # The lines as editors count them: str.splitlines would also split at U+2028, which JSON texts may hold.
    lines = enumerate(io.StringIO(read_text(path), newline=None), 1)
    named = ((line, f"{path}, line {number}") for number, line in lines if line.strip())
    return list(tally.each(_line, named))


def _line(text: str, where: str) -> tuple[str, dict]:
    return where, mapping(parse_json(text, where), where)


def require(path: Path, layout: str, more: str = "") -> None:
    """Raises DataError, which shows the expected `layout`, where the path is not there."""
    if not path.exists():
        raise DataError(
            f"{path} is not there, but {layout}: set paths.data to the folder of all data sets or dataset.folder to "
            f"this one.{more}"
        )


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over the digests of files: changes when any changes.

    Raises DataError where one is absent, and where there is none: the digest of nothing stands for no data.
    """
    digests = [file_sha256(path) for path in paths]
    if not digests:
        raise DataError(NO_FILES)
    return hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file. Raises DataError where it is absent."""
    with readable(path):
        return file_digest(path)


def index_by_id(records: list, needed: Iterable[int] | None, what: str, path: Path) -> dict[int, dict]:
    """The records whose `id` is needed (all for None), by id.

    Raises DataError on a record without an id, and where a needed id is used twice.
    """
    ids = None if needed is None else set(needed)
    index: dict[int, dict] = {}
    for number, record in enumerate(records):
        key = field(record, "id", int, f"{what} number {number} of {path}")
        if key in index:
            raise DataError(f"{path} holds {what} {key} twice: remove one, because they may contradict each other.")
        if ids is None or key in ids:
            index[key] = record
    return index


def short(value: object) -> str:
    """The value as it is printed in an error: never long, whatever a damaged file holds."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits.
        return "(a number of thousands of digits)"
    return text if len(text) <= 60 else text[:57] + "..."
