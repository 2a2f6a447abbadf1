"""Fills the store while the model runs on: threads work out what is kept of an image, and one of them writes files."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from locheads.models.engine import EngineConfig
from locheads.pipeline.image_preparation import AHEAD_PER_WORKER
from locheads.pipeline.signals import undisturbed
from locheads.store.attention_store import AttentionStore
from locheads.store.store_files import Part
from locheads.types import Failure

FILE_BYTES = 48 << 20
"""A file that has grown so large is written, however few images it holds: the bound on memory."""


@dataclass(frozen=True)
class Storable:
    """What is kept of one image."""

    part: Part | None
    """None where nothing can be kept."""
    failures: list[Failure]


class StoreWriter:
    """Takes images in their order, as work that gives what to keep of each; every `shard_images` become a file.

    On leaving the `with` all that was put is written, whatever ended it: a signal, a full memory, an error of the
    model. An error in the background arises at a later `put`, or on leaving.
    """

    def __init__(self, store: AttentionStore, engine: EngineConfig) -> None:
        self.failures: list[Failure] = []
        """Complete after leaving."""
        self._store, self._images = store, engine.shard_images
        self._ahead = engine.workers * AHEAD_PER_WORKER
        self._work = ThreadPoolExecutor(max(engine.workers, 1), thread_name_prefix="maps")
        self._files = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._waiting: deque[Future[None]] = deque()
        self._pending: list[Part] = []

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            return self._close()
        with undisturbed(), suppress(Exception):  # the first error is the one to be told
            self._close()

    def put(self, work: Callable[[], Storable]) -> None:
        """Returns at once, unless too much waits already. Raises what an earlier one raised."""
        self._waiting.append(self._files.submit(self._take, self._work.submit(work)))
        while self._waiting and (len(self._waiting) > self._ahead or self._waiting[0].done()):
            self._waiting.popleft().result()

    def _take(self, found: Future[Storable]) -> None:
        storable = found.result()
        self.failures += storable.failures
        if storable.part is not None:
            self._pending.append(storable.part)
        if len(self._pending) >= self._images or sum(part.nbytes for part in self._pending) >= FILE_BYTES:
            self._write()

    def _write(self) -> None:
        pending, self._pending = self._pending, []
        self._store.append(pending)

    def _close(self) -> None:
        """Waits for all, whatever fails of it, and raises the first error."""
        self._waiting.append(self._files.submit(self._write))
        errors = [future.exception() for future in self._waiting]
        self._files.shutdown()
        self._work.shutdown()
        for error in errors:
            if error is not None:
                raise error
