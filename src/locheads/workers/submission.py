"""What a submission will do: the jobs of a model on a data set, what is in the store already, and an estimate."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.errors import ConfigError
from locheads.models.engine import ALL_MAPS, top_heads_kept
from locheads.workers.shard_progress import ShardState, summary
from locheads.workers.shard_table import ShardRow
from locheads.workers.slurm import Job, Task, in_queue

GPU, CPU = "slurm", "slurm_cpu"
"""Files of conf/hydra/launcher."""
WHOLE_PASS = "discovery: packed, all layers and heads"
"""The benchmark's step that does what the attend stage does by default."""


@dataclass(frozen=True)
class SubmissionPlan:
    """One model on one data set."""

    label: str
    jobs: list[Job]
    rows: list[ShardRow] = field(default_factory=list)
    """Every shard of every pass."""
    rate: tuple[float, str] | None = None
    """Tokens per second of one worker, measured, never from a data sheet; and where the figure comes from."""
    draws: str = ""
    """What either draw of discovery costs."""
    looks: str = ""
    """What further looks cost at most; nothing where there are none."""
    unknown: str | None = None
    """Why the store cannot be asked yet."""

    @property
    def tokens(self) -> float:
        """Expected, of what is missing."""
        return sum(row.tokens_left for row in self.rows)


def chain(
    config: Config,
    label: str,
    overrides: Sequence[str],
    folder: Path,
    conf: Path,
    shards: Sequence[int],
    ranks: int = 1,
) -> list[Job]:
    """attend (array) -> discover -> evaluate -> report, each ready to be started once more.

    `overrides` are those of the command line, `folder` is the whole submission's, `label` (model and data set) names
    the jobs and a folder in it. `shards` are those of which something is missing, `ranks` the processes of each task.
    """
    run, own = folder / label, (*overrides, "stage=attend", f"shard.count={config.shard.count}")
    starts = range(0, len(shards), ranks)
    array = [Task(conf, own, run / "attend", tuple(shards[start : start + ranks])) for start in starts]
    # Compact stores find the heads between discovery's samples and the evaluated ones: two passes.
    two = config.engine.maps != ALL_MAPS and top_heads_kept(config.engine.maps)
    arrays = () if not array else ("attend1", "attend2") if two else ("attend",)
    jobs: list[Job] = []
    for name in (*arrays, "discover", "evaluate", "report"):
        tasks = array if name in arrays else [Task(conf, (*overrides, f"stage={name}"), run)]
        # A further look asks the model about parts that only the answers tell.
        launcher = GPU if name in arrays or (name == "evaluate" and config.zoom.looks) else CPU
        jobs.append(Job(f"{label}/{name}", launcher, tasks, jobs[-1].name if jobs else None))
    return jobs


def to_queue(rows: Sequence[ShardRow]) -> list[int]:
    """The shards of which something is missing, and that nobody works on: SLURM knows which jobs are alive."""

    def job(row: ShardRow) -> Any:
        return row.progress.content["worker"]["job"] if row.progress.state == ShardState.running else ""

    alive = {*map(job, rows)} - {"", None}
    if alive and shutil.which("squeue") is not None:
        alive = {task for task, _ in in_queue(alive)}
    return sorted({row.shard for row in rows if row.tokens_left and job(row) not in {*alive, None}})


def estimated_rate(rows: Sequence[ShardRow], benchmark: Path, shape: dict[str, int]) -> tuple[float, str] | None:
    """From workers that have filled this very store, else as `from_benchmark`."""
    if rates := [rate for row in rows if (rate := row.progress.tokens_per_second())]:
        return sum(rates) / len(rates), f"measured by {len(rates)} earlier workers of this store"
    return from_benchmark(benchmark, decoder_parameters(shape))


def from_benchmark(path: Path, parameters: float) -> tuple[float, str] | None:
    """From the record of `make bench`, scaled by the size of the decoder's layers. None where there is no such file.

    Raises:
        ConfigError: the file is something else.
    """
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        shape, where = record["shape"], record["machine"]
        (step,) = (step for step in record["steps"] if step["name"] == WHOLE_PASS)
        per_expression = shape["prefix"] / shape["suffixes"] + shape["suffix_length"]
        rate = per_expression / (step["time"]["median"] / 1000) * decoder_parameters(shape) / parameters
        return rate, f"benchmark of shape {shape['name']} on {where['device']} ({path}), scaled by parameters"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is no record of `python -m locheads.bench attention --json` ({error}).") from error


def decoder_parameters(shape: dict[str, Any]) -> float:
    """Weights in the layers: attention without grouped keys, gated MLP."""
    return shape["layers"] * (4 * shape["hidden"] ** 2 + 3 * shape["hidden"] * shape["intermediate"])


def plan_lines(plan: SubmissionPlan) -> Iterator[str]:
    """The jobs, what the store holds, and how long the rest will take."""
    yield f"{plan.label}: {' -> '.join(f'{job.name} ({len(job.tasks)})' for job in plan.jobs)}."
    if plan.unknown:
        yield f"{plan.label}: {plan.unknown}"
    else:
        stored, images = sum(row.stored or 0 for row in plan.rows), sum(row.images for row in plan.rows)
        states = summary([row.state for row in plan.rows])
        yield f"{plan.label}: {stored:,} of {images:,} images are in the store; shards: {states}."
    if plan.draws:
        yield f"{plan.label}: {plan.draws}."
    if plan.looks:
        yield f"{plan.label}: {plan.looks}."
    if plan.tokens and plan.rate is not None:
        rate, source = plan.rate
        hours = f"{plan.tokens / rate / 3600:.2g} GPU hours (estimate)"
        yield f"{plan.label}: {hours}: {plan.tokens:,.0f} tokens at {rate:,.0f} per second, {source}."
    elif plan.tokens:
        yield f"{plan.label}: no estimate: run `make bench` on a node of the cluster, or give --benchmark."
