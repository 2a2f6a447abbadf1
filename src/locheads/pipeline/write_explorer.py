"""Keeps what the head explorer shows: 8-bit maps of many heads of some samples, and small images."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from PIL import Image

from locheads.config import Config
from locheads.evaluation.methods import HeadPlan
from locheads.geometry import Geometry, stretched
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.contrast import read_maps
from locheads.grounding.ground_maps import ground_stack
from locheads.grounding.sinks import SinkCells
from locheads.pipeline.write_gallery import HEAT_SIDE, answer, evenly_spaced, heat_image, heat_of, small_image
from locheads.records.explorer_file import MAPS, VERSION, ExplorerFile, ExplorerSample, image_name
from locheads.records.record_base import plain
from locheads.report.draw_sample import Tile, to_bytes
from locheads.store.atomic import replacing, write_bytes
from locheads.store.attention_store import AttentionStore
from locheads.store.provenance import version
from locheads.terminal import track
from locheads.types import Box, Discovery, HeadIndex, ImageGroup

SIDE = 480
"""Pixels of an image's long side: it is shown about this wide."""
ENCODING = {"quality": 75, "method": 2}
"""The method that takes half the time of the next, for 4 % more bytes."""
WRITERS = 16
"""Images that are written at once: each waits for the disk."""
CODES = 255
"""The largest code of a map's cell."""


@dataclass(frozen=True)
class ExplorerHeads:
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
        return list(dict.fromkeys([*own, *self._shared]))

    @cached_property
    def _shared(self) -> list[HeadIndex]:
        """The order of all samples, but for their own heads."""
        frequent = [] if self.discovery is None else self.discovery.ranking()
        every = [HeadIndex(layer, head) for layer in range(self.layers) for head in range(self.heads_per_layer)]
        return list(dict.fromkeys([*self.plan.fixed, *self.plan.best_rec, *self.plan.best_iou, *frequent, *every]))


def write_explorer(
    folder: Path,
    groups: list[ImageGroup],
    store: AttentionStore,
    heads: ExplorerHeads,
    rows: pd.DataFrame,
    config: Config,
) -> None:
    """explorer.json, explorer/maps.bin and explorer/pictures/ of samples that are evenly spaced over the split.

    One sample at a time: nothing but its line of explorer.json stays in memory.
    """
    by_sample = {row["sample_id"]: row for row in rows.to_dict("records")}
    shown = evenly_spaced(groups, config.explorer.samples)
    if not shown:
        return
    budget = int(1e6 * config.explorer.megabytes / len(shown))
    samples: list[ExplorerSample] = []
    numbers = _write_pictures(folder, _pictures(store, [group for group, _ in shown], max(config.engine.workers, 1)))
    heats = _write_heats(folder, shown, first=sum(number is not None for number in numbers.values()))
    with replacing(folder / MAPS) as temporary, temporary.open("wb") as file:
        for group, sample_id in track(shown, "explorer", "samples"):
            own = heads.plan.heads(sample_id)
            encoded = _encoded_maps(group, sample_id, store, heads.order(own), budget, config.grounding.contrast)
            row, number = by_sample[sample_id], numbers[group.image_id]
            sample = _sample(group, row, encoded, heads.plan, config, at=file.tell(), image=number)
            samples.append(sample.model_copy(update=heats.get(sample_id, {})))
            file.write(encoded.codes.tobytes())
    _index(groups, heads, config, samples).write(folder)


def _index(
    groups: list[ImageGroup], heads: ExplorerHeads, config: Config, samples: list[ExplorerSample]
) -> ExplorerFile:
    return ExplorerFile(
        version=VERSION,
        n_split=sum(len(group.samples) for group in groups),
        layers=heads.layers,
        heads_per_layer=heads.heads_per_layer,
        localization=tuple(map(str, heads.plan.fixed)),
        best_rec=tuple(map(str, heads.plan.best_rec)),
        best_iou=tuple(map(str, heads.plan.best_iou)),
        grounding=plain(config.grounding),
        entropy=heads.entropy,
        samples=tuple(samples),
    )


@dataclass(frozen=True)
class _EncodedMaps:
    """One sample's maps in 8 bits; empty where there are none, or where one is not finite."""

    geometry: Geometry
    heads: list[HeadIndex] = field(default_factory=list)
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1), np.uint8))
    scales: list[float] = field(default_factory=list)

    def box(self, heads: Sequence[HeadIndex], config: GroundingConfig, sinks: SinkCells | None) -> Box | None:
        """What these heads' encoded maps ground to."""
        where = [self.heads.index(head) for head in heads]
        cells = None if sinks is None else sinks.get((self.geometry.rows, self.geometry.cols), heads)
        maps = decode(self.codes[where], [self.scales[i] for i in where])
        return ground_stack(maps[None], (self.geometry,), config, cells).box()


