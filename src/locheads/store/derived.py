"""Derived files carry a checksum of themselves, so that damage of any kind is found whenever one is read.

The sha256 stands in the file behind MARK and is taken with zeros in its own place, as the checksums of network packets
are. So a file stays one file, which is replaced in one step, and keeps its format: JSON has the checksum as its last
key, parquet in its metadata, JSON lines in every line. Listings of the attention store's shards (see `shards`) hold
theirs in a key of their own; the files of a run folder have theirs in its receipt (see `records.receipt_file`).
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from locheads.store.atomic import write_bytes
from locheads.text import reason

log = logging.getLogger(__name__)

T = TypeVar("T")

KEY = "checksum"
"""Of the checksum in JSON."""
MARK = b"sha256 of this file:"
BLANK = MARK + b"0" * 64
"""What stands for the checksum until `with_checksum`."""


def read_derived(path: Path, parse: Callable[[bytes], T], then: str = "made again") -> T | None:
    """What `parse` makes of the file's bytes once their checksum is right; never raises.

    None where there is no file, and where it is damaged in whatever way: then a warning names it and says what happens
    `then`.
    """
    try:
        return parse(checked(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # each library has its own for what it cannot read
        log.warning("%s is damaged (%s) and is %s.", path, reason(error), then)
        return None


def read_derived_json(path: Path, then: str = "made again") -> dict[str, Any] | None:
    """A file of `write_derived_json`; None as `read_derived`."""
    return read_derived(path, parse_json, then)


def write_derived_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` with its checksum, whole or not at all. Raises StoreError as `replacing` does."""
    write_bytes(path, json_with_checksum(content, indent=1))


def json_with_checksum(content: dict[str, Any], indent: int | None = None) -> bytes:
    """A JSON object with its checksum as the last key. NaN and inf are refused."""
    return with_checksum(json.dumps(content | {KEY: BLANK.decode()}, indent=indent, allow_nan=False).encode())


def parse_json(content: bytes) -> dict[str, Any]:
    """The object that `json_with_checksum` wrote. Raises ValueError or LookupError for anything else."""
    values = json.loads(content)
    del values[KEY]
    return values


def parse_record(content: bytes) -> dict[str, Any]:
    """As `parse_json`, but takes what an earlier version wrote without a checksum, too."""
    values = json.loads(content)
    if KEY in values:
        checked(content)
    return {key: value for key, value in values.items() if key != KEY}


def with_checksum(content: bytes) -> bytes:
    """The content with its checksum in the place of the last BLANK."""
    head, _, tail = content.rpartition(BLANK)
    return head + MARK + hashlib.sha256(content).hexdigest().encode() + tail


def checked(content: bytes) -> bytes:
    """The content as it is. Raises ValueError where its checksum is absent or does not match."""
    head, mark, tail = content.rpartition(MARK)
    if not mark:
        raise ValueError("it holds no checksum: perhaps an earlier version wrote it")
    zeroed = head + BLANK + tail[64:]
    if tail[:64] != hashlib.sha256(zeroed).hexdigest().encode():
        raise ValueError("its checksum does not match")
    return content
