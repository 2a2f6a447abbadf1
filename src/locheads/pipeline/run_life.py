"""The life of a run: its status, provenance and end, the same for the stages and for the commands beside them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.errors import StoreError
from locheads.pipeline.error_messages import explain
from locheads.records.provenance_file import ProvenanceFile, StatusFile
from locheads.records.receipt_file import RECEIPT
from locheads.store.provenance import provenance

WARNINGS = 100
"""Kept in provenance.json; run.log has all."""
Started = Callable[[str], None]
"""Called with what identifies a run, before its first stage or once an earlier run has taken its place."""


class Status:
    """status.json: how far a run has come, and why it ended. Watches that the run folder loses no file meanwhile."""

    def __init__(self, folder: Path) -> None:
        # Of an earlier run in this folder, whose files are written anew from now on.
        with suppress(OSError):  # which writing the status tells
            (folder / RECEIPT).unlink()
        self._folder = folder
        self._known_files: set[str] = set()
        self._content: dict[str, Any] = {"state": "running", "stages": {}, "error": None}
        self._write()
        self.check_complete()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks a stage as running, then done with its seconds."""
        self._content["stages"][name] = {"state": "running", "seconds": None}
        self._write()
        start = time.perf_counter()
        self.check_complete()
        yield
        self.check_complete()
        self._content["stages"][name] = {"state": "done", "seconds": round(time.perf_counter() - start, 3)}
        self._write()

    def check_complete(self) -> None:
        """Raises StoreError where a file that was there at an earlier call, config.yaml for one, is gone: the folder
        was deleted, moved or tidied while the run went on, and what is written into it later is no whole result."""
        files = (path.relative_to(self._folder) for path in self._folder.rglob("*") if path.is_file())
        present = {str(path) for path in files if not _volatile(path)}
        if gone := sorted(self._known_files - present):
            raise StoreError(
                f"{self._folder} lost {len(gone)} files while the run went on, such as {gone[0]}: what is left is not "
                "its whole result. Start the run again, and leave its folder where it is until it ends."
            )
        self._known_files |= present

    def finish(self, error: str | None = None) -> None:
        """The run ended: well, or with this error."""
        self._content |= {"state": "failed" if error else "done", "error": error}
        self._write()

    def replaced(self) -> None:
        """The result of an earlier run has taken this one's place, its status.json included."""
        self._content = {}

    def end(self) -> None:
        """The run ended well, if nothing has said yet how it ended."""
        if self._content.get("state") == "running":
            self.finish()

    def _write(self) -> None:
        StatusFile.parse(self._content).write(self._folder)


Command = Callable[[Config, Path, Status], None]
"""Does all of a configuration that prepares no attention maps, and writes its files into the run folder."""


@contextmanager
def run_life(folder: Path) -> Iterator[Status]:
    """From the first to the last moment of the block status.json says how the run stands; an error ends it there."""
    status = Status(folder)
    try:
        yield status
        status.end()
    except BaseException as error:
        status.finish(explain(error) or str(error) or type(error).__name__)
        raise


@contextmanager
def recorded_provenance(folder: Path) -> Iterator[dict[str, Any]]:
    """provenance.json, written at the start (a run that dies has one, too) and again with the time at the end."""
    record = provenance() | {"started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": None}
    ProvenanceFile.parse(record).write(folder)
    start = time.perf_counter()
    with _warnings() as warned:
        yield record
    record |= {"seconds": round(time.perf_counter() - start, 3), "warnings": list(warned)}
    ProvenanceFile.parse(record).write(folder)


@contextmanager
def _warnings() -> Iterator[dict[str, None]]:
    """What the package warns of within the block, each sentence once, in their order."""
    found: dict[str, None] = {}

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(found) < WARNINGS:
                found[" ".join(record.getMessage().split())] = None

    keeper, logger = Keeper(logging.WARNING), logging.getLogger("locheads")
    logger.addHandler(keeper)
    try:
        yield found
    finally:
        logger.removeHandler(keeper)


def _volatile(path: Path) -> bool:
    """Whether a file of a run folder may come and go: temporary names, W&B's own, the log."""
    return path.parts[0] in ("run.log", "wandb") or any(part.startswith(".") for part in path.parts)
