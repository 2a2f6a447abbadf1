"""After a multirun: one table of all its runs, in the terminal and as a file in the sweep's folder."""

import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from locheads.pipeline.progress import console
from locheads.pipeline.receipt import DONE_BEFORE
from locheads.pipeline.records import write_parquet
from locheads.pipeline.tracking.names import SWEEP, sweep_record
from locheads.report.sweep import SweepRow, sweep_frame, sweep_table
from locheads.store.atomic import read_json, write_json

log = logging.getLogger(__name__)

failures: list[str] = []
"""Runs of the last sweep that failed: the command line exits with 1 if there are any."""


class SweepSummary(Callback):
    """Hydra callback, named in conf/config.yaml."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Writes sweep.json, from which the runs know what they share."""
        params = OmegaConf.to_container(config.hydra.sweeper).get("params")  # type: ignore[union-attr]
        overrides = list(config.hydra.overrides.task)
        write_json(Path(config.hydra.sweep.dir) / SWEEP, sweep_record(overrides, params))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Prints the table; writes sweep.parquet."""
        folder = Path(config.hydra.sweep.dir)
        rows = read_sweep(folder)
        failures[:] = [str(row.folder) for row in rows if row.error]
        write_parquet(folder / "sweep.parquet", sweep_frame(rows))
        console.print(sweep_table(rows))
        console.print(f"Sweep: {folder}", soft_wrap=True, highlight=False)


def read_sweep(folder: Path) -> list[SweepRow]:
    """Every run in a sweep's folder, in the order of its job numbers."""
    runs = [path.parent for path in folder.glob("*/overrides.yaml")]
    return [_row(run) for run in sorted(runs, key=_job_number)]


def _job_number(run: Path) -> tuple[int, str]:
    """Runs whose folders the user named (hydra.sweep.subdir) come last, by name."""
    number = run.name.split("_")[0]
    return (int(number) if number.isdecimal() else sys.maxsize, run.name)


def _row(folder: Path) -> SweepRow:
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text()) or []
    # A deletion such as ~tracker has no value.
    pairs = {key: value for key, _, value in (override.lstrip("+").partition("=") for override in overrides)}
    status, metrics, before, provenance = (
        read_json(folder / name) if (folder / name).exists() else {}
        for name in ("status.json", "metrics.json", DONE_BEFORE, "provenance.json")
    )
    finished = status.get("state") == "done"
    error = None if finished else status.get("error") or "did not finish: see its run.log"
    return SweepRow(pairs, folder, metrics or None, error, before.get("folder"), provenance.get("digest"))
