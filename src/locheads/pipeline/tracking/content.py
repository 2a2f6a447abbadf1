"""What W&B is told of a finished run folder: numbers, figures, tables with images, and the result as an artifact."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from matplotlib.figure import Figure
from PIL import Image

from locheads.pipeline.tracking.images import boxed_image, predicted_masks
from locheads.pipeline.tracking.names import artifact_name
from locheads.report.figures import attention_sum_curve, figure6_scatter, frequency_grid
from locheads.report.run_record import RunRecord, read_run
from locheads.report.sample_panel import sample_panel

RESULT = ("heads.json", "metrics.json", "predictions.parquet", "scores.parquet", "samples.json", "provenance.json",
          "config.yaml", "receipt.json")  # fmt: skip
"""Files of the artifact."""
COLUMNS = ["sample", "expression", "boxes and mask", "heat map", "IoU", "heads", "error"]


def log_records(run: Any, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """(what it does, the call) of every part; each may fail without the others. The most important first."""
    record = read_run(folder)
    yield "log the provenance", lambda: run.config.update({"provenance": record.provenance}, allow_val_change=True)
    if record.metrics is not None:
        yield "log the numbers", lambda: _log_numbers(run, record)
    if record.heads is not None:
        yield "log the figures", lambda: _log_figures(run, record)
    if record.gallery:
        yield "log the samples", lambda: run.log({"samples": _samples(record)})
    if (folder / "predictions.parquet").exists():
        yield "log the predictions", lambda: run.log({"predictions": _predictions(folder)})
    yield "log the result", lambda: _log_result(run, record)


def _log_numbers(run: Any, record: RunRecord) -> None:
    run.summary.update(record.need_metrics().summary())


def _log_figures(run: Any, record: RunRecord) -> None:
    figures = {"frequency": frequency_grid, "attention_sum": attention_sum_curve}
    if record.metrics is not None:
        figures["figure6"] = figure6_scatter
    run.log({f"figures/{name}": _image(draw(record)) for name, draw in figures.items()})


def _samples(record: RunRecord) -> Any:
    """The report's samples, a row each."""
    masks = predicted_masks(record.folder, [item.sample_id for item in record.gallery])
    table = wandb.Table(columns=COLUMNS)
    for item in record.gallery:
        image = boxed_image(record.folder, item, masks.get(item.sample_id))
        panel = _image(sample_panel(record, item), item.expression)
        heads = " ".join(item.heads)
        table.add_data(item.sample_id, item.expression, image, panel, item.iou, heads, item.error or "")
    return table


def _predictions(folder: Path) -> Any:
    return wandb.Table(dataframe=pd.read_parquet(folder / "predictions.parquet").drop(columns="mask_counts"))


def _log_result(run: Any, record: RunRecord) -> None:
    artifact = wandb.Artifact(
        artifact_name(record.setting("study") or "run", run.id),
        type="result",
        metadata={"digest": record.provenance.get("digest"), "commit": record.provenance.get("commit")},
    )
    for path in (record.folder / name for name in RESULT):
        if path.exists():
            # No copy: the file stays where it is, whole, until it is uploaded.
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def _image(figure: Figure, caption: str | None = None) -> Any:
    """Drawn here: wandb.Image needs pyplot to take a figure, and nothing of ours imports it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return wandb.Image(Image.open(content), caption=caption)
