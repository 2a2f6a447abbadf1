"""How REFER's files are read, without letting them run code, and kept as a table once they were read.

A pickle is a program: `pickle.load` imports and calls whatever the file names. The REFER annotations
(`refs(unc).p`) need none of that, so every global but the plain containers below is refused.
"""

import codecs
import io
import pickle
from collections import OrderedDict
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from locheads.data.annotation_files import no_garbage_collection, short
from locheads.data.pathnames import find_image
from locheads.errors import DataError
from locheads.store.atomic import write_bytes
from locheads.store.derived import BLANK, KEY, read_derived, with_checksum
from locheads.types import ImageGroup, Sample

# Plain containers that a pickle can only write as a global. Their names under Python 2 and 3.
_ADMITTED: dict[tuple[str, str], type] = {
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
}


_LATIN1 = "locheads.latin1"
"""Bytes that are no UTF-8 become the letters of their numbers, as Latin-1: anything can be read."""


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin1"), error.end


codecs.register_error(_LATIN1, _as_latin1)


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path) -> None:
        # The published files were written by Python 2, whose `str` is bytes, of UTF-8 as a rule.
        super().__init__(io.BytesIO(content), encoding="utf-8", errors=_LATIN1)
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> type:
        admitted = _ADMITTED.get((module_name, global_name))
        if admitted is None:
            name = short(f"{module_name}.{global_name}")
            raise DataError(
                f"{self._path} is refused because it names the global {name}, which could run code when "
                "read: take the file from its publisher, or write it anew from plain "
                "lists, dicts, numbers and text."
            )
        return admitted


@no_garbage_collection()
def load_plain_pickle(path: Path) -> object:
    """The content of a pickle of plain containers, numbers and text; Python 2 files included.

    Raises DataError where the file cannot be read, is not a complete pickle, or names any other global
    (nothing of it has been run then).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return _PlainUnpickler(content, path).load()
    except DataError:
        raise
    # A damaged pickle raises nearly anything (EOFError, KeyError, MemoryError, UnpicklingError, ...).
    except Exception as error:
        raise DataError(
            f"{path} is not a complete pickle ({type(error).__name__}): copy or download it again."
        ) from error


VERSION = 3
"""Part of the cache's folder name: raise it when the columns or a reader's result change."""
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "file_name")),
        *((name, pa.int32()) for name in ("width", "height", "same_category")),
        *((name, pa.string()) for name in ("sample_id", "ref_id", "expression", "category", "counts")),
        *((name, pa.float64()) for name in ("x0", "y0", "x1", "y1")),
    ]
)


def write_samples(path: Path, groups: list[ImageGroup], images: Path) -> None:
    """One row per sample. Raises StoreError where it cannot be written."""
    rows = [_row(group, sample, images) for group in groups for sample in group.samples]
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({KEY: BLANK}))
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(path, with_checksum(content.getvalue().to_pybytes()))


@no_garbage_collection()
def read_samples(path: Path, images: Path) -> list[ImageGroup] | None:
    """The groups in the order they were written; None where there is no table, or a damaged one (logged)."""
    return read_derived(path, lambda content: _groups(content, images))


def _groups(content: bytes, images: Path) -> list[ImageGroup]:
    rows = pq.read_table(pa.BufferReader(content), schema=_SCHEMA).to_pylist()
    return [_group(list(of_image), images) for _, of_image in groupby(rows, lambda row: row["image_id"])]


def _row(group: ImageGroup, sample: Sample, images: Path) -> dict:
    name = group.path.relative_to(images) if group.path.is_relative_to(images) else group.path
    row = {"image_id": group.image_id, "file_name": str(name), "width": group.width, "height": group.height}
    row |= {"sample_id": sample.sample_id, "ref_id": sample.ref_id, "expression": sample.expression}
    row |= {"category": sample.category, "same_category": sample.same_category, "counts": sample.mask["counts"]}
    return row | dict(zip(("x0", "y0", "x1", "y1"), sample.box, strict=True))


def _group(rows: list[dict], images: Path) -> ImageGroup:
    first = rows[0]
    width, height = first["width"], first["height"]
    samples = tuple(
        Sample(
            row["sample_id"],
            row["ref_id"],
            row["expression"],
            (row["x0"], row["y0"], row["x1"], row["y1"]),
            {"size": [height, width], "counts": row["counts"]},
            row["category"],
            row["same_category"],
        )
        for row in rows
    )
    return ImageGroup(first["image_id"], find_image(images, first["file_name"]), width, height, samples)
