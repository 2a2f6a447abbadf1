"""The one family of errors that a user's mistake raises. The command line prints the text and exits with 1."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from locheads.text import printable, reason

_E = TypeVar("_E", bound=StrEnum)

Rule = tuple[bool, str]
"""Of the settings: whether it holds, and the sentence if not."""


class LocHeadsError(Exception):
    """Base class. The text is one sentence: what is wrong, with its name, and what to do about it."""


class ConfigError(LocHeadsError):
    """A setting that is unknown, of the wrong type, or impossible in this combination."""


class DataError(LocHeadsError):
    """A data set that is absent, incomplete or contradicts itself."""


class ModelError(LocHeadsError):
    """A checkpoint that is absent, of another kind, or cannot be read completely."""


class StoreError(LocHeadsError):
    """A file of ours that cannot be written or read back."""


class DiscoveryError(LocHeadsError):
    """The samples do not yield the heads that were asked for."""


@contextmanager
def boundary(
    failed: str, kind: type[LocHeadsError], hint: str, unless: Callable[[BaseException], bool] = lambda _: False
) -> Iterator[None]:
    """Around calls of a library, and nothing else: whatever they raise becomes one sentence, "FAILED (REASON): HINT".

    Our own errors pass as they are, and so do lack of memory and what `unless` names. The original is chained: the
    command line writes its traceback to run.log.

    >>> with boundary("cat.json cannot be read", DataError, "write it again."):
    ...     int("cat")
    Traceback (most recent call last):
    locheads.errors.DataError: cat.json cannot be read (invalid literal for int() with base 10: 'cat'): write it again.
    """
    try:
        yield
    except (LocHeadsError, MemoryError):
        raise
    except BaseException as error:
        # tokenizers' panic is no Exception, so that nobody misses it.
        foreign = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if not foreign or unless(error):
            raise
        raise kind(f"{failed} ({reason(error)}): {hint}") from error


def chosen(choices: type[_E], value: str) -> _E:
    """The member of this value, for functions that take the member or its name.

    Raises:
        ConfigError: there is none; the sentence lists those that there are.
    """
    try:
        return choices(value)
    except ValueError:
        names = ", ".join(member.value for member in choices)
        raise ConfigError(f"There is no {choices.__name__} {str(value)!r}: use one of {names}.") from None


def print_error(sentence: object, code: int = 1) -> int:
    """Says on stderr why a command ends, and returns its exit code."""
    print(f"error: {printable(str(sentence))}", file=sys.stderr)
    return code
