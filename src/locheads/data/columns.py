"""Where a table's row holds what a sample needs: the paths that a data set's yaml declares.

A path is names joined by dots. It goes into mappings, into every item of a list, and into text that is JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from locheads.data.annotation_files import short
from locheads.errors import ConfigError, DataError, boundary

COLUMN_CONTENTS = {
    "objects": "the list of objects, where a row is an image; other paths that start with it mean one object",
    "image": "the image itself, where the table holds it",
    "file_name": "its file name",
    "width": "its width (else from its header)",
    "height": "its height",
    "expressions": "one expression, or the list of an object's",
    "expression_ids": "their ids, in the same order",
    "ref_id": "the object's id",
    "box": "four numbers, in dataset.box_format",
    "mask": "polygons, one flat polygon, or run-length code",
    "category": "the object's category",
    "crowd": "1 where the mask is of a crowd",
}
_NEEDED = ("file_name", "expressions", "box")


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises ConfigError for a key that means nothing, and for a needed one that is absent."""
    for key in columns:
        if key not in COLUMN_CONTENTS:
            raise ConfigError(f"dataset.columns.{key} means nothing: there are {', '.join(COLUMN_CONTENTS)}.")
    for key in _NEEDED:
        if not columns.get(key):
            raise ConfigError(
                f"dataset.columns.{key} is not declared: name the column that holds {COLUMN_CONTENTS[key]}."
            )


def find(row: Any, path: str, where: str) -> Any:
    """What `path` leads to; None where a mapping on the way has no value there.

    Raises DataError where the way ends: no such column, or a value of another kind.
    """
    for name in path.split("."):
        if isinstance(row, str):
            failed = f"{where} holds text on the way {path!r} that is not JSON"
            with boundary(failed, DataError, "correct dataset.columns."):
                row = json.loads(row)
        if row is None:
            return None
        many = isinstance(row, list)
        row = [_step(item, name, path, where) for item in row] if many else _step(row, name, path, where)
    return row


def _step(value: Any, name: str, path: str, where: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        kind = f"only {', '.join(map(short, value))}" if isinstance(value, Mapping) else type(value).__name__
        raise DataError(f"{where} has no {name!r} on the way {path!r}, {kind}: correct dataset.columns for this copy.")
    return value[name]
