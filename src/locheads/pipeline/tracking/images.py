"""A sample's image as W&B draws it: boxes and mask lie over it and can be switched on and off."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wandb
from jaxtyping import UInt8
from PIL import Image
from pycocotools import mask as coco

from locheads.records.gallery_file import GalleryItem, load_image
from locheads.types import Box

PREDICTED, TRUE = 1, 2
LABELS = {PREDICTED: "predicted", TRUE: "true"}


def boxed_image(folder: Path, item: GalleryItem, mask: UInt8[np.ndarray, "height width"] | None) -> Any:
    """wandb.Image with the true and the predicted box and the predicted mask; None where the image is missing."""
    image = load_image(folder, item)
    if image is None:
        return None
    boxes = {"true": _boxes(item, item.true_box, TRUE, "true")}
    if item.box is not None:
        boxes["predicted"] = _boxes(item, item.box, PREDICTED, f"predicted, IoU {item.iou:.2f}")
    masks = None
    if mask is not None:
        size = (image.shape[1], image.shape[0])
        scaled = np.asarray(Image.fromarray(mask * PREDICTED).resize(size, Image.Resampling.NEAREST))
        masks = {"predicted": {"mask_data": scaled, "class_labels": LABELS}}
    return wandb.Image(image, caption=item.expression, boxes=boxes, masks=masks)


def predicted_masks(folder: Path, sample_ids: Sequence[str]) -> dict[str, UInt8[np.ndarray, "height width"]]:
    """The predicted mask of each of these samples that has one, 1 inside, in the original image's size."""
    path = folder / "predictions.parquet"
    if not path.exists():
        return {}
    columns = ["sample_id", "mask_counts", "mask_height", "mask_width"]
    rows = pd.read_parquet(path, columns=columns, filters=[("sample_id", "in", list(sample_ids))])
    return {
        row["sample_id"]: coco.decode({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]})
        for row in rows.dropna(subset="mask_counts").to_dict("records")
    }


def _boxes(item: GalleryItem, box: Box, label: int, caption: str) -> dict[str, Any]:
    """In shares of the image, because the copy that is shown may be smaller than the original."""
    x0, y0, x1, y1 = box
    position = {
        "minX": x0 / item.width,
        "maxX": x1 / item.width,
        "minY": y0 / item.height,
        "maxY": y1 / item.height,
    }
    return {"box_data": [{"position": position, "class_id": label, "box_caption": caption}], "class_labels": LABELS}
