"""Parsing helpers for run records: each returns a typed value or raises ValueError with the field's name."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from locheads.types import Box, HeadIndex


def own_file(folder: Path, name: str) -> Path:
    """A file of a run folder, links followed. The folder may come from someone else, so a page takes nothing from
    elsewhere: raises OSError where the name, or a link, leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise OSError(errno.EPERM, "it leads out of the run folder")
    return path


def number(value: Any, name: str) -> float:
    """A JSON number as float. Booleans, strings and null are refused, so that a broken record is noticed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}, not a number")
    return float(value)


def optional_number(value: Any, name: str) -> float | None:
    return None if value is None else number(value, name)


def count(value: Any, name: str) -> int:
    found = number(value, name)
    if not found.is_integer():  # nor infinity
        raise ValueError(f"{name} is {value!r}, not a whole number")
    return int(found)


def mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is not a table of named values")
    return dict(value)


def listing(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def box(value: Any, name: str) -> Box:
    """Four finite numbers, xyxy."""
    numbers = [number(v, name) for v in listing(value, name)]
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is not a box of four finite numbers")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def grid(value: Any, name: str, shape: tuple[int, int]) -> Float[np.ndarray, "layer head"]:
    """A list of rows -> float64 of `shape` (layers, heads per layer); null becomes NaN."""
    array = np.array([[np.nan if v is None else v for v in row] for row in listing(value, name)], dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
    return array


def head_index(value: Mapping[str, Any]) -> HeadIndex:
    return HeadIndex(count(value["layer"], "layer"), count(value["head"], "head"))
