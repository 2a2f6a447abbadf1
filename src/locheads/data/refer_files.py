"""How REFER's files are read, without letting them run code, and kept as a table once they were read.

A pickle is a program: `pickle.load` imports and calls whatever the file names. The REFER annotations
(`refs(unc).p`) need none of that, so every global but the plain containers below is refused.
"""

import codecs
import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from locheads.data.annotation_files import no_garbage_collection, read_json, readable, short
from locheads.data.pathnames import find_image
from locheads.errors import DataError
from locheads.store.atomic import write_bytes
from locheads.store.derived import BLANK, KEY, read_derived, with_checksum
from locheads.types import Excerpt, ImageGroup, Sample

# Plain containers that a pickle can only write as a global. Python 2 and 3 name their module differently.
_SETS: dict[tuple[str, str], type] = {(m, k.__name__): k for m in ("builtins", "__builtin__") for k in (set, frozenset)}
_ADMITTED = _SETS | {("collections", "OrderedDict"): OrderedDict}

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
    with readable(path):
        content = path.read_bytes()
    try:
        return _PlainUnpickler(content, path).load()
    except DataError:
        raise
    # A damaged pickle raises nearly anything (EOFError, KeyError, MemoryError, UnpicklingError, ...).
    except Exception as error:
        raise DataError(
            f"{path} is not a complete pickle ({type(error).__name__}): copy or download it again."
        ) from error


def load_refs(path: Path) -> list:
    """The refs of a pickle, or of a JSON file where it is named so (gRefCOCO). Raises DataError where it is neither."""
    refs = read_json(path) if path.suffix == ".json" else load_plain_pickle(path)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{path} holds no list of refs ({type(refs).__name__}): take the file from its publisher.")
    return refs


VERSION = 7
"""Part of the cache's folder name: raise it when the columns or a reader's result change."""


def write_samples(path: Path, groups: list[ImageGroup], images: Path) -> None:
    """One row per image, with its path below the folder `images`. Raises StoreError where it cannot be written."""
    rows = [
        vars(group) | {"path": _below(group.path, images), "samples": [*map(_columns, group.samples)]}
        for group in groups
    ]
    content = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata({KEY: BLANK}), content)
    write_bytes(path, with_checksum(content.getvalue().to_pybytes()))


def _columns(sample: Sample) -> dict[str, object]:
    return vars(sample) | {"sentence": None if sample.sentence is None else sample.sentence.parts}


def _below(path: Path, images: Path) -> str:
    return str(path.relative_to(images) if path.is_relative_to(images) else path)


@no_garbage_collection()
def read_samples(path: Path, images: Path) -> list[ImageGroup] | None:
    """The groups in the order they were written; None where there is no table, or a damaged one (logged)."""
    return read_derived(path, lambda content: [_group(row, images) for row in _rows(content)])


def _rows(content: bytes) -> list[dict]:
    return pq.read_table(pa.BufferReader(content)).to_pylist()


def _group(row: dict, images: Path) -> ImageGroup:
    samples = (Sample(**sample | _own_types(**sample)) for sample in row["samples"])
    return ImageGroup(**row | {"path": find_image(images, row["path"]), "samples": tuple(samples)})


def _own_types(
    box: list[float],
    boxes: list[list[float]] | None = None,
    alternatives: Sequence[list[float]] = (),
    kinds: Sequence[str] = (),
    sentence: list[str] | None = None,
    **_: object,
) -> dict[str, object]:
    return {
        "box": tuple(box),
        "boxes": None if boxes is None else tuple(map(tuple, boxes)),
        "alternatives": tuple(map(tuple, alternatives)),
        "kinds": tuple(kinds),
        "sentence": None if sentence is None else Excerpt.within(*sentence),
    }
