"""From the maps of all heads to what a store without them keeps."""

from collections.abc import Callable, Iterable

from locheads.discovery.config import CriterionConfig
from locheads.discovery.scores import score
from locheads.grounding.fuse import binarise
from locheads.store.need import Need
from locheads.store.store_files import rounded
from locheads.types import Attention, CompactAttention, HeadIndex, HeadScores

Picks = Callable[[HeadScores], Iterable[HeadIndex]]
"""Heads that the scores of one image's samples ask for."""


def compact(
    attention: Attention, need: Need, criterion: CriterionConfig, picks: Picks | None = None
) -> CompactAttention:
    """What `need` names, and the maps of the heads that `picks` finds in the scores.

    The numbers come from the maps as the store would give them back, so that they are the same to the bit whether
    all maps are kept or not.
    """
    maps = rounded(attention.maps)
    kept = Attention(attention.image_id, attention.sample_ids, maps, attention.sums, attention.geometry)
    scores = score(kept, criterion) if need.scored_by or picks else None
    heads = {head for sample_id in attention.sample_ids for head in need.of_sample(sample_id)}
    if picks and scores:
        heads |= set(picks(scores))
    order = sorted(heads)
    return CompactAttention(
        attention.image_id,
        attention.sample_ids,
        tuple(order),
        attention.maps[:, [head.layer for head in order], [head.head for head in order]],
        attention.geometry,
        scores if need.scored_by else None,
        need.scored_by,
        maps.mean(axis=(1, 2)) if need.mean else None,
        binarise(maps) if need.cells else None,
        attention.image,
    )
