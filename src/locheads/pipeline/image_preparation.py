"""Images on their way to the model: decoded and preprocessed by threads while the model is busy with earlier ones."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Generic, TypeVar

from PIL.Image import Image

from locheads.data.image_files import open_image
from locheads.errors import DataError
from locheads.models.adapters import FamilyAdapter, PreparedInput
from locheads.models.config import PromptConfig
from locheads.models.prompts import prompt_text
from locheads.types import Failure, ImageGroup

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


class ToolCopies(Generic[Tool]):
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


@dataclass
class PreparedImage:
    """An image on its way to the model."""

    group: ImageGroup
    """With the expressions that can be asked."""
    prepared: PreparedInput | None
    """None where nothing can be asked."""
    failures: list[Failure]


def first_readable(groups: list[ImageGroup], prompt: PromptConfig) -> tuple[int, list[Failure]]:
    """-> (index of the first image that can be asked about, why those before it cannot)."""
    failures: list[Failure] = []
    for index, group in enumerate(groups):
        askable, failed = _askable(group, prompt)
        try:
            if askable.samples:
                open_image(askable)
                return index, failures
        except DataError as error:
            failed += _all_failed(askable, error)
        failures += failed
    return len(groups), failures


def prepare_image(group: ImageGroup, adapter: FamilyAdapter, prompt: PromptConfig) -> PreparedImage:
    askable, failures = _askable(group, prompt)
    if not askable.samples:
        return PreparedImage(askable, None, failures)
    try:
        image = open_image(askable)
    except DataError as error:
        return PreparedImage(askable, None, failures + _all_failed(askable, error))
    try:
        return PreparedImage(askable, _ask(askable, image, adapter, prompt), failures)
    except DataError:
        return _without_culprits(askable, image, adapter, prompt, failures)


def _without_culprits(
    group: ImageGroup, image: Image, adapter: FamilyAdapter, prompt: PromptConfig, failures: list[Failure]
) -> PreparedImage:
    """One expression that cannot be asked must not take the image's others with it."""
    fine = []
    for sample in group.samples:
        single = replace(group, samples=(sample,))
        try:
            _ask(single, image, adapter, prompt)
            fine.append(sample)
        except DataError as error:
            failures = failures + _all_failed(single, error)
    askable = replace(group, samples=tuple(fine))
    return PreparedImage(askable, _ask(askable, image, adapter, prompt) if fine else None, failures)


def _ask(group: ImageGroup, image: Image, adapter: FamilyAdapter, prompt: PromptConfig) -> PreparedInput:
    return adapter.prepare(image, [sample.asked for sample in group.samples], prompt)


def _askable(group: ImageGroup, prompt: PromptConfig) -> tuple[ImageGroup, list[Failure]]:
    """-> (the group with the expressions that can be asked, what failed)."""
    askable, failures = [], []
    for sample in group.samples:
        try:
            prompt_text(prompt, sample.asked)
            askable.append(sample)
        except DataError as error:
            failures.append(Failure(sample.sample_id, group.image_id, str(error)))
    return replace(group, samples=tuple(askable)), failures


def _all_failed(group: ImageGroup, error: DataError) -> list[Failure]:
    return [Failure(sample.sample_id, group.image_id, str(error)) for sample in group.samples]
