"""Reads the pickles that data sets are shipped as, without letting them run code.

A pickle is a program: `pickle.load` imports and calls whatever the file names. The REFER annotations
(`refs(unc).p`) need none of that, so every global but the plain containers below is refused.
"""

import codecs
import io
import pickle
from collections import OrderedDict
from pathlib import Path

from locheads.data.annotation_files import no_garbage_collection, short
from locheads.errors import DataError

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
