"""Which jobs a model on a data set takes, and which waits for which."""

from dataclasses import dataclass
from pathlib import Path

from locheads.cluster.command import Command
from locheads.config import Config
from locheads.models.engine import ALL_MAPS, top_heads_kept

GPU, CPU = "gpu", "cpu"


@dataclass(frozen=True)
class Job:
    """One submission: a single job, or an array of equal workers."""

    name: str
    command: Command
    kind: str
    """GPU or CPU: which launcher's settings it gets."""
    workers: int = 1
    after: str | None = None
    """Name of the job that has to end well before."""


def chain(config: Config, label: str, overrides: list[str], folder: Path, conf: Path, workers: int) -> list[Job]:
    """attend (array) -> discover -> evaluate -> report, each ready to be started once more.

    Args:
        config: composed from the overrides; shard.count says how the pass is cut.
        label: model and data set, in the jobs' names and as the folder's.
        overrides: of the command line; those that choose the stage and the shards are added.
        folder: of the whole submission.
        conf: folder of the configuration files.
        workers: of each array; 0 where the store has everything already.
    """
    run = folder / label
    jobs: list[Job] = []
    # Compact stores find the heads between discovery's samples and the evaluated ones: two passes.
    passes = 2 if config.engine.maps != ALL_MAPS and top_heads_kept(config.engine.maps) else 1
    for number in range(passes if workers else 0):
        own = (*overrides, "stage=attend", f"shard.count={config.shard.count}", f"shard.lease_s={config.shard.lease_s}")
        name = f"{label}/attend" + (str(number + 1) if passes > 1 else "")
        command = Command(conf, own, run / "attend", worker=True)
        jobs.append(Job(name, command, GPU, workers, jobs[-1].name if jobs else None))
    for stage in ("discover", "evaluate", "report"):
        command = Command(conf, (*overrides, f"stage={stage}"), run)
        jobs.append(Job(f"{label}/{stage}", command, CPU, after=jobs[-1].name if jobs else None))
    return jobs
