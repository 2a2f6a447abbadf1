"""Hydra's callback of a multirun. What it needs is imported when the sweep ends, so that --help answers at once."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

failures: list[str] = []
"""Runs of the last sweep that failed: the command line exits with 1 if there are any."""


class SweepSummary(Callback):
    """Named in conf/config.yaml."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Writes sweep.json, from which the runs know what they share."""
        from locheads.tracking.wandb_names import sweep_record

        params = OmegaConf.to_container(config.hydra.sweeper).get("params")  # type: ignore[union-attr]
        overrides = list(config.hydra.overrides.task)
        sweep_record(overrides, params).write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Prints the table; writes sweep.parquet."""
        from locheads.pipeline.sweep_runs import summarise_sweep

        failures[:] = summarise_sweep(Path(config.hydra.sweep.dir))
