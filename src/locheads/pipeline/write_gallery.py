"""Keeps what the report shows of single samples, so that the page is built without model, store or data set."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from locheads.config import Config
from locheads.data.image_files import open_image
from locheads.data.sampling import subset
from locheads.errors import DataError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.methods import HeadPlan, take
from locheads.geometry import Geometry
from locheads.grounding.fuse import fuse, normalise, smooth, without_sinks
from locheads.grounding.ground_maps import ground_steps
from locheads.records.gallery_file import MAPS, STEPS, GalleryFile, GalleryItem, StepArrays
from locheads.store.atomic import write_arrays, write_bytes
from locheads.store.attention_store import AttentionStore
from locheads.types import Attention, CompactAttention, HeadIndex, ImageGroup


def write_gallery(
    folder: Path, groups: list[ImageGroup], store: AttentionStore, plan: HeadPlan, rows: pd.DataFrame, config: Config
) -> None:
    """Images, maps and boxes of samples that are evenly spaced over the split: not picked by how they look."""
    by_sample = {row["sample_id"]: row for row in rows.to_dict("records")}
    items: list[GalleryItem] = []
    maps: dict[str, np.ndarray] = {}
    steps: dict[str, np.ndarray] = {}
    for group, sample_id in gallery_samples(groups, config.evaluation):
        attention = next(iter(store.read(subset([group], {sample_id}))), None)
        heads = plan.heads(sample_id)
        geometry = None
        if attention is not None and heads:
            maps[sample_id] = _maps(attention, heads, config, plan)
            steps |= _steps(attention, heads, config, plan, by_sample[sample_id])
            geometry = attention.geometry
        items.append(_item(folder, group, by_sample[sample_id], heads, geometry))
    write_arrays(folder / MAPS, maps)
    write_arrays(folder / STEPS, steps)
    GalleryFile(items=tuple(items)).write(folder)


def gallery_samples(groups: list[ImageGroup], evaluation: EvaluationConfig) -> list[tuple[ImageGroup, str]]:
    """(image, sample id): evenly spaced ones, and those that the user asked for."""
    shown = evenly_spaced(groups, evaluation.gallery)
    asked = set(evaluation.show)
    order = ((group, sample.sample_id) for group in groups for sample in group.samples)
    return shown + [pair for pair in order if pair[1] in asked and pair not in shown]


def evenly_spaced(groups: list[ImageGroup], n_samples: int) -> list[tuple[ImageGroup, str]]:
    """(image, sample id) of at most `n_samples` samples, from the first to the last of the split."""
    order = [(group, sample.sample_id) for group in groups for sample in group.samples]
    n_shown = min(n_samples, len(order))
    return [order[i] for i in np.unique(np.linspace(0, len(order) - 1, n_shown).round().astype(int))]


def _maps(
    attention: Attention | CompactAttention, heads: tuple[HeadIndex, ...], config: Config, plan: HeadPlan
) -> np.ndarray:
    single = take(attention, 0, heads)
    fused = fuse(single, config.grounding, _sinks(attention, heads, plan))
    return np.concatenate([fused[None], single]).astype(np.float32)


def _steps(
    attention: Attention | CompactAttention,
    heads: tuple[HeadIndex, ...],
    config: Config,
    plan: HeadPlan,
    row: Mapping[Any, Any],
) -> dict[str, np.ndarray]:
    """Arrays of steps.npz for one sample; none where its maps cannot be grounded."""
    single, sinks, g = take(attention, 0, heads), _sinks(attention, heads, plan), config.grounding
    try:
        steps = ground_steps(single, attention.geometry, g, sinks)
    except ValueError:
        return {}  # The sample's row carries the reason.
    where = steps.lattice
    mask = np.zeros((0, 0), dtype=bool)
    if isinstance(row["mask_counts"], str):
        size = [int(row["mask_height"]), int(row["mask_width"])]
        mask = coco.decode({"size": size, "counts": row["mask_counts"]}).astype(bool)
    found = StepArrays(
        smoothed=smooth(normalise(without_sinks(single, g, sinks), g), g).astype(np.float32),
        labels=steps.labels.astype(np.int32),
        chosen=steps.chosen,
        frame=tuple(where.to_pixels(np.array([0, 0, where.cols, where.rows]))),
        mask=mask,
    )
    return found.named(row["sample_id"])


def _sinks(attention: Attention | CompactAttention, heads: tuple[HeadIndex, ...], plan: HeadPlan) -> np.ndarray | None:
    geometry = attention.geometry
    return None if plan.sinks is None else plan.sinks.get((geometry.rows, geometry.cols), heads)


def _item(
    folder: Path,
    group: ImageGroup,
    row: Mapping[Any, Any],
    heads: tuple[HeadIndex, ...],
    geometry: Geometry | None,
) -> GalleryItem:
    box = row["x0"], row["y0"], row["x1"], row["y1"]
    cells = (geometry.rows, geometry.cols) if geometry else (1, 1)
    corners = np.array([0, 0, cells[1], cells[0]])
    return GalleryItem(
        sample_id=row["sample_id"],
        image_id=group.image_id,
        expression=row["expression"],
        image=_image(folder, group),
        box=None if any(map(pd.isna, box)) else box,
        true_box=(row["true_x0"], row["true_y0"], row["true_x1"], row["true_y1"]),
        iou=row["box_iou"],
        heads=tuple(map(str, heads)),
        width=group.width,
        height=group.height,
        error=row["error"] if isinstance(row["error"], str) else None,
        grid=cells,
        cell_box=geometry.to_pixels(corners).tolist() if geometry else (0, 0, group.width, group.height),
    )


def _image(folder: Path, group: ImageGroup) -> str | None:
    """Copies the image as JPEG, at most 640 pixels wide or high; None where it cannot be opened."""
    name = f"gallery/{group.image_id}.jpg"
    try:
        image = open_image(group)
    except DataError:
        return None  # The sample's row carries the reason.
    image.thumbnail((640, 640))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90)
    write_bytes(folder / name, content.getvalue())
    return name
