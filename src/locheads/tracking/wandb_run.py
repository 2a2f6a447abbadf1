"""A run of the pipeline as a run of W&B.

One thread makes all calls of wandb, whose service process talks to the server: the run puts them into a queue, waits
`tracker.timeout` seconds at its end at most, and then ends that process. So no server can fail or hold a run.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, assert_never

from locheads.config import Config
from locheads.errors import StoreError
from locheads.records.receipt_file import TrackerFile
from locheads.store.digest import json_digest
from locheads.text import reason
from locheads.tracking.config import TrackerConfig, TrackerKind, TrackerMode
from locheads.tracking.wandb_names import check_agent, init_options

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two points of a stage's progress."""
GRACE = 5.0
"""Seconds that an interrupted run waits for W&B, and any run for the thread once the service process is killed."""
SHARE = 1 / 3
"""Part of `tracker.timeout` that the start of a W&B run may take, and its end."""


class Tracker:
    """Reports a run while it goes on. This one, of tracker=none, does nothing."""

    def start(self, identity: str) -> None:
        """Called once; `identity` is all that decides the run's result, in one string."""

    def progress(self, stage: str, unit: str, done: int, total: int | None) -> None:
        """So many are done of `total`."""


@contextmanager
def tracked(config: Config, settings: dict[str, Any], folder: Path) -> Iterator[Tracker]:
    """Around a run. Raises ConfigError as `check_agent` does, and nothing for what happens in W&B."""
    match config.tracker.kind:
        case TrackerKind.none:
            yield Tracker()
        case TrackerKind.wandb:
            check_agent(folder)
            tracker = WandbTracker(config, settings, folder)
            with _environment(folder):
                try:
                    yield tracker
                except BaseException as error:
                    tracker.finish(str(error) or type(error).__name__, isinstance(error, KeyboardInterrupt))
                    raise
                tracker.finish()
        case _:
            assert_never(config.tracker.kind)


class WandbTracker(Tracker):
    """No method raises, and only `finish` waits."""

    def __init__(self, config: Config, settings: dict[str, Any], folder: Path) -> None:
        self._config, self._settings, self._folder = config, settings, folder
        self._options: dict[str, Any] = {}
        self._calls: _WandbThread | None = None
        self._begun: dict[str, float] = {}
        self._logged_at: dict[str, float] = {}

    def start(self, identity: str) -> None:
        """Starts the W&B run, unless W&B has this result."""
        self._options = init_options(self._config, self._settings, self._folder, identity)
        if self._has_it():
            log.info("W&B has this run: %s", self._options["id"])
            return
        try:
            # Here, because the thread would import it while the run imports torch.
            import wandb  # noqa: F401
        except Exception as error:
            log.warning("W&B cannot start (%s): the run folder has everything.", reason(error))
        else:
            self._calls = _WandbThread(self._config.tracker, self._options)

    def progress(self, stage: str, unit: str, done: int, total: int | None) -> None:
        """A point of the history: how many are done, and how many per second."""
        now, name = time.monotonic(), stage.lower().replace(" ", "_")
        if done == 0:
            self._begun[name] = now
        due = done == total or now - self._logged_at.get(name, 0.0) > INTERVAL
        if self._calls is not None and done and due:
            self._logged_at[name] = now
            seconds = max(now - self._begun.get(name, now), 1e-6)
            key = f"progress/{name}/{unit}"
            self._calls.log({key: done, f"{key}_per_second": round(done / seconds, 3)})

    def finish(self, error: str | None = None, interrupted: bool = False) -> None:
        """Logs the results in the run folder, or `error`; writes tracker.json."""
        if not self._options:  # it ended before it was known what it is
            self.start(json_digest(self._settings))
        if self._calls is None:
            return
        outcome = self._calls.finish(self._folder, error, GRACE if interrupted else self._config.tracker.timeout)
        options = {key: self._options[key] for key in ("id", "project", "entity", "group")}
        try:
            TrackerFile.parse(options | outcome).write(self._folder)
        except Exception as broken:
            log.warning("%s", broken)

    def _has_it(self) -> bool:
        """A result that was taken over may have been logged by the run that made it."""
        try:
            known = TrackerFile.read(self._folder)
        except StoreError:
            return False
        return known.complete and all(getattr(known, key) == self._options[key] for key in ("id", "project", "entity"))


