"""What SLURM does for us, through submitit: takes jobs that wait for each other, and says how they are."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from locheads.errors import ConfigError, StoreError
from locheads.store.atomic import read_json
from locheads.store.derived import parse_record

# Of BaseQueueConf of Hydra's plugin; AutoExecutor wants "slurm_" before all others.
COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "stderr_to_stdout")


@dataclass(frozen=True)
class Task:
    """`run.py` in the job's own process, so that the signals of the queue reach the attention pass.

    Pickled by submitit, which calls it on the node, and again after each requeue.
    """

    conf: Path
    overrides: tuple[str, ...]
    folder: Path
    """Of the run; of a worker, a folder TASK.RANK in it."""
    shards: tuple[int, ...] = ()
    """Of each of its processes; empty: it is no worker of a pass that is split."""

    def __call__(self) -> None:
        """Exits with the code of `run.py` unless that is 0."""
        from locheads.pipeline.cli import run  # late: submitit unpickles before it sets up its handlers

        overrides, folder = self.overrides, self.folder
        if self.shards:
            rank = int(os.environ.get("SLURM_PROCID", 0))
            if rank >= len(self.shards):  # the last task of an array may have fewer shards than processes
                return
            overrides = (*overrides, f"shard.index={self.shards[rank]}")
            folder = folder / f"{os.environ.get('SLURM_ARRAY_TASK_ID', 0)}.{rank}"
        # Quoted: a comma or a brace in a path is Hydra's grammar otherwise.
        sys.argv = ["run.py", *overrides, f"hydra.run.dir='{folder}'"]
        run(self.conf)

    def checkpoint(self) -> Any:
        """Queued again as it is: what is finished lies in the store."""
        return DelayedSubmission(self)


@dataclass(frozen=True)
class Job:
    """One submission: a single task, or an array of them."""

    name: str
    launcher: str
    """Whose settings it gets."""
    tasks: Sequence[Task]
    after: str | None = None
    """Name of the job that has to end well before."""

    def record(self, job_id: str) -> dict[str, Any]:
        """As chain.json keeps it."""
        shards, first = [task.shards for task in self.tasks], self.tasks[0]
        own = {"name": self.name, "id": job_id, "after": self.after, "workers": len(self.tasks), "shards": shards}
        return own | {"folder": str(first.folder), "array": bool(first.shards), "overrides": first.overrides}


def check_queue() -> None:
    """Raises ConfigError where there is no SLURM."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "There is no sbatch here: submit on a login node of a SLURM cluster, look at the plan with --dry-run, or "
            "use one machine: run.py -m hydra/launcher=joblib stage=attend shard.count=4 'shard.index=range(0,4)'."
        )


def submit(jobs: Sequence[Job], launchers: dict[str, dict[str, Any]], logs: Path) -> dict[str, str]:
    """Queues the jobs, each behind the one that it waits for, with its launcher's settings. -> name -> job id.

    Raises:
        ConfigError: sbatch refuses a job; those before it are queued.
    """
    ids: dict[str, str] = {}
    for job in jobs:
        launcher = launchers[job.launcher]
        executor = submitit.AutoExecutor(logs, cluster="slurm", slurm_max_num_timeout=launcher["max_num_timeout"])
        executor.update_parameters(**_parameters(job, launcher, ids))
        try:
            # The task itself is what submitit calls, so that it finds its checkpoint().
            with executor.batch():
                queued = [executor.submit(task) for task in job.tasks]
        except (subprocess.CalledProcessError, FailedJobError) as error:
            before = f" Queued before it: scancel {' '.join(ids.values())}." if ids else ""
            raise ConfigError(f"sbatch refuses {job.name} ({' '.join(str(error).split())}).{before}") from error
        ids[job.name] = queued[0].job_id.split("_")[0]
    return ids


def in_queue(ids: Iterable[str], *options: str) -> list[tuple[str, str]]:
    """(id, such as 7_3; state) of the jobs' tasks that are pending or running. Raises ConfigError without SLURM."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T %r", "--jobs", ",".join(ids), *options]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ConfigError(f"squeue cannot be started ({error.strerror}): ask on a node of the cluster.") from error
    lines = [(*line.split(maxsplit=2), "")[:3] for line in result.stdout.splitlines()]
    never = "DependencyNeverSatisfied"
    return [(task, f"{state} ({reason})" if reason == never else state) for task, state, reason in lines]


def job_lines(folder: Path) -> Iterator[tuple[bool, str]]:
    """(whether it failed, a line) per job of a submission, as the queue has it, and per failed run with its reason.

    Raises:
        StoreError: the folder is no submission's.
        ConfigError: there is no SLURM.
    """
    try:
        jobs = parse_record((folder / "chain.json").read_bytes())["jobs"]
    except OSError as error:
        raise StoreError(f"{folder} holds no chain.json: give the folder that the submission printed.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / 'chain.json'} is damaged ({error}): look the jobs up with squeue.") from error
    queue = [(task.split("_")[0], state) for task, state in in_queue([job["id"] for job in jobs], "--states=all")]
    for job in jobs:
        states = Counter(state for job_id, state in queue if job_id == job["id"])
        yield False, f"{job['id']}  {job['name']}: {', '.join(f'{n} {state}' for state, n in states.items()) or 'gone'}"
    for path in sorted(folder.rglob("status.json")):
        with suppress(OSError, ValueError, LookupError, TypeError):
            status = read_json(path)
            if status["state"] == "failed":
                yield True, f"{path.parent.relative_to(folder)}: {status['error']} (log: {path.parent / 'run.log'})"


def _parameters(job: Job, launcher: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """Of submitit's executor."""
    chosen = {key: value for key, value in launcher.items() if value is not None and key != "max_num_timeout"}
    own = {"slurm_" * (key not in COMMON) + key: value for key, value in chosen.items()}
    more = dict(own.get("slurm_additional_parameters", {}))
    if job.after is not None:
        more |= {"dependency": f"afterok:{ids[job.after]}", "kill-on-invalid-dep": "yes"}
    return own | {"name": f"locheads:{job.name}", "slurm_additional_parameters": more}
