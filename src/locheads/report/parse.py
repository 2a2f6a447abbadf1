"""Parsing helpers for metrics.json: each returns a typed value or raises ValueError with the field's name."""

from collections.abc import Mapping
from typing import Any

from locheads.types import HeadIndex


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


def head_index(value: Mapping[str, Any]) -> HeadIndex:
    return HeadIndex(count(value["layer"], "layer"), count(value["head"], "head"))
