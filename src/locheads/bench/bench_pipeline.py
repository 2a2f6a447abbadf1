"""All stages at real size around a model that costs nothing, run as a user runs them; and the same of another checkout.

Every run is a process of its own (`metered_run`), with one thread per library, so that the clock of the thread that
drives the model tells how long the model would wait. CPU time is that of this process alone: those that it grounds in
are forked from a server (engine.processes=1 does all in one). Wall time is of all.
"""

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locheads.bench.meters import machine
from locheads.bench.real_size import write_checkpoint, write_dataset
from locheads.bench.shapes import Shape
from locheads.errors import ConfigError
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.terminal import console

log = logging.getLogger(__name__)

OWN = "this checkout"
PROGRAM = Path(__file__).with_name("metered_run.py")
TOKEN_BUDGET = 16_384
"""What a GPU takes at once."""


@dataclass(frozen=True)
class Run:
    """One command of a user."""

    name: str
    overrides: tuple[str, ...] = ()
    store: str = "all"
    """Runs that name the same one share a store."""
    model: bool = False
    """Whether it runs the model; else the store must hold all that it reads."""


RUNS = (
    Run("all maps", model=True),
    Run("another sigma", ("grounding.sigma=0.5",)),
    Run("another k", ("heads.k=5",)),
    Run("another criterion", ("criterion=s_img",)),
    Run("audit", ("stage=audit", "audit.mode=random", "audit.n=50", "audit.single.grounding.resolution=[]")),
    Run("compact", ("engine=compact",), "few", model=True),
    Run("compact, another sigma", ("engine=compact", "grounding.sigma=0.5"), "few"),
    Run("sweep heads.k=1..5", ("-m", "heads.k=1,2,3,4,5")),
    Run("sweep of Table 5", ("-m", "criterion=s_img,entropy,s_img_entropy", "selection=fixed,greedy")),
)


def benchmark(
    shape: Shape, sizes: list[int], baseline: Path | None = None, only: str = "", scratch: Path | None = None
) -> dict[str, Any]:
    """Every run in whose name the pattern `only` is found, at every size; times in seconds.

    Args:
        shape: of the model.
        sizes: expressions of the evaluated split; discovery's samples follow RefCOCO's share.
        baseline: another checkout, whose package runs the same commands in turn.
        only: regular expression; runs that read a store need the one that fills it.
        scratch: existing folder for stores; 1.2 MB per expression of LLaVA-1.5-7B. None: the system's.

    A run that fails is in the record's `failed`, and the others go on.

    Raises:
        ConfigError: the other checkout holds no package.
    """
    failed: list[dict[str, str]] = []
    sources = {OWN: Path(__file__).parents[2]}
    if baseline is not None:
        sources[str(baseline)] = baseline / "src"
        if not (baseline / "src" / "locheads").is_dir():
            raise ConfigError(f"--baseline {baseline} holds no src/locheads: name the folder of a checkout.")
    where = machine(torch.device("cpu"))
    if scratch is not None and not scratch.is_dir():
        raise ConfigError(f"--scratch {scratch} is no folder: make it, or name another one with room for the stores.")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        write_checkpoint(Path(folder) / "model", shape)
        runs = [found for size in sizes for found in _of_size(Path(folder), size, sources, only, failed)]
    return {
        "benchmark": "pipeline",
        "shape": asdict(shape),
        "machine": where,
        "runs": runs,
        "failed": failed,
        "exponents": _exponents(runs) if len(sizes) > 1 else {},
    }


def show(record: dict[str, Any]) -> None:
    """The record as a table, one for each size."""
    for size in dict.fromkeys(run["evaluated"] for run in record["runs"]):
        runs = [run for run in record["runs"] if run["evaluated"] == size]
        title = f"ms per expression: {size:,} on {runs[0]['images']:,} images, {runs[0]['discovery']:,} of discovery"
        rows = []
        for run in runs:
            for name, stage in run["stages"].items():
                each = [f"{1000 * stage[clock] / stage['expressions']:.2f}" for clock in ("main", "cpu", "wall")]
                exponent = record["exponents"].get(_key(run, name), "")
                store = f"{run['store_mib']:,.0f}" if name == "total" else ""
                memory = f"{stage['peak_mib']:,.0f}" if "peak_mib" in stage else ""
                own = [run["name"], run["checkout"], name]
                rows.append(Row([*own, *each, memory, store, exponent and f"{exponent:.2f}"]))
        headings = [
            *label("run", "checkout", "stage"),
            *figures("driving thread", "CPU", "wall", "peak MiB", "store MiB", "exponent"),
        ]
        console.print(fitted_table(title, headings, rows))
    console.print("CPU: of the run's own process, without those that it grounds in.")
    console.print(f"{record['machine']['processor']}; load average {record['machine']['load_average_at_start']}")


