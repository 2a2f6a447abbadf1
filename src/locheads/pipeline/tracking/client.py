"""Experiment tracking, seen from the run: everything that talks to W&B is another process (worker.py).

So a run neither fails nor hangs because of a server, a full queue or a client that does not come back: it writes to a
pipe that never blocks, and at its end waits `tracker.timeout` seconds at most.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, assert_never

from locheads.config import Config
from locheads.errors import StoreError
from locheads.pipeline.progress import listening
from locheads.pipeline.tracking.config import TrackerKind
from locheads.pipeline.tracking.names import check_agent, init_options
from locheads.records.receipt_file import TrackerFile
from locheads.store.digest import json_digest

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two points of a stage's progress."""
GRACE = 5.0
"""Seconds beyond the timeout after which the worker, which stops by itself, is stopped."""


@contextmanager
def tracked(config: Config, settings: dict[str, Any], folder: Path) -> Iterator[Callable[[str], None]]:
    """Around a run: with tracker=wandb, tells its settings, progress and results.

    Yields what has to be called once with the identity of the run: all that decides its result, in one string.
    """
    match config.tracker.kind:
        case TrackerKind.none:
            yield lambda _: None
        case TrackerKind.wandb:
            with _told(config, settings, folder) as start:
                yield start
        case _:
            assert_never(config.tracker.kind)


@contextmanager
def _told(config: Config, settings: dict[str, Any], folder: Path) -> Iterator[Callable[[str], None]]:
    check_agent(folder)
    session = Session(config, settings, folder)
    try:
        with listening(session.progress):
            yield session.start
    except BaseException as error:
        session.finish(str(error) or type(error).__name__, GRACE if isinstance(error, KeyboardInterrupt) else None)
        raise
    session.finish()


class Session:
    """One run of W&B. No method raises, and only `finish` waits."""

    def __init__(self, config: Config, settings: dict[str, Any], folder: Path) -> None:
        self._config, self._settings, self._folder = config, settings, folder
        self._options: dict[str, Any] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._said: dict[str, Any] = {}
        self._reader: Thread | None = None
        self._begun: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def start(self, identity: str) -> None:
        """Starts the worker, unless this result is one that W&B has."""
        self._options = init_options(self._config, self._settings, self._folder, identity)
        if self._has_it():
            log.info("W&B has this run: %s", self._options["id"])
            return
        tracker = self._config.tracker
        message = {"init": self._options, "mode": tracker.mode.value, "timeout": tracker.timeout}
        try:
            self._worker = _launch()
            self._reader = Thread(target=self._read, daemon=True)
            self._reader.start()
            # The worker reads this before it does anything else.
            self._send(message)
        except OSError as error:
            log.warning("W&B cannot start (%s): the run folder has everything.", error)
            self._worker = None
        else:
            os.set_blocking(self._pipe(), False)

    def progress(self, stage: str, unit: str, done: int, total: int | None) -> None:
        """A point of the history: how many are done, and how many per second."""
        now, name = time.monotonic(), stage.lower().replace(" ", "_")
        if done == 0:
            self._begun[name] = now
        due = done == total or now - self._told.get(name, 0.0) > INTERVAL
        if self._worker is None or done == 0 or not due:
            return
        self._told[name] = now
        seconds = max(now - self._begun.get(name, now), 1e-6)
        point = {f"progress/{name}/{unit}": done, f"progress/{name}/{unit}_per_second": round(done / seconds, 3)}
        self._try({"log": point})

    def finish(self, error: str | None = None, wait: float | None = None) -> None:
        """Ends the W&B run: with the results of the run folder, or as failed. Waits for the timeout at most."""
        if self._options is None:  # it ended before it was known what it is
            self.start(json_digest(self._settings))
        if self._worker is None or self._options is None:
            return
        wait = self._config.tracker.timeout + GRACE if wait is None else wait
        self._try({"finish": str(self._folder), "error": error})
        self._end(wait)
        known = {key: self._options[key] for key in ("id", "project", "entity", "group")}
        try:
            TrackerFile.parse(known | self._said).write(self._folder)
        except Exception as broken:
            log.warning("%s", broken)

    def _end(self, wait: float) -> None:
        assert self._worker is not None and self._worker.stdin is not None and self._reader is not None
        with suppress(OSError):  # the worker is gone, which the next lines tell
            self._worker.stdin.close()
        try:
            self._worker.wait(wait)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            log.warning("W&B did not answer within %.0f seconds: the run folder has everything.", wait)
        self._reader.join(GRACE)
        if not self._said.get("complete") and self._worker.returncode not in (None, 0):
            log.warning("W&B's process ended early: the run folder has everything, and wandb/ there what was logged.")

    def _has_it(self) -> bool:
        """A result that was taken over may have been logged by the run that made it."""
        assert self._options is not None
        try:
            known = TrackerFile.read(self._folder)
        except StoreError:
            return False
        return known.complete and all(getattr(known, key) == self._options[key] for key in ("id", "project", "entity"))

    def _try(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # full or closed: `finish` says so
            self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        content = json.dumps(message).encode() + b"\n"
        while content:
            content = content[os.write(self._pipe(), content) :]

    def _pipe(self) -> int:
        assert self._worker is not None and self._worker.stdin is not None
        return self._worker.stdin.fileno()

    def _read(self) -> None:
        assert self._worker is not None and self._worker.stdout is not None
        for line in self._worker.stdout:
            message = json.loads(line)
            self._said |= message.get("said", {})
            if "info" in message:
                log.info("W&B: %s", message["info"])
            if "warning" in message:
                log.warning("W&B %s: the run folder has everything.", message["warning"])


def _launch() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "locheads.pipeline.tracking.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what W&B prints there is in wandb/*/logs as well
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for the run, which then tells the worker
    )