def _sample(
    group: ImageGroup,
    row: Mapping[Any, Any],
    encoded: _EncodedMaps,
    plan: HeadPlan,
    config: Config,
    at: int,
    image: int | None,
) -> ExplorerSample:
    geometry, own = encoded.geometry, plan.heads(row["sample_id"])
    told, same = answer(group, row), None
    more_decides = "views" in told or ("absence" in told and told["box"] is None)
    if own and told["true_box"] is not None and not more_decides and all(head in encoded.heads for head in own):
        same = encoded.box(own, config.grounding, plan.sinks) == told["box"]
    return ExplorerSample(
        **told,
        width=geometry.width,
        height=geometry.height,
        rows=geometry.rows,
        cols=geometry.cols,
        scale=geometry.scale,
        offset=geometry.offset,
        own=tuple(map(str, own)),
        heads=tuple(map(str, encoded.heads)),
        scales=tuple(encoded.scales),
        at=at,
        same_box=same,
        image=image,
    )


def _encoded_maps(
    group: ImageGroup, sample_id: str, store: AttentionStore, order: list[HeadIndex], budget: int, how: Contrast
) -> _EncodedMaps:
    """The first heads of `order` that the store has, as many as `budget` bytes hold, but at least one."""
    grid = store.grid_of_all_maps(group, sample_id)
    asked = order if grid is None else order[: _held(budget, *grid)]
    attention = next(iter(read_maps(store.read, group, how, asked, sample_id)), None)
    if attention is None:
        return _EncodedMaps(stretched(group.width, group.height, 1, 1))
    kept, geometry = frozenset(asked if attention.heads is None else attention.heads), attention.geometry
    heads = [head for head in order if head in kept][: _held(budget, geometry.rows, geometry.cols)]
    maps = attention.chosen(0, heads)
    if not heads or not np.isfinite(maps).all():
        return _EncodedMaps(geometry)
    return _EncodedMaps(geometry, heads, *encode(maps))


def _held(budget: int, rows: int, cols: int) -> int:
    return max(budget // (rows * cols), 1)


def _pictures(store: AttentionStore, groups: list[ImageGroup], threads: int) -> dict[str, bytes]:
    """Image id -> a small WebP, empty where the image cannot be opened.

    Kept beside the maps, because every run on them shows the same; and made in threads, because nothing else of the
    explorer takes as long, and Pillow lets go of the interpreter.
    """
    images = list({group.image_id: group for group in groups}.values())

    def make() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(threads, thread_name_prefix="picture") as pool:
            contents = pool.map(lambda group: small_image(group, SIDE, "WEBP", **ENCODING) or b"", images)
            shown = enumerate(track(contents, "pictures", "images", len(images)))
            return {str(number): np.frombuffer(content, np.uint8) for number, content in shown}

    depends_on = [[store.image(group) for group in images], SIDE, ENCODING, version("pillow")]
    found = store.kept("pictures", images, depends_on, make)
    return {group.image_id: found[str(number)].tobytes() for number, group in enumerate(images)}


def _write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> dict[str, int | None]:
    """-> image id -> the number of its file; None where there is none."""
    shown = {image_id: content for image_id, content in pictures.items() if content}
    numbers: dict[str, int | None] = {image_id: number for number, image_id in enumerate(shown)}
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="picture") as pool:
        list(pool.map(write_bytes, [folder / image_name(number) for number in range(len(shown))], shown.values()))
    return dict.fromkeys(pictures) | numbers


def _write_heats(folder: Path, shown: list[tuple[ImageGroup, str]], first: int) -> dict[str, dict[str, int]]:
    """Sample id -> the number of the picture of its true heat map over its image, for samples that have one."""
    heats = [(group, sample_id, heat) for group, sample_id in shown if (heat := heat_of(group, sample_id)) is not None]
    for number, (group, _, heat) in enumerate(heats, first):
        size = group.width, group.height
        image = small_image(group, HEAT_SIDE, "PNG")
        under = None if image is None else Image.open(BytesIO(image))
        tile = Tile(under, size, (HEAT_SIDE, HEAT_SIDE), grey=True)
        truth = np.asarray(heat_image(heat), dtype=np.float64)
        write_bytes(folder / image_name(number), to_bytes(tile.heat(truth, (0, 0, *size)).image, "webp"))
    return {sample_id: {"heat": number} for number, (_, sample_id, _) in enumerate(heats, first)}


def encode(
    maps: Float[np.ndarray, "head row col"],
) -> tuple[UInt8[np.ndarray, "head row col"], list[float]]:
    """-> (codes, each map's largest value). The codes are linear in the root of the weight.

    A few cells often outweigh the rest a hundredfold, and the threshold lies low, near the mean: equal steps of
    the weight itself would be coarse just there.
    """
    scales = [float(f"{peak:.6g}") for peak in maps.max(axis=(-2, -1)).astype(np.float64)]
    divisor = np.array([scale or 1.0 for scale in scales])[:, None, None]
    shares = np.clip(maps.astype(np.float64) / divisor, 0, 1)
    return np.rint(CODES * np.sqrt(shares)).astype(np.uint8), scales


def decode(codes: UInt8[np.ndarray, "head row col"], scales: list[float]) -> Float[np.ndarray, "head row col"]:
    """The maps as the page sees them, in the same order of operations: scale * (code / 255)^2."""
    roots = codes / float(CODES)
    return np.array(scales, dtype=np.float64)[:, None, None] * (roots * roots)
