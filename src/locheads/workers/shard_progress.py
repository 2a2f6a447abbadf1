"""How far each shard is: a small file per shard, which its worker replaces as it goes on and anybody may read.

The file steers nothing but what is shown and queued: what is stored, the attention store tells. So two workers on one
shard may overwrite each other's, and one that is lost or damaged costs no result.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from locheads.errors import StoreError
from locheads.store.derived import read_derived_json, write_derived_json

SILENT_S = 600.0
"""A worker writes with every file that it stores: after so long without a word it may have been killed."""
WRITE_EVERY_S = 1.0


class ShardState(StrEnum):
    """Of a shard, as its last worker says; the last two are what others see."""

    running = "running"
    done = "done"
    failed = "failed"
    stopped = "stopped"  # by a signal, such as a preemption
    silent = "silent"  # says that it runs, but nothing was heard of it for SILENT_S
    not_begun = "not begun"


@dataclass(frozen=True)
class ShardProgress:
    """What the file of one shard says."""

    state: ShardState
    content: dict[str, Any]
    age_s: float = 0.0
    """Seconds since the worker was heard of, by the clocks of the two machines."""

    def tokens_per_second(self) -> float | None:
        """None where nothing was timed."""
        seconds = self.content.get("seconds")
        return self.content["tokens_done"] / seconds if seconds else None


def read_progress(path: Path) -> ShardProgress:
    """Of a damaged file a warning gives the name, and its shard counts as not begun."""
    if (content := read_derived_json(path, then="written anew by the shard's next worker")) is None:
        return ShardProgress(ShardState.not_begun, {})
    state, age = ShardState(content["state"]), time.time() - datetime.fromisoformat(content["heard"]).timestamp()
    return ShardProgress(
        ShardState.silent if state == ShardState.running and age > SILENT_S else state, content, max(age, 0.0)
    )


@contextmanager
def reported(path: Path, **facts: Any) -> Iterator[Callable[..., None]]:
    """The file of a shard while it is worked on; at the end it says how that went.

    Gives what adds facts, which are written at most once in `WRITE_EVERY_S`. Raises StoreError where the first or the
    last word cannot be written.
    """
    content = {"state": ShardState.running, "worker": this_worker(), "begun": _now(), "error": None} | facts
    written = 0.0

    def write(**more: Any) -> None:
        nonlocal written
        content.update(more, heard=_now())
        write_derived_json(path, content)
        written = time.monotonic()

    def update(**more: Any) -> None:
        content.update(more)
        if time.monotonic() - written >= WRITE_EVERY_S:
            with suppress(StoreError):  # the pass itself fails if the disk stays full
                write()

    write()
    try:
        yield update
    except BaseException as error:
        with suppress(StoreError):
            state = ShardState.failed if isinstance(error, Exception) else ShardState.stopped
            write(state=state, error=str(error) or type(error).__name__)
        raise
    write(state=ShardState.done)


def summary(states: list[ShardState]) -> str:
    """As "3 done, 1 running"."""
    return ", ".join(f"{states.count(state)} {state}" for state in ShardState if state in states)


def this_worker() -> dict[str, Any]:
    """Machine, process and job (as the queue names it), for people who look for it."""
    array = [os.environ.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK")]
    job = "_".join(array) if all(array) else os.environ.get("SLURM_JOB_ID")
    return {"host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(), "pid": os.getpid(), "job": job}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
