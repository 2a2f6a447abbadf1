"""What all files of a run folder have in common: how one is written, and what is said of one that is damaged.

A field with a default is one that run folders of earlier versions, or runs of other kinds, lack; what was not set is
not written. Every other field is in every file.
"""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from locheads.errors import StoreError
from locheads.store.atomic import write_json
from locheads.store.derived import parse_record, write_derived_json
from locheads.text import printable, reason

Count = Annotated[StrictInt, Field(ge=0)]
Size = Annotated[StrictInt, Field(ge=1)]
HeadName = Annotated[str, Field(pattern=r"^L[0-9]{1,5}H[0-9]{1,5}$")]
"""L14H24: layer and head, counted from 0."""
Iou = Annotated[StrictFloat, BeforeValidator(lambda value: 0.0 if value is None else value)]
"""Null, of earlier versions, is 0: nothing was predicted."""


class Part(BaseModel):
    """A section of a file. Its values have the types that it names, and it has no field that it does not name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, validate_by_alias=True,
        validate_by_name=True,
    )  # fmt: skip

    @classmethod
    def parse(cls, values: Any) -> Self:
        """The section from what JSON holds. Raises ValueError with what is wrong with the first wrong field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(_first_problem(error)) from None


class Record(Part):
    """One file of a run folder."""

    FILE: ClassVar[str]
    """Its name there."""
    LIST: ClassVar[str] = ""
    """The field whose list or mapping is the whole file, for a file that is one."""
    CHECKSUM: ClassVar[bool] = False
    """Whether the file carries a checksum of itself (see `locheads.store.derived`)."""

    def content(self) -> Any:
        """The file's content as plain values, in the order of the fields."""
        values = self.model_dump(by_alias=True, exclude_unset=True)
        return values[self.LIST] if self.LIST else values

    def write(self, folder: Path) -> None:
        """Writes the file into `folder`, whole or not at all. Raises StoreError where it cannot be written."""
        write = write_derived_json if self.CHECKSUM else write_json
        write(folder / self.FILE, self.content())

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The record from the file's bytes. Raises ValueError with what is wrong with them, in a few words."""
        try:
            values = parse_record(content) if cls.CHECKSUM else decode_json(content)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no record ({reason(error)})") from None
        return cls.parse({cls.LIST: values} if cls.LIST else values)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a run folder. Raises StoreError where the file is absent, leads elsewhere or is damaged."""
        try:
            return cls.decode(own_file(folder, cls.FILE).read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{folder} has no {cls.FILE}: give a run folder that holds one.") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder / cls.FILE} cannot be read ({reason(error)}): make the run again.") from error

    @classmethod
    def read_if_there(cls, folder: Path) -> Self | None:
        """As `read`; None where there is no such file."""
        return cls.read(folder) if (folder / cls.FILE).exists() else None


def own_file(folder: Path, name: str) -> Path:
    """A file of a run folder, links followed. The folder may come from someone else, so nothing is taken from
    elsewhere: raises OSError where the name, or a link, leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise OSError(errno.EPERM, "it leads out of the run folder")
    return path


def plain(settings: object) -> dict[str, Any]:
    """A group of settings as JSON holds it, its choices by their names."""
    return {key: getattr(value, "value", value) for key, value in vars(settings).items()}


def decode_json(content: bytes) -> Any:
    """What the bytes hold. Raises ValueError where they are no JSON; NaN and Infinity are none."""
    return json.loads(content, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _first_problem(error: ValidationError) -> str:
    """The first wrong field with what is wrong with it, such as: heads[0].layer is missing."""
    first = error.errors(include_url=False)[0]
    # Of a union pydantic also names the member that it tried.
    path = [part for part in first["loc"] if part not in ("int", "float", "str", "dict[str,any]")]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    own = first.get("ctx", {}).get("error")
    if own is not None:  # what a check of ours raised
        return f"{name} {own}".strip()
    match first["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{printable(name)} is unknown"
    found = printable(repr(first["input"]))
    words = first["msg"].replace("Input should", "should").partition(" or instance of")[0].replace("tuple", "list")
    return f"{name or 'it'} {words}, not {found if len(found) <= 60 else found[:57] + '...'}"


def _grid(kinds: set[type], dtype: type) -> Callable[[Any], np.ndarray]:
    def check(value: Any) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
            raise ValueError("is not a list of rows")
        if not {type(cell) for row in value for cell in row} <= kinds:
            raise ValueError("holds a cell of another type than a number, or true and false")
        if len({len(row) for row in value}) > 1:
            raise ValueError("has rows of different lengths")
        return np.array(value, dtype=dtype)  # null becomes NaN

    return check


def _rows(array: np.ndarray) -> list[list[Any]]:
    """NaN, which JSON does not have, becomes null."""
    rows: list[list[Any]] = array.tolist()
    if array.dtype == bool or np.isfinite(array).all():
        return rows
    return [[cell if np.isfinite(cell) else None for cell in row] for row in rows]


FloatGrid = Annotated[
    Float[np.ndarray, "layer head"], PlainValidator(_grid({int, float, type(None)}, float)), PlainSerializer(_rows)
]
"""A number per layer and head, float64; null is NaN."""
BoolGrid = Annotated[Bool[np.ndarray, "layer head"], PlainValidator(_grid({bool}, bool)), PlainSerializer(_rows)]


def check_grids(record: Part, shape: tuple[int, int]) -> None:
    """Raises ValueError where an array of the section is not of this shape (layers, heads per layer)."""
    for name, value in record:
        if isinstance(value, np.ndarray) and value.shape != shape:
            raise ValueError(f"{name} has the shape {value.shape}, not {shape}")


_Number = StrictInt | StrictFloat
PixelBox = tuple[_Number, _Number, _Number, _Number]
"""xyxy in pixels of the original image."""
