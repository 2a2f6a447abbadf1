"""What a job runs: `run.py` in the job's own process, so that the signals of the queue reach the attention pass."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.helpers import DelayedSubmission


@dataclass(frozen=True)
class Command:
    """Pickled by submitit, which calls it on the node, and again after each requeue."""

    conf: Path
    overrides: tuple[str, ...]
    folder: Path
    """Of the run; of a worker of an array, a folder TASK.RANK in it."""
    worker: bool = False

    def __call__(self) -> None:
        """Exits with the code of `run.py` unless that is 0."""
        from locheads.pipeline.cli import run  # late: submitit unpickles before it sets up its handlers

        folder = self.folder / worker_name() if self.worker else self.folder
        # Quoted: a comma or a brace in a path is Hydra's grammar otherwise.
        sys.argv = ["run.py", *self.overrides, f"hydra.run.dir='{folder}'"]
        run(self.conf)

    def checkpoint(self) -> Any:
        """Queued again as it is: what is finished lies in the store."""
        return DelayedSubmission(self)


def worker_name() -> str:
    """TASK.RANK of this process in its job array."""
    return f"{os.environ.get('SLURM_ARRAY_TASK_ID', 0)}.{os.environ.get('SLURM_PROCID', 0)}"