def _of_size(
    folder: Path, size: int, sources: dict[str, Path], only: str, failed: list[dict[str, str]]
) -> list[dict[str, Any]]:
    data = folder / str(size)
    counts, found = write_dataset(data, size), []
    for run in RUNS:
        for number, (checkout, source) in enumerate(sources.items()):
            if re.search(only, run.name):
                place = data / f"checkout_{number}"
                try:
                    measured = _measured(run, source, place, folder / "model", data, counts)
                except ConfigError as error:
                    failed.append({"checkout": checkout, "name": run.name, "reason": str(error)})
                    log.error("%s", error)
                    continue
                found.append({"checkout": checkout, **measured})
                log.info("%s of %s: %.1f s.", run.name, checkout, measured["stages"]["total"]["wall"])
    shutil.rmtree(data)
    return found


def _measured(
    run: Run, source: Path, place: Path, checkpoint: Path, data: Path, counts: dict[str, Any]
) -> dict[str, Any]:
    store, output = place / run.store, place / "run"
    settings = [
        "model=llava_1_5_7b", f"model.id={checkpoint}", "model.dtype=float32", "dataset=refcoco", "engine.device=cpu",
        "dataset.official=", f"paths.data={data}", f"paths.outputs={place / 'outputs'}", f"paths.cache={store}",
        f"hydra.run.dir={output}", f"hydra.sweep.dir={output}", f"discovery.n_samples={counts['n_samples']}",
        f"engine.token_budget={TOKEN_BUDGET}",
    ]  # fmt: skip
    place.mkdir(exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    clocks, meters = _timed(
        run, source, place / "meters.json", str(checkpoint) if run.model else "-", [*run.overrides, *settings]
    )
    trials = json.loads(next(output.rglob("samples.json")).read_text())["trials"]
    discovery, evaluated = len({sample for trial in trials for sample in trial["samples"]}), counts["expressions"]
    asked = {"attend": evaluated + discovery, "discover": discovery}
    stages = _with_rest(meters["stages"], clocks)
    return {
        "name": run.name,
        "overrides": list(run.overrides),
        "images": counts["images"],
        "evaluated": evaluated,
        "discovery": discovery,
        "stages": {name: stage | {"expressions": asked.get(name, evaluated)} for name, stage in stages.items()},
        "free_model": meters["free"],
        "largest_child_mib": meters["largest_child_mib"],
        "store_mib": _mib(store),
        "run_mib": _mib(output),
    }


def _timed(
    run: Run, source: Path, report: Path, checkpoint: str, settings: list[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """-> (clocks of the whole process without the free model, its meters). Raises ConfigError where it fails."""
    command = [sys.executable, str(PROGRAM), str(report), checkpoint, *settings]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=environment, cwd=report.parent, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise ConfigError(f"The run {run.name!r} of {source} failed: {(ended.stderr or ended.stdout)[-800:].strip()}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    meters = json.loads(report.read_text())
    free = meters["free"]
    return {"wall": wall - free["wall"], "cpu": cpu - free["cpu"], "main": meters["main"]}, meters


def _with_rest(stages: dict[str, dict[str, float]], total: dict[str, float]) -> dict[str, dict[str, float]]:
    """The stages, before them what lies around them, and their total."""
    rest = {clock: seconds - sum(stage[clock] for stage in stages.values()) for clock, seconds in total.items()}
    return {"start and end": rest, **stages, "total": total}


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _key(run: dict[str, Any], stage: str) -> str:
    return f"{run['checkout']}: {run['name']}: {stage}"


def _exponents(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of CPU time in the number of expressions, by least squares: 1 is proportional."""
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        for name, stage in run["stages"].items():
            points.setdefault(_key(run, name), []).append((run["evaluated"], max(stage["cpu"], 1e-3)))
    logs = {key: np.log(np.array(found)) for key, found in points.items()}
    return {key: float(np.polyfit(log[:, 0], log[:, 1], 1)[0]) for key, log in logs.items()}
