"""Keeps what the report shows of single samples, so that the page is built without model, store or data set."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco

from locheads.config import Config
from locheads.data.image_files import open_image, read_heat
from locheads.errors import DataError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.methods import HeadPlan, take
from locheads.evaluation.several import answered_boxes
from locheads.geometry import Geometry
from locheads.grounding.contrast import read_maps
from locheads.grounding.ground_maps import GroundedStack, ground_stack
from locheads.pipeline.abstain import SCORE
from locheads.records.gallery_file import MAPS, STEPS, GalleryFile, GalleryItem, StepArrays
from locheads.store.atomic import write_arrays, write_bytes
from locheads.store.attention_store import AttentionStore
from locheads.types import HeadIndex, ImageGroup

HEAT_SIDE = 320
"""Pixels of a true heat map's long side, at most: the pages show it no larger."""


def write_gallery(
    folder: Path, groups: list[ImageGroup], store: AttentionStore, plan: HeadPlan, rows: pd.DataFrame, config: Config
) -> None:
    """Images, maps and boxes of samples that are evenly spaced over the split: not picked by how they look."""
    by_sample = {row["sample_id"]: row for row in rows.to_dict("records")}
    items: list[GalleryItem] = []
    maps: dict[str, np.ndarray] = {}
    steps: dict[str, np.ndarray] = {}
    for group, sample_id in gallery_samples(groups, config.evaluation):
        heads = plan.heads(sample_id)
        attention = next(iter(read_maps(store.read, group, config.grounding.contrast, heads, sample_id)), None)
        geometry = None
        if attention is not None and heads:
            geometry = attention.geometry
            single = take(attention, 0, heads)
            sinks = None if plan.sinks is None else plan.sinks.get((geometry.rows, geometry.cols), heads)
            stack = ground_stack(single[None], (geometry,), config.grounding, sinks)
            maps[sample_id] = np.concatenate([stack.fused, single]).astype(np.float32)
            steps |= _steps(stack, by_sample[sample_id])
        name, content = f"gallery/{group.image_id}.jpg", small_image(group, 640, "JPEG", quality=90)
        if content is not None:
            write_bytes(folder / name, content)
        item = _item(group, by_sample[sample_id], heads, geometry, name if content else None)
        items.append(_with_heat(item, folder, heat_of(group, sample_id), len(items)))
    write_arrays(folder / MAPS, maps)
    write_arrays(folder / STEPS, steps)
    GalleryFile(items=tuple(items)).write(folder)


def gallery_samples(groups: list[ImageGroup], evaluation: EvaluationConfig) -> list[tuple[ImageGroup, str]]:
    """(image, sample id): evenly spaced ones, and those that the user asked for."""
    shown = evenly_spaced(groups, evaluation.gallery)
    requested = set(evaluation.show)
    order = ((group, sample.sample_id) for group in groups for sample in group.samples)
    return shown + [pair for pair in order if pair[1] in requested and pair not in shown]


def evenly_spaced(groups: list[ImageGroup], n_samples: int) -> list[tuple[ImageGroup, str]]:
    """(image, sample id) of at most `n_samples` samples, from the first to the last of the split."""
    order = [(group, sample.sample_id) for group in groups for sample in group.samples]
    n_shown = min(n_samples, len(order))
    return [order[i] for i in np.unique(np.linspace(0, len(order) - 1, n_shown).round().astype(int))]


