"""Work on the images of a split in several processes, each with the attention store; the results come in order."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache, partial
from math import ceil
from multiprocessing import forkserver, get_context
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from locheads.errors import StoreError
from locheads.store.attention_store import AttentionStore
from locheads.terminal import track
from locheads.types import ImageGroup

CHUNK = 16
"""Images that are worked on at once: with seven expressions each, steps over some 100 samples. By calculation half a
GB for LLaVA-1.5-7B's maps of all heads, and as much for a lattice of 336 x 336."""
MOST = 8
"""Unless engine.processes says otherwise."""

T = TypeVar("T")
Each = Callable[[Callable[[AttentionStore, list[ImageGroup]], T], list[ImageGroup]], Iterator[T]]
"""What a function of the store and some images gives for each CHUNK of the images, in their order."""


def warm_up(number: int | None, modules: list[str]) -> None:
    """Starts the server that `processes` are forked from, and returns at once: it loads the `modules` whose functions
    they will run, beside what this process does. Not forked from here, because threads would be left behind half-way.

    `number`: of processes, as engine.processes.
    """
    if _at_most(number) <= 1:
        return
    get_context("forkserver").set_forkserver_preload(["__main__", *modules])
    # Ctrl-C goes to all processes of a terminal, and the first one ends the others.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _at_most(number: int | None) -> int:
    return min(os.cpu_count() or 1, MOST) if number is None else number


@contextmanager
def processes(store: AttentionStore, number: int | None, images: int, worth: int = CHUNK) -> Iterator[Each]:
    """Gives what runs a function on chunks of images.

    Args:
        store: which every process gets.
        number: of processes, as engine.processes; None: one per core, MOST at most.
        images: how many there are. A process for no work is not started.
        worth: where `number` is None, so many images for each.

    Raises:
        StoreError: a process was killed.
    """
    busy = min(_at_most(number), ceil(images / (worth if number is None else CHUNK)))
    if busy <= 1:
        yield this_process(store)
        return
    pool = ProcessPoolExecutor(busy, get_context("forkserver"), _prepare, (store,))
    try:
        yield partial(_there, pool)
    except BrokenProcessPool as error:
        raise StoreError(
            "A process that worked on stored maps was killed, most likely for lack of memory: engine.processes=1 does "
            "without others."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def this_process(store: AttentionStore) -> Each:
    """As `processes` of a single one."""
    return partial(_here, store)


def in_parts(
    each: Each, work: Callable[[AttentionStore, list[ImageGroup]], T], groups: list[ImageGroup], name: str
) -> Iterable[T]:
    """What `each` gives of the groups, under a progress bar of this name."""
    return track(each(work, groups), name, f"parts of {CHUNK} images", len(chunks(groups)))


def _here(
    store: AttentionStore, work: Callable[[AttentionStore, list[ImageGroup]], T], groups: list[ImageGroup]
) -> Iterator[T]:
    return (work(store, chunk) for chunk in chunks(groups))


def _there(
    pool: ProcessPoolExecutor, work: Callable[[AttentionStore, list[ImageGroup]], T], groups: list[ImageGroup]
) -> Iterator[T]:
    # Packed once and unpacked once per process, though every chunk brings it: it may hold every sample's own heads.
    return pool.map(partial(_run, ForkingPickler.dumps(work).tobytes()), chunks(groups))


def chunks(groups: list[ImageGroup]) -> list[list[ImageGroup]]:
    """Of CHUNK images; the last may have fewer."""
    return [groups[start : start + CHUNK] for start in range(0, len(groups), CHUNK)]


_stores: list[AttentionStore] = []
"""The store of this process; sent to it once."""


def _prepare(store: AttentionStore) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `warm_up`
    store.sets_aside = False  # that, too, is for the first process
    _stores[:] = [store]


def _run(sent: bytes, chunk: list[ImageGroup]) -> Any:
    return _received(sent)(_stores[0], chunk)


@lru_cache(maxsize=1)
def _received(sent: bytes) -> Callable[[AttentionStore, list[ImageGroup]], Any]:
    """The work that the first process packed; the same bytes are unpacked once."""
    work: Callable[[AttentionStore, list[ImageGroup]], Any] = ForkingPickler.loads(sent)
    return work
