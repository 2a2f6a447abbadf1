"""Who works on which shard. A lease is a small file; taking over from a dead owner writes the next generation of it.

`0003.0001.lease` is shard 3's second lease. The newest generation counts. Only one process can create a file, so of
several that find an owner dead one gets the shard; the old owner, should it live after all, sees a newer generation
and stops. Nothing is locked, so nothing stays locked. No lock guards the data either: the attention store only ever
gains whole files, so what two owners write at worst is the same image twice.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from locheads.errors import StoreError
from locheads.store.derived import checked, parse_json, write_derived_json

BEATS_PER_LEASE = 6
WRITE_EVERY_S = 1.0
"""At most: what a worker tells between its beats."""


class State(StrEnum):
    """What a worker says of its shard; `died`, `free` are what others see."""

    running = "running"
    done = "done"
    failed = "failed"
    stopped = "stopped"
    """By a signal, such as a preemption."""
    died = "died"
    """Says that it runs, but does not live."""
    free = "free"
    """Nobody has begun."""


@dataclass(frozen=True)
class Record:
    """The newest lease of a shard, as anybody reads it."""

    state: State
    generation: int
    content: dict[str, Any]
    age_s: float
    """Seconds since the owner was heard of, by the file system's clock."""

    def owner(self) -> str:
        """In words: machine, process, job."""
        owner = self.content.get("owner", {})
        job = f", job {owner['job']}" if owner.get("job") else ""
        return f"{owner.get('host', 'an unknown machine')}, process {owner.get('pid', '?')}{job}"


def read(folder: Path, shard: int, lease_s: float, now: float | None = None) -> Record:
    """The newest lease of a shard. A file that cannot be read (yet), or is damaged, counts as running, until it is too
    old: what its owner finished is in the store.

    Args:
        folder: of the leases.
        shard: its number.
        lease_s: how long an owner elsewhere may be silent.
        now: `file_time` of the folder; None asks for it.
    """
    generation = _newest(folder, shard)
    if generation is None:
        return Record(State.free, -1, {}, 0.0)
    path = _path(folder, shard, generation)
    content: dict[str, Any] = {}
    age = 0.0
    with suppress(OSError, ValueError, LookupError):
        age = max((file_time(folder) if now is None else now) - path.stat().st_mtime, 0.0)
        content = _lease(parse_json(checked(path.read_bytes())))
    state = State(content.get("state", State.running))
    if state == State.running and (age > lease_s or _is_gone(content.get("owner", {}))):
        state = State.died
    return Record(state, generation, content, age)


def file_time(folder: Path) -> float:
    """Now, by the clock of the folder's file system: those of several machines differ."""
    probe = folder / f".clock.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # not ours to write: this machine's clock is better than none
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


class Lease:
    """A shard that this process has. Keeps itself alive in the background until `close`."""

    def __init__(self, folder: Path, shard: int, generation: int, lease_s: float) -> None:
        self.path = _path(folder, shard, generation)
        self.shard, self.generation = shard, generation
        self.measure: Callable[[], dict[str, Any]] = dict
        """What every beat adds to the record, such as the memory in use."""
        self._folder, self._beat_s = folder, lease_s / BEATS_PER_LEASE
        self._content: dict[str, Any] = {
            "state": State.running,
            "owner": this_process(),
            "taken": _now(),
            "error": None,
        }
        self._lost, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._write()
        self._thread = threading.Thread(target=self._beat, name=f"lease {shard}", daemon=True)
        self._thread.start()

    def tell(self, **facts: Any) -> None:
        """Adds facts to the record. Raises StoreError where another worker has taken the shard over meanwhile."""
        with self._lock:
            self._content |= facts
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self._write()
        if self._lost.is_set() or _newest(self._folder, self.shard) != self.generation:
            raise StoreError(
                f"Shard {self.shard} was taken over by another worker, because this one was not heard of for too long. "
                "What it finished is stored."
            )

    def close(self, state: State, error: str | None = None) -> None:
        """The last word. After `done`, nobody else takes the shard; after anything else the next worker does."""
        self._closed.set()
        self._thread.join()
        with self._lock:
            self._content |= {"state": state, "error": error, "ended": _now()}
        self._write()

    def _beat(self) -> None:
        while not self._closed.wait(self._beat_s):
            if _newest(self._folder, self.shard) != self.generation:
                self._lost.set()
                return
            self._write()

    def _write(self) -> None:
        with self._lock:
            self._content |= self.measure() | {"beat": _now()}
            content = dict(self._content)
        self._written = time.monotonic()
        try:
            write_derived_json(self.path, content)
        except StoreError:  # a full disk must not make the owner look dead
            with suppress(OSError):
                os.utime(self.path)


