"""`python -m locheads.workers submit --models a,b --datasets x --shards 32 [--dry-run] [setting=value ...]`."""

import argparse
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from locheads.config import Config, check
from locheads.errors import LocHeadsError, print_error
from locheads.models.load import text_shape
from locheads.pipeline.attend_stage import expected_cost, passes
from locheads.pipeline.cli import CONF, composed
from locheads.pipeline.draw_costs import discovery_candidates, draw_costs, look_costs
from locheads.pipeline.error_messages import explain
from locheads.pipeline.fetch import fetch
from locheads.pipeline.inputs import open_dataset
from locheads.pipeline.prepare import prepare
from locheads.store.derived import write_derived_json
from locheads.terminal import PlainConsole
from locheads.workers.shard_table import ShardRow, shard_rows
from locheads.workers.slurm import check_queue, job_lines, submit
from locheads.workers.submission import CPU, GPU, SubmissionPlan, chain, estimated_rate, plan_lines, to_queue


def main(arguments: list[str] | None = None) -> int:
    """-> the exit code."""
    options = _parser().parse_args(arguments)
    # Without a terminal rich assumes 80 columns, which cuts the tables.
    console = PlainConsole(width=None if sys.stdout.isatty() else 140)
    try:
        return _status(options.folder, console) if options.action == "status" else _submit(options, console)
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        return print_error(sentence)


def _status(folder: Path, console: PlainConsole) -> int:
    lines = list(job_lines(folder))
    for _, line in lines:
        console.print(line, soft_wrap=True)
    return 1 if any(failed for failed, _ in lines) else 0


def _submit(options: argparse.Namespace, console: PlainConsole) -> int:
    hydras = [each for each in options.overrides if each.lstrip("+~").startswith("hydra")]
    launchers = {name: composed(options.conf, [f"hydra/launcher={name}", *hydras])[1] for name in (GPU, CPU)}
    own = [each for each in options.overrides if each not in hydras]
    chosen = {
        f"{model}-{dataset}": [f"model={model}", f"dataset={dataset}", *own]
        for model in options.models.split(",")
        for dataset in options.datasets.split(",")
    }
    configs = {label: _config(options, overrides) for label, overrides in chosen.items()}
    if not options.dry_run:
        check_queue()
        for config in configs.values() if options.fetch else ():
            fetch(config)
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    first = next(iter(configs.values()))
    folder = Path(first.paths.outputs).absolute() / first.study / f"cluster_{started}"
    ranks = int(launchers[GPU].get("tasks_per_node") or 1) * int(launchers[GPU].get("nodes") or 1)
    plans = [_plan(options, label, config, chosen[label], folder, ranks) for label, config in configs.items()]
    for line in (line for plan in plans for line in plan_lines(plan)):
        console.print(line, soft_wrap=True)
    if options.dry_run:
        console.print("Nothing was submitted (--dry-run).")
        return 0
    if unknown := [plan for plan in plans if plan.unknown]:
        return print_error(f"{unknown[0].label}: {unknown[0].unknown}")
    jobs = [job for plan in plans for job in plan.jobs]
    ids = submit(jobs, launchers, folder / "logs")
    # What `status` reads.
    write_derived_json(folder / "chain.json", {"argv": sys.argv, "jobs": [job.record(ids[job.name]) for job in jobs]})
    for line in (
        *(f"{job_id}  {name}" for name, job_id in ids.items()),
        f"Follow:  python -m locheads.workers status {folder}",
        f"Logs:    {folder / 'logs'}",
        f"Cancel:  scancel {' '.join(ids.values())}",
        "After that, or after a failure, the same command queues what is missing.",
    ):
        console.print(line, soft_wrap=True)
    return 0


def _config(options: argparse.Namespace, overrides: list[str]) -> Config:
    config = composed(options.conf, [*overrides, "stage=attend", f"shard.count={options.shards}"])[0]
    check(config)
    return config


def _plan(
    options: argparse.Namespace, label: str, config: Config, overrides: list[str], folder: Path, ranks: int
) -> SubmissionPlan:
    known: dict[str, Any]
    try:
        rows, draws, looks = _look(config)
        rate = estimated_rate(rows, options.benchmark, text_shape(config.model))
        known = {"rows": rows, "rate": rate, "draws": draws, "looks": looks}
        shards = to_queue(rows)
    except LocHeadsError as error:
        known, shards = {"unknown": f"not known: {error}"}, [*range(options.shards)]
    return SubmissionPlan(label, chain(config, label, overrides, folder, options.conf, shards, ranks), **known)


def _look(config: Config) -> tuple[list[ShardRow], str, str]:
    """-> (every shard of every pass, what either draw of discovery costs, nothing where the heads are given; what
    further looks cost)."""
    with tempfile.TemporaryDirectory() as nowhere:
        run = prepare(config, Path(nowhere), {})
    cost = expected_cost(run)
    rows = [row for work in passes(run) for row in shard_rows(run.store, work, config.shard, cost)]
    looks = look_costs(config, run.inputs.evaluated, cost)
    if run.given_heads:
        return rows, "", looks
    candidates = discovery_candidates(config, open_dataset(config.dataset, config.paths, config.seed))
    return rows, draw_costs(config, candidates, cost), looks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.workers", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    submitting = actions.add_parser("submit", help="queue attend (array) -> discover -> evaluate -> report, and return")
    submitting.add_argument("--models", required=True, metavar="A,B", help="names of conf/model")
    submitting.add_argument("--datasets", required=True, metavar="X,Y", help="names of conf/dataset")
    submitting.add_argument("--shards", type=int, default=8, help="of each pass, and workers at most (default: 8)")
    submitting.add_argument("--dry-run", action="store_true", help="show the plan, the cost and what is in the store")
    submitting.add_argument("--no-fetch", dest="fetch", action="store_false", help="everything is downloaded already")
    submitting.add_argument("--benchmark", type=Path, default=Path("outputs/bench/attention.json"), metavar="JSON",
                            help="figures for the estimate, from `make bench` (default: %(default)s)")  # fmt: skip
    submitting.add_argument("--conf", type=Path, default=CONF, help=argparse.SUPPRESS)
    submitting.add_argument("overrides", nargs="*", metavar="setting=value", help="as for run.py, and hydra.launcher.*")
    following = actions.add_parser("status", help="how the jobs of a submission are, and why any failed")
    following.add_argument("folder", type=Path, help="as `submit` printed it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
