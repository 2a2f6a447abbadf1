"""What a submission will do: the jobs of every model on every data set, what is in the store already, and the cost."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table

from locheads.cluster.chain import CPU, GPU, Job, chain
from locheads.cluster.estimate import Rate, decoder_parameters, from_benchmark, measured
from locheads.config import Config, check
from locheads.errors import LocHeadsError
from locheads.models.load import text_shape
from locheads.pipeline.attend_stage import dealer, passes
from locheads.pipeline.compose import composed
from locheads.pipeline.prepare import prepare
from locheads.pipeline.worker_status import Row, rows_of
from locheads.sharding.lease import State


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    models: Sequence[str]
    datasets: Sequence[str]
    overrides: Sequence[str]
    shards: int
    conf: Path
    folder: Path
    """Of the submission, with a folder for each model on each data set."""
    benchmark: Path
    launchers: dict[str, str] = field(default_factory=lambda: {GPU: "slurm", CPU: "slurm_cpu"})


@dataclass(frozen=True)
class Plan:
    """One model on one data set."""

    label: str
    config: Config
    overrides: list[str]
    jobs: list[Job]
    stored: int
    """Images of the pass that are in the store."""
    images: int
    shards: str
    """Their states, in words."""
    tokens: float
    """Expected, of what is missing."""
    rate: Rate | None
    unknown: str | None = None
    """Why the store cannot be asked yet."""

    def hours(self) -> float | None:
        """Of all workers together, estimated."""
        return None if self.rate is None else self.rate.hours(self.tokens)


def plans(wish: Wish) -> list[Plan]:
    """Every model on every data set. Raises LocHeadsError, or what Hydra raises, for a wrong name or setting."""
    return [_plan(wish, model, dataset) for model, dataset in product(wish.models, wish.datasets)]


def launchers(wish: Wish) -> dict[str, dict[str, Any]]:
    """Kind of job -> settings of its launcher, with the site's keys and `hydra.launcher.*` of the command line."""
    own = [override for override in wish.overrides if _is_hydras(override)]
    return {
        kind: composed(wish.conf, [f"hydra/launcher={name}", *own]).launcher for kind, name in wish.launchers.items()
    }


def plan_table(found: Sequence[Plan]) -> Table:
    """A row per job."""
    result = Table(title="Plan", title_justify="left")
    for column in ("job", "tasks", "after", "images in the store", "GPU hours (estimate)"):
        result.add_column(column, justify="left" if column in ("job", "after") else "right", overflow="fold")
    for plan in found:
        hours = plan.hours()
        for number, job in enumerate(plan.jobs):
            of_pass = job.kind == GPU and number == 0
            result.add_row(
                job.name,
                str(job.workers),
                job.after or "",
                (plan.unknown or f"{plan.stored:,} of {plan.images:,}") if number == 0 else "",
                ("unknown" if hours is None else f"{hours:.2g}") if of_pass else "",
                end_section=number + 1 == len(plan.jobs),
            )
    return result


def remarks(found: Sequence[Plan]) -> list[str]:
    """Where the estimates come from, and what the store says of earlier workers."""
    lines = []
    for plan in found:
        if plan.shards:
            lines.append(f"{plan.label}: shards {plan.shards}.")
        if plan.tokens and plan.rate is not None:
            each = f"{plan.tokens:,.0f} tokens at {plan.rate.tokens_per_second:,.0f} per second"
            lines.append(f"{plan.label}: {each}, {plan.rate.source}. An estimate, without loading the model.")
        elif plan.tokens:
            lines.append(f"{plan.label}: no estimate: run `make bench` on a node of the cluster, or give --benchmark.")
    return lines


def _plan(wish: Wish, model: str, dataset: str) -> Plan:
    label = f"{model}-{dataset}"
    overrides = [f"model={model}", f"dataset={dataset}", *(each for each in wish.overrides if not _is_hydras(each))]
    config = composed(wish.conf, [*overrides, "stage=attend", f"shard.count={wish.shards}"]).config
    check(config)
    try:
        rows, rate = _look(wish, config)
    except LocHeadsError as error:
        jobs = chain(config, label, overrides, wish.folder, wish.conf, wish.shards)
        return Plan(label, config, overrides, jobs, 0, 0, "", 0.0, None, f"not known: {error}")
    left = [row for row in rows if row.stored < row.images and row.record.state != State.running]
    workers = len({row.shard for row in left})
    states = [row.state for row in rows]
    return Plan(
        label,
        config,
        overrides,
        chain(config, label, overrides, wish.folder, wish.conf, workers),
        stored=sum(max(row.stored, 0) for row in rows),
        images=sum(row.images for row in rows),
        shards=", ".join(f"{states.count(state)} {state}" for state in State if state in states),
        tokens=sum(row.tokens_left for row in rows),
        rate=rate,
    )


def _look(wish: Wish, config: Config) -> tuple[list[Row], Rate | None]:
    """-> (every shard of every pass, how fast a worker is)."""
    with tempfile.TemporaryDirectory() as nowhere:
        run = prepare(config, Path(nowhere), {})
    rows = [row for work in passes(run) for row in rows_of(dealer(run), work)]
    rate = measured([row.record for row in rows])
    return rows, rate or from_benchmark(wish.benchmark, decoder_parameters(text_shape(config.model)))


def _is_hydras(override: str) -> bool:
    return override.lstrip("+~").startswith("hydra")
