"""Digests: what a stored result was made from, in one string."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def json_digest(content: Any) -> str:
    """sha256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """sha256 over the names and contents of files, in the order given."""
    return json_digest([[path.name, file_digest(path)] for path in paths])
