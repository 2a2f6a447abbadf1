"""A process that is told to stop keeps what it has: SIGTERM (scancel, preemption, kill) and SIGUSR1 end it in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = ("SIGTERM", "SIGUSR1")
"""SIGUSR1: what `sbatch --signal=USR1@120` sends before the time limit. submitit sends SIGUSR2 and handles it."""
DISTURBING = (*STOPPING, "SIGUSR2", "SIGINT")


class Stopped(SystemExit):
    """As exit code 128 + signal, like a shell's."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.reason = f"Stopped by {signal.Signals(number).name}"

    def __str__(self) -> str:
        return self.reason


def stop_in_order() -> None:
    """From now on the signals raise `Stopped` in the main thread, once; elsewhere and without signals nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in STOPPING:
        # One that somebody handles is left to him; submitit's handler of SIGTERM only says that it was there.
        if hasattr(signal, name) and (name == "SIGTERM" or signal.getsignal(getattr(signal, name)) == signal.SIG_DFL):
            signal.signal(getattr(signal, name), _stop)


@contextmanager
def undisturbed() -> Iterator[None]:
    """While open, no signal but SIGKILL ends what is being written; those that came meanwhile are forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in DISTURBING if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    # The second of two, such as scancel's after a preemption's, must not end the tidying up after the first.
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)
