"""Progress with the time left, on anything that may take more than a few seconds."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(
    stderr=not sys.stdout.isatty() and sys.stderr.isatty(),
    # Without a terminal rich assumes 80 columns, which cuts the tables.
    width=None if sys.stdout.isatty() or sys.stderr.isatty() else 120,
)


def track(items: Iterable[T], stage: str, unit: str, total: int | None = None) -> Iterable[T]:
    """Yields the items under a progress bar; a log without a terminal gets only the finished bar.

    `total`: how many there are, where they cannot be counted before.
    """
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total, description=stage)
