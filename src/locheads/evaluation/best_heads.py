"""Heads chosen with ground truth, on the discovery samples: baselines that tell what a choice of heads could reach.

Nothing else that grounds a sample reads them. How well each single head's map covers the object is the paper's Fig. 6.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from pycocotools import mask as coco
from scipy.special import stdtr

from locheads.evaluation.metrics import box_iou
from locheads.geometry import Geometry
from locheads.grounding.config import GroundingConfig
from locheads.grounding.fuse import binarise, fuse
from locheads.grounding.ground_maps import GroundedStack
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Box, Discovery, HeadIndex, ImageGroup, heads_by

MIN_FREQUENCY = 0.01
"""Fig. 6 leaves out heads that fewer than 1 % of the samples choose."""
SEARCHED = 200
"""Expressions that the search looks at, of whole images evenly spaced over the discovery samples. Of 1,024 heads that
is 200,000 boxes in the first step."""
CANDIDATES = 64
"""Heads that may join the set, those whose own boxes are best: their maps of SEARCHED expressions stay in memory (29 MB
on 24 x 24 cells)."""

Read = Callable[[list[ImageGroup], Sequence[HeadIndex] | None], Iterable[Attention]]
"""The stored attention of some groups, as often as it is asked: of some heads, or of all."""
Hits = list[Bool[np.ndarray, "layer head"]]
Each = Callable[[Callable[[Iterable[Attention], ImageGroup], Hits], list[ImageGroup]], Iterable[Hits]]
"""Does some work with the stored attention of all heads of each image; the results in the images' order."""


def searched_groups(groups: Sequence[ImageGroup]) -> list[ImageGroup]:
    """Images evenly spaced over `groups`, with about SEARCHED expressions; all where they have fewer."""
    total = sum(len(group.samples) for group in groups)
    n = min(len(groups), max(1, round(len(groups) * SEARCHED / max(total, 1))))
    return [groups[i] for i in np.linspace(0, len(groups) - 1, n).round().astype(int)] if groups else []


def single_hits(
    each: Each, groups: Sequence[ImageGroup], config: GroundingConfig, sinks: SinkCells | None = None
) -> Int[np.ndarray, "layer head"]:
    """On how many of the searched expressions each head's own box hits: how the search begins, whatever k is.

    Empty where the store lacks the maps of all heads (engine=compact), or where all samples failed.
    """
    try:
        hits = list(chain.from_iterable(each(partial(_single_hits, config, sinks), searched_groups(groups))))
    except LookupError:
        hits = []
    return np.sum(hits, axis=0) if hits else np.zeros((0, 0), dtype=int)


def search_heads(
    read: Read,
    single: Int[np.ndarray, "layer head"],
    groups: Sequence[ImageGroup],
    k: int,
    config: GroundingConfig,
    sinks: SinkCells | None = None,
) -> tuple[HeadIndex, ...]:
    """Forward selection: the head whose own box has the best Acc@0.5, then, k - 1 times, the one that raises it most.

    Boxes are those of the run's grounding, `single` of `single_hits`. Of equal heads the one that is better by itself,
    then the first by (layer, head). Greedy, so another set may be better still. Empty where `single` is.
    """
    candidates = heads_by(single)[:CANDIDATES]
    if min(k, len(candidates)) <= 1:
        return tuple(candidates[:k])
    prepared = [
        (_fused(attention.chosen(row, candidates), _sinks(attention, sinks, candidates), config), geometry, box)
        for group in searched_groups(groups)
        for attention, row, geometry, box in _samples(read([group], candidates), group)
    ]
    chosen = [0]
    while len(chosen) < min(k, len(candidates)):
        found = np.sum([_hits(m + m[chosen].sum(axis=0), g, b, config) for m, g, b in prepared], axis=0)
        found[chosen] = -1
        chosen.append(int(found.argmax()))
    return tuple(candidates[i] for i in chosen)


def _single_hits(
    config: GroundingConfig, sinks: SinkCells | None, attentions: Iterable[Attention], group: ImageGroup
) -> Hits:
    """Of every stored sample, whether each head's own box hits. Raises LookupError where a sample lacks some maps."""
    found = []
    for attention, row, geometry, box in _samples(attentions, group):
        if attention.heads is not None:
            raise LookupError("the search needs the maps of all heads")
        maps = attention.maps[row]
        fused = _fused(_flat(maps), _sinks(attention, sinks, None), config)
        found.append(_hits(fused, geometry, box, config).reshape(maps.shape[:2]))
    return found


def _samples(attentions: Iterable[Attention], group: ImageGroup) -> Iterator[tuple[Attention, int, Geometry, Box]]:
    """(stored attention, which of its samples, its geometry, the true box) one after the other, of those that name one
    object."""
    boxes = {sample.sample_id: sample.box for sample in group.samples if len(sample.objects) == 1}
    for attention in attentions:
        for row, sample_id in enumerate(attention.sample_ids):
            if sample_id in boxes:
                yield attention, row, attention.geometry, boxes[sample_id]


