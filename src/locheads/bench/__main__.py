"""`python -m locheads.bench attention --shape small --json FILE`, or `entropy`, or `grounding`."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from locheads.bench import attention, entropy, grounding
from locheads.bench.shapes import SHAPES
from locheads.errors import ConfigError, LocHeadsError
from locheads.models.placement import pick_device
from locheads.store.atomic import write_json


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes JSON. -> the exit code."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        record = _measure(options)
        show(record)
        if options.json:
            write_json(options.json, record)
            print(f"Written to {options.json}.")
    except LocHeadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def show(record: dict[str, Any]) -> None:
    """The record as a table."""
    where = record["machine"]
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title=f"{record['unit']}, {record['rounds']} interleaved rounds")
    for column in ("step", "median", "min to max", "times faster", "peak extra MiB", "difference to today"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in record["steps"]:
        time, memory = step["time"], step.get("peak_extra_mib")
        difference = step.get("largest_difference_to_today")
        table.add_row(
            step["name"],
            f"{time['median']:.4g}",
            f"{time['min']:.4g} to {time['max']:.4g}",
            f"{step['times_faster']:.1f}",
            "" if memory is None else f"{memory:.0f}",
            "" if difference is None else f"{difference:.1e}",
        )
    console.print(table)
    if floor := record.get("floor"):
        console.print(
            f"Floor {floor['ms_per_expression']:.4g} ms per expression at {floor['matmul_flop_per_second'] / 1e9:.4g} "
            f"GFLOP/s of matrix products; the best packed step takes {floor['best_over_floor']:.2f} times as long."
        )
    for name, value in record.get("extrapolated", {}).get("seconds", {}).items():
        console.print(f"Extrapolated, not run: RefCOCO val in {value:.0f} s by {name}")
    busy = f"load average {where['load_average_at_start']} at the start"
    console.print(
        f"{where['processor']}, {where['cores']} cores, {where['device']}, {where['threads']} threads, {busy}"
    )


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.benchmark == "entropy":
        torch.set_num_threads(1)
        return entropy.benchmark(options.rounds or entropy.ROUNDS)
    if options.benchmark == "grounding":
        torch.set_num_threads(1)
        return grounding.benchmark(options.rounds or grounding.ROUNDS)
    shape = SHAPES[options.shape]
    device = pick_device(options.device or shape.device)
    if shape.dtype == "bfloat16" and device.type == "cpu":
        raise ConfigError(f"--shape {shape.name} is for a GPU: on a CPU its first round alone takes an hour.")
    return attention.benchmark(shape, device, options.rounds or shape.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.bench", description=__doc__)
    parser.add_argument("benchmark", choices=("attention", "entropy", "grounding"))
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small", help="model of the attention benchmark")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=int, help="repetitions of every step (default: the shape's)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the shape's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