class _WandbThread:
    """The calls of wandb for one run, one after the other in a thread that can be left behind."""

    def __init__(self, tracker: TrackerConfig, options: dict[str, Any]) -> None:
        self._tracker, self._options = tracker, options
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._setup: Any = None
        self._run: Any = None
        self._facts: dict[str, Any] = {}
        self._warned: set[str] = set()
        self._given_up = False
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def log(self, point: dict[str, Any]) -> None:
        self._queue.put(lambda: self._try("log the progress", lambda: self._run.log(point)))

    def finish(self, folder: Path, error: str | None, wait: float) -> dict[str, Any]:
        """Waits so many seconds at most. -> what is known of the W&B run."""
        self._queue.put(partial(self._finish, folder, error))
        self._queue.put(None)
        try:
            self._thread.join(wait)
        finally:  # after a second Ctrl-C, too: wandb's exit hook would wait for its service process without a limit
            if self._thread.is_alive():
                self._warn(f"did not answer within {wait:.0f} seconds; wandb/ there holds what was logged")
                self._given_up = True
                _kill_service(self._setup)
                self._thread.join(GRACE)
        return dict(self._facts)

    def _work(self) -> None:
        import wandb

        for mode in dict.fromkeys([choose_mode(self._tracker.mode), "offline"]):
            if self._run is None and (why := self._start(mode)):
                self._warn(f"cannot start {mode} ({why})")
                # The service process still holds the run's id, and would not start it again.
                self._try("stop", partial(wandb.teardown, 1))
        for call in iter(self._queue.get, None):
            if self._run is not None and not self._given_up:
                call()
        self._try("stop", partial(wandb.teardown, 1))

    def _start(self, mode: str) -> str | None:
        """-> why there is no run."""
        import wandb

        try:
            self._setup = wandb.setup()
            self._run = _init(mode, self._tracker.timeout * SHARE, self._options)
        except Exception as error:
            return reason(error)
        place = str(Path(self._run.dir).parent)
        url = None if self._run.offline else self._run.url
        self._facts |= {"mode": mode, "url": url, "folder": place}
        log.info("W&B: %s", url or f"offline; upload with: wandb sync {place}")
        return None

    def _finish(self, folder: Path, error: str | None) -> None:
        from locheads.tracking.wandb_content import log_records

        if error is not None:
            self._try("log the error", lambda: self._run.summary.update({"error": error}))
        else:
            self._try("log the results", lambda: [self._try(*part) for part in log_records(self._run, folder)])
        if self._try("close the run", lambda: self._run.finish(exit_code=int(error is not None))):
            self._facts["complete"] = error is None

    def _try(self, what: str, action: Callable[[], Any]) -> bool:
        try:
            action()
        except BaseException as error:  # wandb calls sys.exit where its service process failed
            self._warn(f"could not {what} ({reason(error)})")
            return False
        return not self._given_up

    def _warn(self, sentence: str) -> None:
        if not self._given_up and sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("W&B %s: the run folder has everything.", sentence)


def _init(mode: str, seconds: float, options: dict[str, Any]) -> Any:
    import wandb

    if mode == "online" and not has_account():
        raise LookupError("no account is set up on this machine: run wandb login")  # wandb would ask at the terminal
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=seconds,
        finish_timeout=seconds,
        finish_timeout_raises=True,
        # Commit and arguments are in the run's own provenance; a remote's URL may hold a token.
        disable_git=True,
        disable_code=True,
        program="run.py",
    )
    return wandb.init(mode=mode, settings=settings, **allowed(options))  # type: ignore[arg-type]


def choose_mode(mode: TrackerMode) -> str:
    """auto: what WANDB_MODE says, else online where an account is set up on this machine."""
    if mode is not TrackerMode.auto:
        return mode.value
    return os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")


def has_account() -> bool:
    """Asks neither the user nor the server, as `wandb.login` may."""
    import wandb
    from wandb.sdk.lib import wbauth

    host = wandb.setup().settings.base_url
    return wbauth.authenticate_session(host=host, source="locheads", prompt=False) is not None


def allowed(options: dict[str, Any]) -> dict[str, Any]:
    """Below `wandb agent` the agent says which run this is, and in which project."""
    taken = ("id", "resume", "project", "entity") if "WANDB_SWEEP_ID" in os.environ else ()
    return {key: value for key, value in options.items() if key not in taken}


def _kill_service(setup: Any) -> None:
    """`setup`: of `wandb.setup`. wandb has no public way: its `teardown` waits for its process without a limit."""
    with suppress(AttributeError):  # it has not started
        connection = setup._connection
        connection._cleanup()  # the exit hook
        connection._finalizer._queue.put(None)  # a thread that would print a traceback
        connection._proc._process.kill()


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """What wandb reads from the environment; at the end, what it changed in this process is as before."""
    own = {"WANDB_DATA_DIR": str(folder / "wandb"), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    before = {name: os.environ.pop(name, None) for name in [*own, "WANDB_SERVICE"]}
    hooks = sys.exit, sys.excepthook
    # A user's own values count, but for a service process that this run could not end.
    os.environ.update({name: before[name] or value for name, value in own.items()})
    try:
        yield
    finally:
        sys.exit, sys.excepthook = hooks
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
