"""Reads the localization heads back from the heads.json of a run."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from locheads.errors import StoreError
from locheads.types import HeadIndex


def read_heads(path: Path) -> tuple[HeadIndex, ...]:
    """The heads that a run found, the most frequent first. Raises StoreError where the file is not a heads.json."""
    try:
        return tuple(HeadIndex(int(h["layer"]), int(h["head"])) for h in json.loads(path.read_text())["heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no heads.json of a run ({error}): make one with python run.py.") from error


def parse_heads(names: Iterable[str]) -> tuple[HeadIndex, ...]:
    """ "L14H24" -> HeadIndex(14, 24). Raises StoreError for anything else."""
    return tuple(_parse(name) for name in names)


def _parse(name: str) -> HeadIndex:
    match = re.fullmatch(r"L(\d+)H(\d+)", name)
    if match is None:
        raise StoreError(f"{name!r} is no head: write layer and head, counted from 0, like L14H24.")
    return HeadIndex(int(match[1]), int(match[2]))
