"""Look-ups in records that other people wrote: the value, or one sentence that names the record."""

import gc
import hashlib
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from locheads.data.tally import Tally
from locheads.errors import DataError

T = TypeVar("T")

_LARGEST = 1e9
"""No coordinate comes near; also keeps C code from overflowing."""
_LARGEST_ID = 2**63
_ADVICE = "take the file anew from its publisher, or correct the record"
_NAMES = {int: "a whole number", str: "text", list: "a list", dict: "a mapping"}


def field(record: object, key: str, kind: type[T], where: str) -> T:
    """`record[key]`, checked to be of exactly this kind. `where` names the record in the DataError."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a mapping but {type(record).__name__}: {_ADVICE}.")
    if key not in record:
        raise DataError(f"{where} has no {key!r}: {_ADVICE}.")
    value = record[key]
    # `True` is an int in Python, but no data set means it as one.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(
            f"{where} has {key!r} of type {type(value).__name__} where {_NAMES[kind]} is needed, {short(value)}: "
            f"{_ADVICE}."
        )
    if isinstance(value, int) and abs(value) > _LARGEST_ID:
        raise DataError(f"{where} has a {key!r} of more than 64 bits: {_ADVICE}.")
    if isinstance(value, str):
        check_text(value, key, where)
    return value


def whole_ids(records: object, *keys: str) -> None:
    """Turns ids that other programs wrote as 7.0 (pandas) or "7" into 7, in place; others stay for `field` to name."""
    for record in records if isinstance(records, list) else ():
        for key in keys if isinstance(record, dict) else ():
            value = record.get(key)
            if type(value) is str:
                value = int(value) if re.fullmatch("[0-9]{1,18}", value) else value
            elif type(value) is float and value.is_integer():
                value = int(value)
            else:
                continue
            record[key] = value


def check_text(value: str, key: str, where: str) -> None:
    """Raises DataError for half of a surrogate pair, which JSON may hold and neither a tokenizer nor a file takes."""
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where} has half of a surrogate pair in {key!r}, which is no letter: {_ADVICE}.")


def name_of(record: dict, key: str, default: str, where: str) -> str:
    """`record[key]`, text or a whole number, as text; the default where it is absent or null."""
    value = record.get(key)
    if value is None:
        return default
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where} has {key!r} of type {type(value).__name__}, not a text or a number: {_ADVICE}.")
    check_text(str(value), key, where)
    return str(value)


def is_number(value: object, limit: float = _LARGEST) -> bool:
    """Whether it is an int or float with |value| <= limit: False for NaN, infinities, text and booleans."""
    return type(value) in (int, float) and abs(value) <= limit  # type: ignore[arg-type]


def side(record: dict, key: str, where: str) -> int:
    """The width or height of an image in pixels. Raises DataError where no JPEG could have it."""
    value = field(record, key, int, where)
    if not 1 <= value <= 65_535:
        raise DataError(f"{where} has the {key} {short(value)}, but an image has 1 to 65535 pixels a side: {_ADVICE}.")
    return value


def xywh_box(record: dict, where: str) -> tuple[float, float, float, float]:
    """`record["bbox"]`, `[x, y, width, height]` in pixels (COCO) -> xyxy in pixels, not clipped.

    Raises DataError where it is not four finite numbers with a positive width and height.
    """
    values = field(record, "bbox", list, where)
    if len(values) != 4 or not all(is_number(value) for value in values) or min(values[2:]) <= 0:
        raise DataError(
            f"{where} has the bbox {short(values)}, which is not [x, y, width, height] in pixels with finite "
            f"numbers and a width and height above 0: {_ADVICE}."
        )
    x, y, width, height = (float(value) for value in values)
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


def read_text(path: Path, fallback: str | None = None) -> str:
    """The text of a file: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one (Excel, PowerShell).

    Ends of lines stay as they are. Raises DataError, naming the file and the first wrong byte, for any other encoding;
    `fallback` is that of a file that is none of these.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    # UTF-32 first: its mark begins with that of UTF-16. Each of these decoders takes the mark away.
    marks = (("utf-32", (BOM_UTF32_LE, BOM_UTF32_BE)), ("utf-16", (BOM_UTF16_LE, BOM_UTF16_BE)))
    encoding = next((name for name, starts in marks if content.startswith(starts)), "utf-8-sig")
    try:
        text = content.decode(encoding)
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
    name = "UTF-8" if error.encoding == "utf-8" else error.encoding.upper()
    line = content[: error.start].count(b"\n") + 1
    return f", line {line} is not {name} text (byte 0x{content[error.start]:02x}, number {error.start} of the file)"


def lines_of(text: str) -> list[str]:
    """The lines as editors count them: str.splitlines would also split at U+2028, which JSON texts may hold."""
    return list(io.StringIO(text, newline=None))


def read_json(path: Path, fallback: str | None = None) -> object:
    """The content of a JSON file. Raises DataError as `read_text`, and where it is not complete JSON."""
    try:
        return json.loads(read_text(path, fallback))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not complete JSON ({reason}): copy or download it again.") from error


def read_lines(path: Path, tally: Tally) -> list[tuple[str, dict]]:
    """(where, object) of every line of a JSONL file that is not blank; `where` is "FILE, line 3".

    Raises DataError as `read_text`, and (or counts it) for a line that is no JSON object.
    """
    lines = lines_of(read_text(path))
    numbered = [(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    pairs = [(where, tally.attempt(_object, line, where)) for where, line in numbered]
    return [(where, record) for where, record in pairs if record is not None]


def _object(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not complete JSON ({str(error).splitlines()[0]}): correct the line.") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a mapping but {type(record).__name__}: correct the line.")
    return record


def require(path: Path, layout: str, more: str = "") -> Path:
    """The path, if it is a file; else a DataError that shows the expected `layout`."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there, but {layout}: set paths.data to the folder of all data sets or dataset.folder to "
            f"this one.{more}"
        )
    return path


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over the digests of files: changes when any changes.

    Raises DataError where one is absent, and where there is none: the digest of nothing stands for no data.
    """
    digests = [_file_sha256(path) for path in paths]
    _refuse_none(digests)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def sha256_of_named(files: Iterable[tuple[str, Path | None]]) -> str:
    """As `sha256_of`, over names and contents: changes also when a file is renamed. None: a file that is absent."""
    lines = [[name, _file_sha256(path).hex() if path else None] for name, path in files]
    _refuse_none(lines)
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _file_sha256(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _refuse_none(files: list) -> None:
    if not files:
        raise DataError("The data set has no annotation file: correct dataset.folder or dataset.refs.")


def index_by_id(records: list, needed: Iterable[int], what: str, path: Path) -> dict[int, dict]:
    """The records whose `id` is needed, by id.

    Raises DataError on a record without an id, and where a needed id is used twice.
    """
    ids = set(needed)
    index: dict[int, dict] = {}
    for number, record in enumerate(records):
        key = field(record, "id", int, f"{what} number {number} of {path}")
        if key in index:
            raise DataError(f"{path} holds {what} {key} twice: remove one, because they may contradict each other.")
        if key in ids:
            index[key] = record
    return index


def short(value: object) -> str:
    """The value as it is printed in an error: never long, whatever a damaged file holds."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits.
        return "(a number of thousands of digits)"
    return text if len(text) <= 60 else text[:57] + "..."
