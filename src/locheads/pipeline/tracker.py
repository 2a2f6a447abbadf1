"""Experiment tracking. A run never fails because of it: whatever goes wrong there is a warning."""

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from locheads.config import Config, TrackerConfig, TrackerKind, TrackerMode
from locheads.report.figures import attention_sum_curve, figure6_scatter, frequency_grid
from locheads.report.panel import sample_panel
from locheads.report.records import RunRecord, read_run

log = logging.getLogger(__name__)


@contextmanager
def tracked(config: Config, settings: dict[str, Any], folder: Path) -> Iterator[None]:
    """Around a run: with tracker=wandb, logs its settings, then its records, figures and pictures."""
    if config.tracker.kind is TrackerKind.none:
        yield
        return
    run = _start(config, settings, folder)
    try:
        yield
    except BaseException:
        if run is not None:
            _guarded("close the run", lambda: run.finish(exit_code=1))
        raise
    if run is not None:
        _guarded("log the results", lambda: log_records(run, folder))
        _guarded("close the run", run.finish)


def log_records(run: Any, folder: Path) -> None:
    """Summary numbers, tables, head-map figures and sample panels of a finished run folder."""
    record = read_run(folder)
    if record.metrics is not None:
        _guarded("log the numbers", lambda: _log_numbers(run, record))
    if record.heads is not None:
        _guarded("log the figures", lambda: _log_figures(run, record))
    if record.gallery:
        _guarded("log the samples", lambda: _log_samples(run, record))
    if (folder / "predictions.parquet").exists():
        _guarded("log the predictions", lambda: _log_predictions(run, folder))


def _log_numbers(run: Any, record: RunRecord) -> None:
    for method, metrics in record.need_metrics().methods.items():
        for metric, estimate in metrics.items():
            run.summary[f"{method}/{metric}"] = estimate.value
            run.summary[f"{method}/{metric}/low"] = estimate.low
            run.summary[f"{method}/{metric}/high"] = estimate.high


def _log_figures(run: Any, record: RunRecord) -> None:
    figures = {"frequency": frequency_grid, "attention_sum": attention_sum_curve, "figure6": figure6_scatter}
    run.log({f"figures/{name}": _image(draw(record)) for name, draw in figures.items()})


def _log_samples(run: Any, record: RunRecord) -> None:
    # A key each: W&B shows a list of pictures wrongly where their sizes differ.
    panels = {item.sample_id: _image(sample_panel(record, item), item.expression) for item in record.gallery}
    run.log({f"samples/{sample_id}": panel for sample_id, panel in panels.items()})


def _log_predictions(run: Any, folder: Path) -> None:
    import pandas as pd
    import wandb

    predictions = pd.read_parquet(folder / "predictions.parquet").drop(columns="mask_counts")
    run.log({"predictions": wandb.Table(dataframe=predictions)})


def _image(figure: Figure, caption: str | None = None) -> Any:
    """Drawn here: wandb.Image needs pyplot to take a figure, and nothing of ours imports it."""
    import wandb

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return wandb.Image(Image.open(content), caption=caption)


def _start(config: Config, settings: dict[str, Any], folder: Path) -> Any:
    """A W&B run, offline where online does not work, None where neither does."""
    import wandb

    tracker = config.tracker
    options: dict[str, Any] = {
        "project": tracker.project,
        "entity": tracker.entity,
        "group": tracker.group or _group(config, folder),
        "job_type": config.stage.value,
        "name": folder.name,
        "config": settings,
        "dir": str(folder),
        "reinit": "finish_previous",
        "settings": wandb.Settings(silent=True, console="off", init_timeout=30),
    }
    for mode in dict.fromkeys([_mode(tracker), "offline"]):
        try:
            run = wandb.init(mode=mode, **options)
        except Exception as error:
            log.warning("W&B cannot start %s (%s).", mode, str(error).splitlines()[0] if str(error) else error)
        else:
            log.info("W&B: %s", run.url or f"offline; upload with: wandb sync {Path(run.dir).parent}")
            return run
    return None


def _group(config: Config, folder: Path) -> str:
    """The runs of one sweep are one group; single runs are grouped by study."""
    sweep = folder.parent.name
    return f"{config.study}/{sweep}" if sweep.startswith("sweep_") else config.study


def _mode(tracker: TrackerConfig) -> Any:
    if tracker.mode is not TrackerMode.auto:
        return tracker.mode.value
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    import wandb

    return "online" if wandb.Settings().api_key or wandb.api.api_key else "offline"


def _guarded(what: str, action: Any) -> None:
    try:
        action()
    except Exception as error:
        log.warning("W&B could not %s (%s): the run folder has everything.", what, error)
