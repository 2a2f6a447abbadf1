"""The set of heads that a greedy search by REC finds with ground truth, on the discovery samples: what a choice of
heads could reach. No method, a ceiling."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from locheads.evaluation.metrics import box_iou
from locheads.geometry import Geometry
from locheads.grounding.config import GroundingConfig
from locheads.grounding.fuse import fuse
from locheads.grounding.ground_maps import GroundedStack
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Box, CompactAttention, HeadIndex, ImageGroup

SEARCHED = 200
"""Expressions that the search looks at, of whole images evenly spaced over the discovery samples. Of 1,024 heads that
is 200,000 boxes in the first step."""
CANDIDATES = 64
"""Heads that may join the set, those whose own boxes are best: their maps of SEARCHED expressions stay in memory (29 MB
on 24 x 24 cells)."""

Read = Callable[[list[ImageGroup]], Iterable[Attention | CompactAttention]]
"""The stored attention of some groups, as often as it is asked."""


def searched_groups(groups: Sequence[ImageGroup]) -> list[ImageGroup]:
    """Images evenly spaced over `groups`, with about SEARCHED expressions; all where they have fewer."""
    total = sum(len(group.samples) for group in groups)
    n = min(len(groups), max(1, round(len(groups) * SEARCHED / max(total, 1))))
    return [groups[i] for i in np.linspace(0, len(groups) - 1, n).round().astype(int)] if groups else []


def search_heads(
    read: Read, groups: Sequence[ImageGroup], k: int, config: GroundingConfig, sinks: SinkCells | None = None
) -> tuple[HeadIndex, ...]:
    """Forward selection: the head whose own box has the best Acc@0.5, then, k - 1 times, the one that raises it most.

    Boxes are those of the run's grounding. Of equal heads the one that is better alone, then the first by (layer,
    head). Greedy, so another set may be better still. Empty where the store lacks the maps of all heads
    (engine=compact), or where all samples failed.
    """
    chosen_groups = searched_groups(groups)
    alone, heads_per_layer = [], 0
    try:
        for maps, geometry, box in _samples(read, chosen_groups, config, sinks):
            heads_per_layer = maps.shape[1]
            alone.append(_hits(_flat(maps), geometry, box, config))
    except LookupError:
        return ()
    if not alone:
        return ()
    order = np.argsort(-np.sum(alone, axis=0), kind="stable")[:CANDIDATES]
    prepared = [(_flat(m)[order], g, b) for m, g, b in _samples(read, chosen_groups, config, sinks)]
    chosen = [0]
    while len(chosen) < min(k, len(order)):
        hits = [_hits(m + m[chosen].sum(axis=0), g, b, config) for m, g, b in prepared]
        found = np.sum(hits, axis=0)
        found[chosen] = -1
        chosen.append(int(found.argmax()))
    return tuple(HeadIndex(*divmod(int(order[i]), heads_per_layer)) for i in chosen)


def _samples(
    read: Read, groups: list[ImageGroup], config: GroundingConfig, sinks: SinkCells | None
) -> Iterator[tuple[Float[np.ndarray, "layer head row col"], Geometry, Box]]:
    """(each head's map as grounding would sum it, its geometry, the true box), one sample at a time.

    A head whose map is not finite has one of zeros: it points nowhere. Raises LookupError where a sample lacks maps.
    """
    boxes = {sample.sample_id: sample.box for group in groups for sample in group.samples}
    for attention in read(groups):
        if isinstance(attention, CompactAttention):
            raise LookupError("the search needs the maps of all heads")
        geometry = attention.geometry
        cells = None if sinks is None else sinks.of_heads.get((geometry.rows, geometry.cols))
        for sample_id, maps in zip(attention.sample_ids, attention.maps, strict=True):
            flat = _flat(maps)
            flat = np.where(np.isfinite(flat).all(axis=(1, 2), keepdims=True), flat, flat.dtype.type(0))
            own = None if cells is None else cells.reshape(flat.shape)[:, None]
            yield fuse(flat[:, None], config, own).reshape(maps.shape), geometry, boxes[sample_id]


def _flat(maps: Float[np.ndarray, "layer head row col"]) -> Float[np.ndarray, "n row col"]:
    return maps.reshape(-1, *maps.shape[-2:])


def _hits(
    fused: Float[np.ndarray, "n row col"], geometry: Geometry, box: Box, config: GroundingConfig
) -> Bool[np.ndarray, "n"]:
    """Whether the box of each map has an IoU of at least 0.5 with the true one."""
    boxes = GroundedStack(fused, (geometry,) * len(fused), config).boxes
    return box_iou(boxes, np.tile(box, (len(boxes), 1))) >= 0.5