def claim(folder: Path, shard: int, lease_s: float, again: Callable[[Record], bool] | None = None) -> Lease | Record:
    """The shard's lease; or, where it is done or somebody has it, the record of that. Does not wait.

    Args:
        folder: of the leases.
        shard: its number.
        lease_s: how long an owner elsewhere may be silent.
        again: whether a shard that is done has to be done once more.

    Raises:
        StoreError: the folder cannot be written.
    """
    record = read(folder, shard, lease_s)
    if record.state == State.running or (record.state == State.done and not (again and again(record))):
        return record
    if not _create(_path(folder, shard, record.generation + 1)):  # another process was quicker
        return read(folder, shard, lease_s)
    return Lease(folder, shard, record.generation + 1, lease_s)


def take(
    folder: Path, shards: Sequence[int], lease_s: float, again: Callable[[int, Record], bool] | None = None
) -> Iterator[Lease]:
    """The leases of free shards, one after the other, until every other is done or surely in good hands.

    An owner on another machine that died just now (a node lost, its job queued again) looks alive for `lease_s`: so
    it is watched until its next sign of life. Close each lease before asking for the next. `again`: see `claim`.
    """
    first_seen: dict[int, Any] = {}
    while True:
        silent = False
        for shard in shards:
            found = claim(folder, shard, lease_s, again and partial(again, shard))
            if isinstance(found, Lease):
                yield found
            elif found.state == State.running:
                beat = found.content.get("beat")
                silent |= first_seen.setdefault(shard, beat) == beat
        if not silent:
            return
        time.sleep(min(1.0, lease_s / 20))


def this_process() -> dict[str, Any]:
    """Who this is: enough for another process to tell whether it still lives."""
    environment = os.environ
    array = (environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID"))
    job = "_".join(array) if all(array) else environment.get("SLURM_JOB_ID")  # type: ignore[arg-type]
    return {
        "host": environment.get("SLURMD_NODENAME") or socket.gethostname(),
        "place": _place(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "job": job,
        "rank": environment.get("SLURM_PROCID"),
        "restarts": int(environment.get("SLURM_RESTART_COUNT", 0)),
    }


def _lease(content: Any) -> dict[str, Any]:
    """Raises ValueError for anything else than what we write: it then counts as a file that is being written."""
    owner = content.get("owner", {}) if isinstance(content, dict) else None
    if not isinstance(owner, dict) or (owner and not owner.keys() >= this_process().keys()):
        raise ValueError("no lease")
    State(content.get("state", State.running))
    return dict(content)


def _is_gone(owner: dict[str, Any]) -> bool:
    """True only where it is certain: a process of this machine that is no more, or an earlier life of this job."""
    if not owner:
        return False
    me = this_process()
    if me["job"] and all(me[key] == owner[key] for key in ("job", "rank")) and owner["restarts"] < me["restarts"]:
        return True
    return me["place"] is not None and owner["place"] == me["place"] and _born(owner["pid"]) != owner["born"]


def _place() -> str | None:
    """Where process ids mean the same: a boot of a machine, and in it a namespace. None where it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When the process started, in ticks since boot: ids are used again. None for one that is gone, or a zombie."""
    try:
        # After the name, which may hold anything: state, parent, ...; the start is the 22nd field of all.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _newest(folder: Path, shard: int) -> int | None:
    """Generation of the shard's newest lease."""
    generations = [int(path.name.split(".")[1]) for path in folder.glob(f"{shard:04d}.*.lease")]
    return max(generations, default=None)


def _create(path: Path) -> bool:
    """Makes a lease of this process. -> False where there is one by that name. Raises StoreError."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    # With its content from the first moment: an empty file, left by a kill or a full disk, names no owner to look for.
    write_derived_json(draft, {"state": State.running, "owner": this_process(), "beat": _now()})
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _create_in_place(path, draft.read_bytes())
    finally:
        draft.unlink(missing_ok=True)
    return True


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror or error}. Choose another paths.cache.") from error
    return True


def _path(folder: Path, shard: int, generation: int) -> Path:
    return folder / f"{shard:04d}.{generation:04d}.lease"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
