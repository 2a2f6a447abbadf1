"""`python -m locheads.bench attention --shape small --json FILE`, or `pipeline`, `entropy`, `grounding`, `evaluate`,
`coverage`, `verdict`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from locheads.bench import bench_attention as attention
from locheads.bench import bench_coverage as coverage
from locheads.bench import bench_entropy as entropy
from locheads.bench import bench_grounding as grounding
from locheads.bench import bench_pipeline as pipeline
from locheads.bench import bench_scoring as evaluate
from locheads.bench import bench_verdict as verdict
from locheads.bench.shapes import SHAPES
from locheads.errors import ConfigError, LocHeadsError, print_error
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.models.placement import pick_device
from locheads.store.atomic import write_json
from locheads.terminal import PlainConsole

BENCHMARKS = ("attention", "pipeline", "entropy", "grounding", "evaluate", "coverage", "verdict")
COLUMNS = {
    "cpu": ("CPU", "{:.4g}"),
    "times_faster": ("times faster", "{:.1f}"),
    "per_second": ("per second", "{:,.0f}"),
    "peak_extra_mib": ("peak extra MiB", "{:.0f}"),
    "peak_extra_mib_of_a_tenth": ("of a tenth", "{:.0f}"),
    "largest_difference_to_today": ("difference to today", "{:.1e}"),
}
"""Key of a step: heading and form of its column, where any step has it."""


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes JSON. -> the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    try:
        record = _measure(options)
        {"coverage": coverage.show, "pipeline": pipeline.show, "verdict": verdict.show}.get(options.benchmark, show)(
            record
        )
        if options.json:
            write_json(options.json, record)
            print(f"Written to {options.json}.")
    except LocHeadsError as error:
        return print_error(error)
    return 1 if record.get("failed") else 0


def show(record: dict[str, Any]) -> None:
    """The record as a table."""
    where = record["machine"]
    console = PlainConsole(width=None if sys.stdout.isatty() else 140)
    shown = {key: how for key, how in COLUMNS.items() if any(key in step for step in record["steps"])}
    rows = []
    for step in record["steps"]:
        time = step["time"]
        cells = ["" if step.get(key) is None else form.format(step[key]) for key, (_, form) in shown.items()]
        spread = f"{time['min']:.4g} to {time['max']:.4g}"
        rows.append(Row([step["name"], f"{time['median']:.4g}", spread, *cells]))
    headings = [*label("step"), *figures("median", "min to max", *(heading for heading, _ in shown.values()))]
    console.print(fitted_table(f"{record['unit']}, {record['rounds']} interleaved rounds", headings, rows))
    if floor := record.get("floor"):
        console.print(
            f"Floor {floor['ms_per_expression']:.4g} ms per expression at {floor['matmul_flop_per_second'] / 1e9:.4g} "
            f"GFLOP/s of matrix products; the best packed step takes {floor['best_over_floor']:.2f} times as long."
        )
    if ratio := record.get("engine_over_bare"):
        console.print(f"The engine takes {ratio:.3f} times as long as the same tokens without capture.")
    if ratio := record.get("answers_times_faster"):
        console.print(f"Answers to all expressions of an image at once take {ratio:.1f} times less than one by one.")
    for name, value in record.get("extrapolated", {}).get("seconds", {}).items():
        console.print(f"Extrapolated, not run: RefCOCO val in {value:.0f} s by {name}")
    busy = f"load average {where['load_average_at_start']} at the start"
    console.print(
        f"{where['processor']}, {where['cores']} cores, {where['device']}, {where['threads']} threads, {busy}"
    )


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.benchmark == "evaluate":
        torch.set_num_threads(1)
        return evaluate.benchmark(options.rounds or evaluate.ROUNDS, options.predictions)
    if options.benchmark == "coverage":
        return coverage.benchmark(options.rounds or coverage.REPEATS)
    if options.benchmark == "verdict":
        return verdict.benchmark(options.rounds or verdict.SETS, cache=options.scratch)
    if options.benchmark == "entropy":
        torch.set_num_threads(1)
        return entropy.benchmark(options.rounds or entropy.ROUNDS)
    if options.benchmark == "grounding":
        torch.set_num_threads(1)
        return grounding.benchmark(options.rounds or grounding.ROUNDS)
    shape = SHAPES[options.shape]
    if options.benchmark == "pipeline":
        return pipeline.benchmark(shape, options.expressions, options.baseline, options.only, options.scratch)
    device = pick_device(options.device or shape.device)
    if shape.dtype == "bfloat16" and device.type == "cpu":
        raise ConfigError(f"--shape {shape.name} is for a GPU: on a CPU its first round alone takes an hour.")
    return attention.benchmark(shape, device, options.rounds or shape.rounds)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _sizes(text: str) -> list[int]:
    return [_at_least_one(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.bench", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small", help="model of attention and pipeline")
    parser.add_argument(
        "--expressions", type=_sizes, default=[250], help="pipeline: of the evaluated split, such as 250,1000,4000"
    )
    parser.add_argument("--baseline", type=Path, help="pipeline: folder of another checkout to measure in turn")
    parser.add_argument("--only", default="", help="pipeline: pattern in the names of the runs to measure")
    parser.add_argument("--scratch", type=Path, help="pipeline, verdict: folder for stores")
    parser.add_argument(
        "--predictions", type=_at_least_one, default=evaluate.PREDICTIONS, help="of the evaluate benchmark"
    )
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=_at_least_one, help="repetitions of every step or simulated case; head sets")
    parser.add_argument("--threads", type=_at_least_one, default=2, help="CPU threads of torch")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the shape's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
