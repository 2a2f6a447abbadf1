"""Keeps what the head explorer shows: 8-bit maps of many heads of some samples, and small images."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.data.image_files import open_image
from locheads.data.sampling import subset
from locheads.errors import DataError
from locheads.evaluation.methods import HeadPlan
from locheads.geometry import Geometry, stretched
from locheads.grounding.config import GroundingConfig
from locheads.grounding.ground_maps import ground_maps
from locheads.grounding.sinks import SinkCells
from locheads.pipeline.progress import track
from locheads.pipeline.write_gallery import evenly_spaced
from locheads.records.explorer_file import MAPS, VERSION, ExplorerFile, ExplorerSample, image_name
from locheads.records.record_base import plain
from locheads.report.explorer.codes import decode, encode
from locheads.store.atomic import replacing, write_bytes
from locheads.store.attention_store import AttentionStore
from locheads.types import Attention, Box, CompactAttention, Discovery, HeadIndex, ImageGroup

SIDE = 480
"""Pixels of an image's long side: it is shown about this wide."""


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
        """Every head of the model, the most wanted first: `own`, the best by REC and IoU, the frequent, the others."""
        frequent = [] if self.discovery is None else self.discovery.ranking()
        every = [HeadIndex(layer, head) for layer in range(self.layers) for head in range(self.heads_per_layer)]
        return list(
            dict.fromkeys([*own, *self.plan.fixed, *self.plan.best_rec, *self.plan.best_iou, *frequent, *every])
        )


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
    budget, images = int(1e6 * config.explorer.megabytes / len(shown)), _Images(folder)
    samples = []
    with replacing(folder / MAPS) as temporary, temporary.open("wb") as file:
        for group, sample_id in track(shown, "explorer", "samples"):
            own = kept.plan.heads(sample_id)
            attention = next(iter(store.read(subset([group], {sample_id}))), None)
            coded = _coded(group, attention, kept.order(own), budget)
            row, number = by_sample[sample_id], images.number(group)
            samples.append(_sample(group, row, coded, kept.plan, config, at=file.tell(), image=number))
            file.write(coded.codes.tobytes())
    _index(groups, kept, config, samples).write(folder)


def _index(groups: list[ImageGroup], kept: Kept, config: Config, samples: list[ExplorerSample]) -> ExplorerFile:
    return ExplorerFile(
        version=VERSION,
        n_split=sum(len(group.samples) for group in groups),
        layers=kept.layers,
        heads_per_layer=kept.heads_per_layer,
        localization=tuple(map(str, kept.plan.fixed)),
        best_rec=tuple(map(str, kept.plan.best_rec)),
        best_iou=tuple(map(str, kept.plan.best_iou)),
        grounding=plain(config.grounding),
        entropy=kept.entropy,
        samples=tuple(samples),
    )


@dataclass(frozen=True)
class _Coded:
    """One sample's maps in 8 bits; empty where there are none, or where one is not finite."""

    geometry: Geometry
    heads: list[HeadIndex] = field(default_factory=list)
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1), np.uint8))
    scales: list[float] = field(default_factory=list)

    def box(self, heads: Sequence[HeadIndex], config: GroundingConfig, sinks: SinkCells | None) -> Box | None:
        """What these heads' coded maps ground to."""
        where = [self.heads.index(head) for head in heads]
        cells = None if sinks is None else sinks.get((self.geometry.rows, self.geometry.cols), heads)
        maps = decode(self.codes[where], [self.scales[i] for i in where])
        return ground_maps(maps, self.geometry, config, cells).box


def _sample(
    group: ImageGroup,
    row: Mapping[Any, Any],
    coded: _Coded,
    plan: HeadPlan,
    config: Config,
    at: int,
    image: int | None,
) -> ExplorerSample:
    geometry, own = coded.geometry, plan.heads(row["sample_id"])
    box = row["x0"], row["y0"], row["x1"], row["y1"]
    answer = None if any(map(pd.isna, box)) else box
    same = None
    if own and all(head in coded.heads for head in own):
        again = coded.box(own, config.grounding, plan.sinks)
        same = again == answer
    return ExplorerSample(
        sample_id=row["sample_id"],
        image_id=group.image_id,
        expression=row["expression"],
        width=geometry.width,
        height=geometry.height,
        rows=geometry.rows,
        cols=geometry.cols,
        scale=geometry.scale,
        offset=geometry.offset,
        true_box=(row["true_x0"], row["true_y0"], row["true_x1"], row["true_y1"]),
        box=answer,
        iou=row["box_iou"],
        error=row["error"] if isinstance(row["error"], str) else None,
        own=tuple(map(str, own)),
        heads=tuple(map(str, coded.heads)),
        scales=tuple(coded.scales),
        at=at,
        same_box=same,
        image=image,
    )


def _coded(
    group: ImageGroup, attention: Attention | CompactAttention | None, order: list[HeadIndex], budget: int
) -> _Coded:
    """The first heads of `order` that the store has, as many as `budget` bytes hold, but at least one."""
    if attention is None:
        return _Coded(stretched(group.width, group.height, 1, 1))
    there = order if isinstance(attention, Attention) else [head for head in order if head in attention.heads]
    rows, cols = attention.maps.shape[-2:]
    heads = there[: max(budget // (rows * cols), 1)]
    maps = attention.chosen(0, heads)
    if not heads or not np.isfinite(maps).all():
        return _Coded(attention.geometry)
    return _Coded(attention.geometry, heads, *encode(maps))


class _Images:
    """Writes each image once, small, and numbers them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int | None] = {}
        self._free = count()

    def number(self, group: ImageGroup) -> int | None:
        """None where it cannot be opened: the sample's row carries the reason."""
        if group.image_id not in self._numbers:
            self._numbers[group.image_id] = self._write(group)
        return self._numbers[group.image_id]

    def _write(self, group: ImageGroup) -> int | None:
        try:
            image = open_image(group)
        except DataError:
            return None
        image.thumbnail((SIDE, SIDE))
        content = io.BytesIO()
        image.save(content, "WEBP", quality=75, method=4)
        number = next(self._free)
        write_bytes(self._folder / image_name(number), content.getvalue())
        return number
