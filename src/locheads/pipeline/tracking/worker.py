"""The process that talks to W&B for one run: messages come in as lines of JSON, what a user should know goes out."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any, TextIO

from locheads.text import reason


def main() -> None:
    """Lives until the run has been told, the time is over, or the run is gone."""
    sys.exit(Worker(sys.stdin, _own_stdout()).work())


class Worker:
    """`lines`: first {"init", "mode", "timeout"}, then {"log"} any number of times, at last {"finish", "error"}."""

    def __init__(self, lines: TextIO, out: TextIO) -> None:
        self._lines, self._out = lines, out
        self._timeout = 0.0

    def work(self) -> int:
        """-> exit status: 0 where W&B has everything."""
        first = json.loads(self._lines.readline())
        self._timeout = first["timeout"]
        # What waits for its upload lies in the run folder, not in the home folder of this machine.
        os.environ.setdefault("WANDB_DATA_DIR", str(Path(first["init"]["dir"]) / "wandb"))
        run = self._start(first["init"], first["mode"])
        # A run that is gone sends nothing more.
        last: dict[str, Any] = {"error": "the run was killed"}
        for line in self._lines:
            message = json.loads(line)
            if "finish" in message:
                last = message
                break
            if run is not None:
                self._guarded("log the progress", partial(run.log, message["log"]))
        if run is None:
            return 1
        watchdog = Timer(self._timeout, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        return self._finish(run, last)

    def _start(self, options: dict[str, Any], mode: str) -> Any:
        """A W&B run, offline where online does not work, None where neither does."""
        import wandb

        modes: Any = dict.fromkeys([choose_mode(mode), "offline"])
        for attempt in modes:
            try:
                run = wandb.init(mode=attempt, settings=self._settings(wandb), **allowed(options))
            except Exception as error:
                self._say(warning=f"cannot start {attempt} ({reason(error)})")
                # Its service still holds the run's id, and would not start it again.
                self._guarded("stop", lambda: wandb.teardown(1))
            else:
                place = Path(run.dir).parent
                url = None if run.offline else run.url
                self._say(said={"mode": attempt, "url": url, "folder": str(place)})
                self._say(info=url or f"offline; upload with: wandb sync {place}")
                return run
        return None

    def _settings(self, wandb: Any) -> Any:
        return wandb.Settings(
            silent=True,
            console="off",
            init_timeout=self._timeout / 3,
            finish_timeout=self._timeout / 3,
            # Commit and arguments are in the run's own provenance; a remote's URL may hold a token.
            disable_git=True,
            disable_code=True,
            program="run.py",
            x_stats_pid=os.getppid(),
        )

    def _finish(self, run: Any, last: dict[str, Any]) -> int:
        from locheads.pipeline.tracking.content import log_records

        failed = last["error"] is not None
        if failed:
            self._guarded("log the error", lambda: run.summary.update({"error": last["error"]}))
        else:
            for what, action in log_records(run, Path(last["finish"])):
                self._guarded(what, action)
        closed = self._guarded("close the run", lambda: run.finish(exit_code=int(failed)))
        if closed:
            self._say(said={"complete": not failed})
        return int(not closed)

    def _guarded(self, what: str, action: Callable[[], Any]) -> bool:
        try:
            action()
        except Exception as error:
            self._say(warning=f"could not {what} ({reason(error)})")
            return False
        return True

    def _give_up(self) -> None:
        self._say(warning=f"did not answer within {self._timeout:.0f} seconds; wandb/ there holds what was logged")
        os._exit(0)

    def _say(self, **message: Any) -> None:
        with suppress(OSError):  # the run is gone, and W&B should still know how it ended
            print(json.dumps(message), file=self._out, flush=True)


def choose_mode(mode: str) -> str:
    """auto: what WANDB_MODE says, else online where an account is set up on this machine."""
    if mode != "auto":
        return mode
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    import wandb

    return "online" if wandb.Settings().api_key or wandb.api.api_key else "offline"


def allowed(options: dict[str, Any]) -> dict[str, Any]:
    """Below `wandb agent` the agent says which run this is, and in which project."""
    taken = ("id", "resume", "project", "entity") if "WANDB_SWEEP_ID" in os.environ else ()
    return {key: value for key, value in options.items() if key not in taken}


def _own_stdout() -> TextIO:
    """Our messages' way out; whatever else prints goes where stderr goes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


if __name__ == "__main__":
    # Not to the server that may be the one that hangs; read when wandb is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    main()