def _sinks(
    attention: Attention, sinks: SinkCells | None, heads: Sequence[HeadIndex] | None
) -> Bool[np.ndarray, "n row col"] | None:
    """Of some heads, or of all."""
    grid = attention.geometry.rows, attention.geometry.cols
    if sinks is None or grid not in sinks.of_heads:
        return None
    return _flat(sinks.of_heads[grid]) if heads is None else sinks.get(grid, heads)


def _fused(
    maps: Float[np.ndarray, "n row col"], cells: Bool[np.ndarray, "n row col"] | None, config: GroundingConfig
) -> Float[np.ndarray, "n row col"]:
    """Each head's map as grounding would sum it. One that is not finite becomes one of zeros: it points nowhere."""
    finite = np.where(np.isfinite(maps).all(axis=(1, 2), keepdims=True), maps, maps.dtype.type(0))
    return fuse(finite[:, None], config, None if cells is None else cells[:, None])


def _flat(maps: Shaped[np.ndarray, "layer head row col"]) -> Shaped[np.ndarray, "n row col"]:
    return maps.reshape(-1, *maps.shape[-2:])


def _hits(
    fused: Float[np.ndarray, "n row col"], geometry: Geometry, box: Box, config: GroundingConfig
) -> Bool[np.ndarray, "n"]:
    """Whether the box of each map has an IoU of at least 0.5 with the true one."""
    stack = GroundedStack(fused, (geometry,) * len(fused), config)
    hits = np.zeros(len(fused), dtype=bool)
    if (own := stack.component_boxes()) is None:
        hits[:] = _covers(stack.boxes, box)
    else:
        # Few maps have a component that would hit: only of those it matters which one is chosen.
        some = np.unique(stack.components[0].owner[_covers(own, box)])
        hits[some] = _covers(GroundedStack(fused[some], (geometry,) * len(some), config).boxes, box)
    return hits


def _covers(boxes: Float[np.ndarray, "n 4"], box: Box) -> Bool[np.ndarray, "n"]:
    return box_iou(boxes, np.tile(box, (len(boxes), 1))) >= 0.5


def head_iou(attentions: Iterable[Attention], groups: Iterable[ImageGroup]) -> Float[np.ndarray, "layer head"]:
    """Mean over the samples of the IoU of each head's map (> mean, no smoothing) with the object's mask.

    Computed on the grid as an exact area integral: every cell counts the object's pixels that it holds. What a
    crop hides of the object counts in the union.
    """
    truth = {sample.sample_id: sample.mask for group in groups for sample in group.samples}
    total, count = None, 0
    for attention in attentions:
        cells = binarise(attention.maps) if attention.heads is None else attention.cells
        if cells is None:
            continue
        pixels = attention.geometry.cell_pixels()
        for sample_id, of_sample in zip(attention.sample_ids, cells, strict=True):
            mask = coco.decode(truth[sample_id]).astype(bool)
            iou = _iou(of_sample, attention.geometry.coverage(mask), pixels, int(mask.sum()))
            total, count = iou if total is None else total + iou, count + 1
    if total is None:
        raise ValueError("head_iou needs at least one sample")
    return total / count


def best_heads_by_iou(iou: Float[np.ndarray, "layer head"], k: int) -> list[HeadIndex]:
    """The k heads of the whole model whose own maps cover the objects best; ties by (layer, head). Other heads may
    ground better: a map that covers an object is not yet a box, and the sum of maps is none of them."""
    return heads_by(iou)[:k]


def figure6(discovery: Discovery, iou: Float[np.ndarray, "layer head"]) -> dict[str, Any]:
    """Spearman correlation of selection frequency with IoU over the heads that >= 1 % of the samples choose.

    Positive where heads that are chosen more often cover the object better. None where fewer than three heads
    remain or one of the two is constant.
    """
    points = [
        {"layer": layer, "head": head, "frequency": float(frequency), "iou": float(iou[layer, head])}
        for layer, head in map(astuple, discovery.ranking())
        if (frequency := discovery.frequency_mean[layer, head]) >= MIN_FREQUENCY
    ]
    frequencies, ious = ([point[key] for point in points] for key in ("frequency", "iou"))
    rho = p_value = None
    if len(points) >= 3 and len(set(frequencies)) > 1 and len(set(ious)) > 1:
        rho, p_value = _spearman(frequencies, ious)
    return {"spearman": rho, "p_value": p_value, "n_heads": len(points), "points": points}


def _spearman(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """(rho, two-sided p by Student's t), as scipy.stats.spearmanr: loading that costs every run a third of a second."""
    ranks = pd.DataFrame({"a": a, "b": b}).rank().to_numpy()
    rho, free = float(np.corrcoef(ranks.T)[0, 1]), len(a) - 2
    with np.errstate(divide="ignore"):
        t = rho * np.sqrt(np.divide(free, max((1 + rho) * (1 - rho), 0.0)))
    return rho, float(2 * stdtr(free, -abs(t)))


def _iou(
    cells: Bool[np.ndarray, "layer head row col"],
    coverage: Float[np.ndarray, "row col"],
    pixels: Float[np.ndarray, "row col"],
    object_pixels: int,
) -> Float[np.ndarray, "layer head"]:
    intersection = np.tensordot(cells, coverage, axes=2)
    union = np.tensordot(cells, pixels, axes=2) + object_pixels - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
