"""What a reader does with a record that it cannot use: stop with its sentence, or count it and go on."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from locheads.errors import DataError

T = TypeVar("T")

_EXAMPLES = 5


@dataclass
class Tally:
    """Passed to a reader. `counting=False` lets the first unusable record end the reading (what a run needs);
    `counting=True` drops and counts it (what a check needs)."""

    counting: bool = False
    rejected: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few sentences."""
    seen: Counter[str] = field(default_factory=Counter)
    """Usable, but worth a count: "crowd", "overlap", "no mask"; "images" of a list, some of which may hold nothing."""

    def each(self, call: Callable[..., T], items: Iterable[tuple], *more: Any) -> Iterator[T]:
        """`call(*item, *more)` of every item; none for a counted DataError. Raises it where nothing is counted."""
        for item in items:
            try:
                result = call(*item, *more)
            except DataError as error:
                self.reject(error)
            else:
                yield result

    def reject(self, error: DataError) -> None:
        """Counts the error, or raises it."""
        if not self.counting:
            raise error
        self.rejected += 1
        self.examples = [*self.examples, str(error)][:_EXAMPLES]
