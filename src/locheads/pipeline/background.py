"""Images are decoded and preprocessed by threads while the model is busy with earlier ones."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Tool = TypeVar("Tool")

AHEAD_PER_WORKER = 4
"""Finished images that may wait for the model: the bound on memory."""


def in_background(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`work` of the items in their order, ahead of the consumer; an exception arises where its result is due.

    With 0 workers everything happens here, one after the other. Left early, it waits for what is being worked on and
    drops the rest.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="image")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers * AHEAD_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Copies(Generic[Tool]):
    """A copy of something for each of several threads: tokenizers refuse to be used by two at once."""

    def __init__(self, tool: Tool, number: int) -> None:
        self._free: SimpleQueue[Tool] = SimpleQueue()
        for _ in range(max(number, 1)):
            self._free.put(copy.deepcopy(tool) if number > 1 else tool)

    @contextmanager
    def one(self) -> Iterator[Tool]:
        """A copy that nobody else uses meanwhile."""
        tool = self._free.get()
        try:
            yield tool
        finally:
            self._free.put(tool)
