"""What W&B gets of a finished run folder: numbers, figures, tables with images, and the result as an artifact."""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wandb
from jaxtyping import Bool
from matplotlib.figure import Figure
from PIL import Image

from locheads.evaluation.rows import OF_CANDIDATES
from locheads.records.gallery_file import GalleryItem, load_image
from locheads.report.draw_sample import sample_panel
from locheads.report.figures import attention_sum_curve, dependence_grid, figure6_scatter, frequency_grid
from locheads.report.run_record import RunRecord, read_run
from locheads.report.theme import to_png
from locheads.tracking.wandb_names import artifact_name
from locheads.types import Box

RESULT = ("heads.json", "metrics.json", "predictions.parquet", "scores.parquet", "samples.json", "provenance.json",
          "config.yaml", "receipt.json")  # fmt: skip
"""Files of the artifact."""
COLUMNS = ["sample", "expression", "boxes and mask", "heat map", "IoU", "heads", "error"]
PREDICTED, TRUE = 1, 2
LABELS = {PREDICTED: "predicted", TRUE: "true"}


def log_records(run: Any, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """(what it does, the call) of every part; each may fail without the others. The most important first."""
    record = read_run(folder)
    yield (
        "log the provenance",
        lambda: run.config.update({"provenance": record.provenance.content()}, allow_val_change=True),
    )
    if (metrics := record.metrics) is not None:
        yield "log the numbers", lambda: run.summary.update(metrics.summary())
    if record.heads is not None:
        if metrics is None and (follows := record.heads.follows) is not None:
            yield "log the verdict", lambda: run.summary.update(follows.summary())
        yield "log the figures", lambda: run.log(_figures(record))
    if record.gallery:
        yield "log the samples", lambda: run.log({"samples": _samples(record)})
    if (folder / "predictions.parquet").exists():
        yield "log the predictions", lambda: run.log({"predictions": _predictions(folder)})
    yield "log the result", lambda: run.log_artifact(_result(run, record))


def _figures(record: RunRecord) -> dict[str, Any]:
    figures = {"frequency": frequency_grid, "attention_sum": attention_sum_curve}
    if record.heads is not None and record.heads.dependence is not None:
        figures["dependence"] = dependence_grid
    if record.metrics is not None:
        figures["figure6"] = figure6_scatter
    return {f"figures/{name}": _image(draw(record)) for name, draw in figures.items()}


def _samples(record: RunRecord) -> Any:
    """The report's samples, a row each."""
    table = wandb.Table(columns=COLUMNS)
    for item in record.gallery:
        steps = record.steps.get(item.sample_id)
        boxed = boxed_image(record.folder, item, None if steps is None else steps.mask)
        panel = wandb.Image(sample_panel(record, item), caption=item.expression)
        heads = " ".join(item.heads)
        table.add_data(item.sample_id, item.expression, boxed, panel, item.iou, heads, item.error or "")
    return table


def boxed_image(folder: Path, item: GalleryItem, mask: Bool[np.ndarray, "height width"] | None) -> Any:
    """wandb.Image with the true and the predicted box and the predicted mask, each of which can be switched off there;
    None where the image is missing."""
    image = load_image(folder, item)
    if image is None:
        return None
    boxes = {"true": _boxes(item, item.truth, TRUE, "true")} if item.truth else {}
    if item.answer:
        boxes["predicted"] = _boxes(item, item.answer, PREDICTED, f"predicted, {item.measured}")
    masks = None
    if mask is not None and mask.size:
        height, width, _ = image.shape
        scaled = Image.fromarray(mask * np.uint8(PREDICTED)).resize((width, height), Image.Resampling.NEAREST)
        masks = {"predicted": {"mask_data": np.asarray(scaled), "class_labels": LABELS}}
    return wandb.Image(image, caption=item.expression, boxes=boxes, masks=masks)


def _boxes(item: GalleryItem, boxes: Iterable[Box], label: int, caption: str) -> dict[str, Any]:
    """In shares of the image, because the copy that is shown may be smaller than the original."""
    names, sides = ("minX", "minY", "maxX", "maxY"), (item.width, item.height) * 2
    places = [{name: value / side for name, value, side in zip(names, box, sides, strict=True)} for box in boxes]
    data = [{"position": position, "class_id": label, "box_caption": caption} for position in places]
    return {"box_data": data, "class_labels": LABELS}


def _predictions(folder: Path) -> Any:
    rows = pd.read_parquet(folder / "predictions.parquet")
    return wandb.Table(dataframe=rows.drop(columns=["mask_counts", *OF_CANDIDATES.names], errors="ignore"))


def _result(run: Any, record: RunRecord) -> Any:
    name = artifact_name(record.setting("study") or "run", run.id)
    known = {"digest": record.provenance.digest, "commit": record.provenance.commit}
    artifact = wandb.Artifact(name, type="result", metadata=known)
    for path in (record.folder / name for name in RESULT):
        if path.exists():
            # No copy: the file stays where it is, whole, until it is uploaded.
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
    return artifact


def _image(figure: Figure) -> Any:
    """Drawn here: wandb.Image needs pyplot to take a figure, and nothing of ours imports it."""
    return wandb.Image(Image.open(BytesIO(to_png(figure))))
