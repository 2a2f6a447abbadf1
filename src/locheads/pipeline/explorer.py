"""Keeps what the head explorer shows: 8-bit maps of many heads of some samples, and small pictures."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.data.pictures import open_picture
from locheads.data.sampling import subset
from locheads.errors import DataError
from locheads.evaluation.methods import HeadPlan
from locheads.grounding.ground import ground_maps
from locheads.models.geometry import Geometry, stretched
from locheads.pipeline.gallery import evenly_spaced
from locheads.pipeline.progress import track
from locheads.report.explorer.codes import decode, encode
from locheads.report.explorer.record import INDEX, MAPS, VERSION, picture_name
from locheads.store.atomic import replacing, write_bytes, write_json
from locheads.store.attention import AttentionStore
from locheads.types import Attention, CompactAttention, Discovery, HeadIndex, ImageGroup

SIDE = 480
"""Pixels of a picture's long side: it is shown about this wide."""


@dataclass(frozen=True)
class Kept:
    """Which heads the explorer may show."""

    layers: int
    heads_per_layer: int
    plan: HeadPlan
    discovery: Discovery | None
    """None where the heads were given."""
    entropy: np.ndarray | None
    """[layer, head], mean over the discovery samples; NaN where no map had a component."""

    def order(self, own: Sequence[HeadIndex]) -> list[HeadIndex]:
        """Every head of the model, the most wanted first: `own` and the oracle, the most frequent, the others."""
        frequent = [] if self.discovery is None else self.discovery.ranking()
        every = [HeadIndex(layer, head) for layer in range(self.layers) for head in range(self.heads_per_layer)]
        return list(dict.fromkeys([*own, *self.plan.fixed, *self.plan.oracle, *frequent, *every]))


def write_explorer(
    folder: Path, groups: list[ImageGroup], store: AttentionStore, kept: Kept, rows: pd.DataFrame, config: Config
) -> None:
    """explorer.json, explorer/maps.bin and explorer/pictures/ of samples that are evenly spaced over the split.

    One sample at a time: nothing but its line of explorer.json stays in memory.
    """
    by_sample = {row["sample_id"]: row for row in rows.to_dict("records")}
    shown = evenly_spaced(groups, config.explorer.samples)
    if not shown:
        return
    pictures = _Pictures(folder)
    with replacing(folder / MAPS) as temporary, temporary.open("wb") as file:
        samples = [
            _sample(file, group, by_sample[sample_id], store, kept, config, len(shown))
            | {"picture": pictures.number(group)}
            for group, sample_id in track(shown, "explorer", "samples")
        ]
    write_json(folder / INDEX, _index(groups, kept, config) | {"samples": samples})


def _index(groups: list[ImageGroup], kept: Kept, config: Config) -> dict[str, Any]:
    return {
        "version": VERSION,
        "n_split": sum(len(group.samples) for group in groups),
        "layers": kept.layers,
        "heads_per_layer": kept.heads_per_layer,
        "localization": [str(head) for head in kept.plan.fixed],
        "oracle": [str(head) for head in kept.plan.oracle],
        "grounding": {key: getattr(value, "value", value) for key, value in vars(config.grounding).items()},
        "entropy": None if kept.entropy is None else [[_finite(v) for v in row] for row in kept.entropy],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sample(
    file: IO[bytes],
    group: ImageGroup,
    row: Mapping[Any, Any],
    store: AttentionStore,
    kept: Kept,
    config: Config,
    n_shown: int,
) -> dict[str, Any]:
    """Appends the sample's maps to `file`. -> its line of explorer.json, but for the picture."""
    sample_id, at = row["sample_id"], file.tell()
    attention = next(iter(store.read(subset([group], {sample_id}))), None)
    own = kept.plan.heads(sample_id)
    heads, codes, scales = [], np.zeros((0, 1, 1), np.uint8), []
    if attention is not None:
        budget = int(1e6 * config.explorer.megabytes / n_shown)
        heads = _affordable(attention, kept.order(own), budget)
        maps = attention.chosen(0, heads)
        if heads and np.isfinite(maps).all():
            codes, scales = encode(maps)
        else:
            heads = []
    file.write(codes.tobytes())
    geometry = attention.geometry if attention is not None else stretched(group.width, group.height, 1, 1)
    box = [row[key] for key in ("x0", "y0", "x1", "y1")]
    answer = None if any(pd.isna(v) for v in box) else [float(v) for v in box]
    return {
        "sample_id": sample_id,
        "image_id": group.image_id,
        "expression": row["expression"],
        **_frame(geometry),
        "true_box": [row[f"true_{key}"] for key in ("x0", "y0", "x1", "y1")],
        "box": answer,
        "iou": row["box_iou"],
        "error": row["error"] if isinstance(row["error"], str) else None,
        "own": [str(head) for head in own],
        "heads": [str(head) for head in heads],
        "scales": scales,
        "at": at,
        "same_box": _same_box(codes, scales, heads, own, geometry, answer, config),
    }


def _frame(geometry: Geometry) -> dict[str, Any]:
    return {key: getattr(geometry, key) for key in ("width", "height", "rows", "cols")} | {
        "scale": list(geometry.scale),
        "offset": list(geometry.offset),
    }


def _affordable(attention: Attention | CompactAttention, order: list[HeadIndex], budget: int) -> list[HeadIndex]:
    """The first heads of `order` that the store has, as many as `budget` bytes hold, but at least one."""
    there = order if isinstance(attention, Attention) else [head for head in order if head in attention.heads]
    rows, cols = attention.maps.shape[-2:]
    return there[: max(budget // (rows * cols), 1)]


def _same_box(
    codes: np.ndarray,
    scales: list[float],
    heads: list[HeadIndex],
    own: Sequence[HeadIndex],
    geometry: Geometry,
    answer: list[float] | None,
    config: Config,
) -> bool | None:
    """Whether 8 bits suffice for the run's own box; None where a map of its heads is missing."""
    if not own or any(head not in heads for head in own):
        return None
    where = [heads.index(head) for head in own]
    box = ground_maps(decode(codes[where], [scales[i] for i in where]), geometry, config.grounding).box
    return (None if box is None else list(box)) == answer


class _Pictures:
    """Writes each picture once, small, and numbers them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int | None] = {}
        self._free: Iterator[int] = iter(range(10**9))

    def number(self, group: ImageGroup) -> int | None:
        """None where it cannot be opened: the sample's row carries the reason."""
        if group.image_id not in self._numbers:
            self._numbers[group.image_id] = self._write(group)
        return self._numbers[group.image_id]

    def _write(self, group: ImageGroup) -> int | None:
        try:
            picture = open_picture(group)
        except DataError:
            return None
        picture.thumbnail((SIDE, SIDE))
        content = io.BytesIO()
        picture.save(content, "WEBP", quality=75, method=4)
        number = next(self._free)
        write_bytes(self._folder / picture_name(number), content.getvalue())
        return number
