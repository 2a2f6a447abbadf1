"""`python -m locheads.cluster submit --models a,b --datasets x --shards 32 [--dry-run] [setting=value ...]`."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from locheads.cluster.follow import follow
from locheads.cluster.plan import Plan, Wish, launchers, plan_table, plans, remarks
from locheads.cluster.queue import check_queue, submit
from locheads.errors import complain
from locheads.pipeline.compose import composed
from locheads.pipeline.fetch import fetch
from locheads.pipeline.mistakes import explain
from locheads.store.derived import write_derived_json
from locheads.terminal import PlainConsole

CONF = Path(__file__).parents[1] / "conf"


def main(arguments: list[str] | None = None) -> int:
    """-> the exit code."""
    options = _parser().parse_args(arguments)
    # Without a terminal rich assumes 80 columns, which cuts the tables.
    console = PlainConsole(width=None if sys.stdout.isatty() else 140)
    try:
        if options.action == "status":
            return follow(options.folder, console)
        return _submit(options, console)
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        return complain(sentence)


def _submit(options: argparse.Namespace, console: PlainConsole) -> int:
    wish = _wish(options)
    settings = launchers(wish)
    if not options.dry_run:
        check_queue()
    if not options.dry_run and options.fetch:
        for plan in plans(wish):
            fetch(plan.config)
    found = plans(wish)
    console.print(plan_table(found))
    for line in remarks(found):
        console.print(line, soft_wrap=True)
    if options.dry_run:
        console.print("Nothing was submitted (--dry-run).")
        return 0
    if unknown := [plan for plan in found if plan.unknown]:
        return complain(f"{unknown[0].label}: {unknown[0].unknown}")
    jobs = [job for plan in found for job in plan.jobs]
    ids = submit(jobs, settings, wish.folder / "logs")
    _record(wish, found, ids)
    for name, job_id in ids.items():
        console.print(f"{job_id}  {name}")
    for line in (
        f"Follow:  python -m locheads.cluster status {wish.folder}",
        f"Logs:    {wish.folder / 'logs'}",
        f"Cancel:  scancel {' '.join(ids.values())}",
        "After that, or after a failure, the same command queues what is missing.",
    ):
        console.print(line, soft_wrap=True)
    return 0


def _record(wish: Wish, found: list[Plan], ids: dict[str, str]) -> None:
    """chain.json: what `status` reads."""
    jobs = [
        {
            "name": job.name,
            "id": ids[job.name],
            "after": job.after,
            "workers": job.workers,
            "folder": str(job.command.folder),
            "array": job.command.worker,
            "overrides": list(job.command.overrides),
        }
        for plan in found
        for job in plan.jobs
    ]
    write_derived_json(wish.folder / "chain.json", {"argv": sys.argv, "jobs": jobs})


def _wish(options: argparse.Namespace) -> Wish:
    settings = composed(options.conf, [each for each in options.overrides if not each.startswith("hydra")]).config
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return Wish(
        models=options.models.split(","),
        datasets=options.datasets.split(","),
        overrides=options.overrides,
        shards=options.shards,
        conf=options.conf,
        folder=Path(settings.paths.outputs).absolute() / settings.study / f"cluster_{started}",
        benchmark=options.benchmark,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.cluster", description=__doc__)
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
