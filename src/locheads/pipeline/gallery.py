"""Keeps what the report shows of single samples, so that the page is built without model, store or data set."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.data.pictures import open_picture
from locheads.data.sampling import subset
from locheads.errors import DataError
from locheads.evaluation.methods import HeadPlan, take
from locheads.grounding.fuse import fuse
from locheads.models.geometry import Geometry
from locheads.store.atomic import replacing, write_bytes, write_json
from locheads.store.attention import AttentionStore
from locheads.types import Attention, CompactAttention, HeadIndex, ImageGroup


def write_gallery(
    folder: Path, groups: list[ImageGroup], store: AttentionStore, plan: HeadPlan, rows: pd.DataFrame, config: Config
) -> None:
    """Pictures, maps and boxes of samples that are evenly spaced over the split: not picked by how they look."""
    by_sample = {row["sample_id"]: row for row in rows.to_dict("records")}
    items: list[dict[str, Any]] = []
    maps: dict[str, np.ndarray] = {}
    for group, sample_id in evenly_spaced(groups, config.evaluation.gallery):
        attention = next(iter(store.read(subset([group], {sample_id}))), None)
        heads = plan.heads(sample_id)
        geometry = None
        if attention is not None and heads:
            maps[sample_id] = _maps(attention, heads, config)
            geometry = attention.geometry
        items.append(_item(folder, group, by_sample[sample_id], heads, geometry))
    with replacing(folder / "gallery.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **maps)
    write_json(folder / "gallery.json", items)


def evenly_spaced(groups: list[ImageGroup], n_samples: int) -> list[tuple[ImageGroup, str]]:
    """(picture, sample id) of at most `n_samples` samples, from the first to the last of the split."""
    order = [(group, sample.sample_id) for group in groups for sample in group.samples]
    n_shown = min(n_samples, len(order))
    return [order[i] for i in np.unique(np.linspace(0, len(order) - 1, n_shown).round().astype(int))]


def _maps(attention: Attention | CompactAttention, heads: tuple[HeadIndex, ...], config: Config) -> np.ndarray:
    single = take(attention, 0, heads)
    return np.concatenate([fuse(single, config.grounding)[None], single]).astype(np.float32)


def _item(
    folder: Path,
    group: ImageGroup,
    row: Mapping[Any, Any],
    heads: tuple[HeadIndex, ...],
    geometry: Geometry | None,
) -> dict[str, Any]:
    box = [row[key] for key in ("x0", "y0", "x1", "y1")]
    cells = (geometry.rows, geometry.cols) if geometry else (1, 1)
    corners = np.array([0, 0, cells[1], cells[0]])
    return {
        "sample_id": row["sample_id"],
        "image_id": group.image_id,
        "expression": row["expression"],
        "picture": _picture(folder, group),
        "box": None if any(pd.isna(v) for v in box) else box,
        "true_box": [row[f"true_{key}"] for key in ("x0", "y0", "x1", "y1")],
        "iou": row["box_iou"],
        "heads": [str(head) for head in heads],
        "width": group.width,
        "height": group.height,
        "error": row["error"] if isinstance(row["error"], str) else None,
        "grid": list(cells),
        "cell_box": geometry.to_pixels(corners).tolist() if geometry else [0, 0, group.width, group.height],
    }


def _picture(folder: Path, group: ImageGroup) -> str | None:
    """Copies the picture as JPEG, at most 640 pixels wide or high; None where it cannot be opened."""
    name = f"gallery/{group.image_id}.jpg"
    try:
        picture = open_picture(group)
    except DataError:
        return None  # The sample's row carries the reason.
    picture.thumbnail((640, 640))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    write_bytes(folder / name, content.getvalue())
    return name
