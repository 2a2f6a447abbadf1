"""What a command says in the terminal: text, and progress with the time left."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from locheads.text import printable


class PlainConsole(Console):
    """Interprets nothing: neither [markup] nor :emoji: nor control characters, any of which paths, ids and expressions
    may hold.

    Colours are given as `Text` or `style`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; a str is one line, whatever line breaks a path in it holds."""
        super().print(*(printable(each) if isinstance(each, str) else each for each in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Through here goes every str that stands in a table."""
        return super().render_str(printable(text, keep="\n"), **options)


T = TypeVar("T")
Listener = Callable[[str, str, int, int | None], None]
"""Called with the stage, the unit, how many are done, and of how many (None where that is not known)."""

REFRESH_S = 0.1
"""Between two looks of a bar, at least."""

_listeners: list[Listener] = []

console = PlainConsole(
    stderr=not sys.stdout.isatty() and sys.stderr.isatty(),
    # Without a terminal rich assumes 80 columns, which cuts the tables.
    width=None if sys.stdout.isatty() or sys.stderr.isatty() else 120,
)


def track(items: Iterable[T], stage: str, unit: str, total: int | None = None) -> Iterable[T]:
    """Yields the items under a progress bar; a log without a terminal gets only the finished bar.

    `total`: how many there are, where they cannot be counted before.
    """
    columns = (
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    count = len(items) if total is None and isinstance(items, Sized) else total
    _report_progress(stage, unit, 0, count)
    # Without threads of its own: a bar that a failed run left behind is closed by the garbage collector, maybe in a
    # thread of the next bar, and then both wait for each other for ever.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task, shown = progress.add_task(stage, total=count), 0.0
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(task, completed=done)
            if time.monotonic() - shown >= REFRESH_S:
                progress.refresh()
                shown = time.monotonic()
            _report_progress(stage, unit, done, count)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Reports to `listener` every step of every progress bar."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _report_progress(stage: str, unit: str, done: int, total: int | None) -> None:
    for listener in _listeners:
        listener(stage, unit, done, total)