def _steps(stack: GroundedStack, row: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Arrays of steps.npz for one sample; none where its maps cannot be grounded."""
    try:
        labels, chosen = stack.components[0].labels[0], stack.chosen[0][0]
    except ValueError:
        return {}  # The sample's row carries the reason.
    assert stack.smoothed is not None
    where = stack.places[0].lattices[0]
    mask = np.zeros((0, 0), dtype=bool)
    if isinstance(row["mask_counts"], str):
        size = [int(row["mask_height"]), int(row["mask_width"])]
        mask = coco.decode({"size": size, "counts": row["mask_counts"]}).astype(bool)
    found = StepArrays(
        smoothed=stack.smoothed[0].astype(np.float32),
        labels=labels.astype(np.int32),
        chosen=chosen,
        frame=tuple(where.to_pixels(np.array([0, 0, where.cols, where.rows]))),
        mask=mask,
    )
    return found.named(row["sample_id"])


def _item(
    group: ImageGroup, row: Mapping[Any, Any], heads: tuple[HeadIndex, ...], geometry: Geometry | None, name: str | None
) -> GalleryItem:
    cells = (geometry.rows, geometry.cols) if geometry else (1, 1)
    corners = np.array([0, 0, cells[1], cells[0]])
    return GalleryItem(
        **answer(group, row),
        image=name,
        heads=tuple(map(str, heads)),
        width=group.width,
        height=group.height,
        grid=cells,
        cell_box=geometry.to_pixels(corners).tolist() if geometry else (0, 0, group.width, group.height),
    )


def heat_of(group: ImageGroup, sample_id: str) -> Path | None:
    """The file of a sample's true heat map, where its truth is one."""
    return next(sample.heat for sample in group.samples if sample.sample_id == sample_id)


def heat_image(heat: Path) -> Image.Image:
    """A true heat map of 8 bits as the pages show it."""
    image = Image.fromarray(np.rint(255 * read_heat(heat)).astype(np.uint8))
    image.thumbnail((HEAT_SIDE, HEAT_SIDE))
    return image


def _with_heat(item: GalleryItem, folder: Path, heat: Path | None, number: int) -> GalleryItem:
    if heat is None:
        return item
    name, content = f"gallery/truth_{number:03d}.png", io.BytesIO()  # ids of samples may hold anything
    heat_image(heat).save(content, "PNG")
    write_bytes(folder / name, content.getvalue())
    return item.model_copy(update={"heat": name})


def answer(group: ImageGroup, row: Mapping[Any, Any]) -> dict[str, Any]:
    """What the gallery and the explorer both tell of a row of predictions; `box` is None where it has none, and where
    the truth is a heat map: no box was asked for."""
    if "true_x0" not in row:
        return _about(group, row) | {"box": None, "true_box": None, "iou": 0.0}
    box, true_box = (tuple(float(row[f"{of}{end}"]) for end in ("x0", "y0", "x1", "y1")) for of in ("", "true_"))
    return _about(group, row) | {
        "box": None if any(map(math.isnan, box)) else box,
        "true_box": true_box,
        "iou": row["box_iou"],
    }


def _about(group: ImageGroup, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "sample_id": row["sample_id"],
        "image_id": group.image_id,
        "expression": row["expression"],
        "error": row["error"] if isinstance(row["error"], str) else None,
        **_several(group, row),
        **_beyond_first_look(row),
    }


def _several(group: ImageGroup, row: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields of SeveralBoxes; nothing where an expression always names one object."""
    (sample,) = (sample for sample in group.samples if sample.sample_id == row["sample_id"])
    if sample.boxes is None:
        return {}
    (found,) = answered_boxes(pd.DataFrame([row]))
    boxes = () if found is None else tuple(map(tuple, found.tolist()))
    return {"true_boxes": sample.boxes, "boxes": boxes, "right": bool(row["grec"])}


def _beyond_first_look(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields of BeyondFirstLook; nothing where the first look's maps alone decide."""
    views, absence = row.get("views") or (), row.get(SCORE, math.nan)
    return ({"views": views} if views else {}) | ({} if math.isnan(absence) else {"absence": absence})


def small_image(group: ImageGroup, side: int, kind: str, **options: int) -> bytes | None:
    """The image as a file, at most `side` pixels wide or high; None where it cannot be opened: its samples' rows carry
    the reason."""
    try:
        image = open_image(group)
    except DataError:
        return None
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()
