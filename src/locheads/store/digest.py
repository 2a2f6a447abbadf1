"""Digests: what a stored result was made from, in one string."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from locheads.errors import StoreError
from locheads.store.derived import read_derived_json, write_derived_json

REMEMBERED = "digests.json"
"""In the cache folder: path -> [size, time of change in ns, time of the inode's change in ns, inode, sha256]."""
SETTLED_NS = 2_000_000_000


def json_digest(content: Any) -> str:
    """sha256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(paths: Iterable[Path], cache: Path | None = None) -> str:
    """sha256 over the names and contents of files, in the order given.

    With a `cache` folder, a file of unchanged path, size, inode and times of change is not read again. Whoever rewrites
    a file and sets its time of change back leaves another ctime, which cannot be set.
    """
    paths = list(paths)
    digests = file_digests(paths, cache)
    return json_digest([[path.name, digests[path]] for path in paths])


def file_digests(paths: Iterable[Path], cache: Path | None = None, absent: bool = False) -> dict[Path, str | None]:
    """sha256 of each file, remembered as `files_digest` says.

    Raises OSError for a file that cannot be read; with `absent` its digest is None.
    """
    known = {} if cache is None else _remembered(cache)
    found: list[tuple[Path, list[int], str]] = []
    unread: dict[Path, str | None] = {}
    for path in dict.fromkeys(paths):
        try:
            found.append((path, _stamp(path), _digest_of(path, known)))
        except OSError:
            if not absent:
                raise
            unread[path] = None
    if cache is not None:
        _remember(cache, known, found)
    return {path: digest for path, _, digest in found} | unread


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest_of(path: Path, known: dict[str, Any]) -> str:
    match known.get(str(path.resolve())):
        case [*stamp, str(digest)] if stamp == _stamp(path):
            return digest
    return file_digest(path)


def _remembered(cache: Path) -> dict[str, Any]:
    return (read_derived_json(cache / REMEMBERED) or {}).get("files", {})


def _remember(cache: Path, known: dict[str, Any], found: Sequence[tuple[Path, list[int], str]]) -> None:
    # A file that changed just now may change again without its times of change telling.
    settled = {
        str(path.resolve()): [*stamp, digest]
        for path, stamp, digest in found
        if time.time_ns() - max(stamp[1:3]) > SETTLED_NS
    }
    if not settled.items() <= known.items():
        with suppress(StoreError):  # it only saves time
            write_derived_json(cache / REMEMBERED, {"files": known | settled})
