"""Hands jobs to SLURM through submitit, and returns."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from locheads.cluster.chain import Job
from locheads.errors import ConfigError

# Of BaseQueueConf of Hydra's plugin; AutoExecutor wants "slurm_" before all others.
COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "stderr_to_stdout")


def check_queue() -> None:
    """Raises ConfigError where there is no SLURM."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "There is no sbatch here: submit on a login node of a SLURM cluster, look at the plan with --dry-run, or "
            "use one machine: run.py -m hydra/launcher=joblib stage=attend shard.count=4 'shard.index=range(0,4)'."
        )


def submit(jobs: Sequence[Job], launchers: dict[str, dict[str, Any]], logs: Path) -> dict[str, str]:
    """Queues the jobs in their order. -> name -> job id.

    Args:
        jobs: a job comes after the one that it waits for.
        launchers: kind of job -> settings of the launcher.
        logs: folder of all logs: JOB_TASK_RANK_log.out and .err.

    Raises:
        ConfigError: sbatch refuses a job; those before it are queued.
    """
    ids: dict[str, str] = {}
    for job in jobs:
        executor = submitit.AutoExecutor(
            logs, cluster="slurm", slurm_max_num_timeout=launchers[job.kind]["max_num_timeout"]
        )
        executor.update_parameters(**_parameters(job, launchers[job.kind], ids))
        try:
            # The command itself is what submitit calls, so that it finds its checkpoint().
            with executor.batch():
                queued_as = [executor.submit(job.command) for _ in range(job.workers)]
        except (subprocess.CalledProcessError, FailedJobError) as error:
            before = f" Queued before it: scancel {' '.join(ids.values())}." if ids else ""
            raise ConfigError(f"sbatch refuses {job.name} ({' '.join(str(error).split())}).{before}") from error
        ids[job.name] = queued_as[0].job_id.split("_")[0]
    return ids


def states(ids: Sequence[str]) -> dict[str, list[str]]:
    """Job id -> the states of what the queue still knows of it; empty for what is over long ago."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%F %T %r", "--jobs", ",".join(ids)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ConfigError(f"squeue cannot be started ({error.strerror}): ask on a node of the cluster.") from error
    found: dict[str, list[str]] = {job_id: [] for job_id in ids}
    for line in result.stdout.splitlines():
        job_id, state, reason = (*line.split(maxsplit=2), "")[:3]
        found.setdefault(job_id, []).append(f"{state} ({reason})" if reason == "DependencyNeverSatisfied" else state)
    return found


def _parameters(job: Job, launcher: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """Of submitit's executor."""
    given = {key: value for key, value in launcher.items() if value is not None and key != "max_num_timeout"}
    own = {"slurm_" * (key not in COMMON) + key: value for key, value in given.items()}
    more = dict(own.get("slurm_additional_parameters", {}))
    if job.after is not None:
        more |= {"dependency": f"afterok:{ids[job.after]}", "kill-on-invalid-dep": "yes"}
    return own | {"name": f"locheads:{job.name}", "slurm_additional_parameters": more}
