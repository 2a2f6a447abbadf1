"""What of a head's map depends on the expression: the map less what the head gives to other questions about the image.

Later than the paper, whose maps are summed as they are. A head that looks at one place whatever is asked keeps nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float

from locheads.data.image_groups import merged, subset
from locheads.grounding.config import Contrast
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

Read = Callable[..., Iterable[Attention]]
"""`AttentionStore.read`."""
PROBES = ("the object on the left", "the object on the right", "the object at the top", "the object at the bottom")
"""Asked about an image whatever it shows."""
NOWHERE = (0.0, 0.0, 0.0, 0.0)
"""The box of a probe, which no object has."""


def read_maps(
    read: Read, group: ImageGroup, how: Contrast, heads: Collection[HeadIndex] | None = None, only: str | None = None
) -> Iterable[Attention]:
    """The stored attention that grounds an image's samples (or `only` one of them), contrasted as `how` says.

    `heads`: whose maps are read; None: all that are there.
    """
    others = references(group, how)
    wanted = others if only is None else {only: others[only]}
    asked = merged([group, probes_of(group)])
    stored = read(subset(asked, {*wanted, *chain.from_iterable(wanted.values())}), heads=heads)
    return stored if how == Contrast.none else contrasted(stored, wanted)


def probes_of(group: ImageGroup) -> ImageGroup:
    """The image with its probes instead of its samples. They belong to no data set: nothing counts or scores them."""
    ids = [f"{group.image_id}~{text}" for text in PROBES]
    probes = (Sample(own, own, text, NOWHERE, {}, "") for own, text in zip(ids, PROBES, strict=True))
    return replace(group, samples=tuple(probes))


def references(group: ImageGroup, how: Contrast) -> dict[str, tuple[str, ...]]:
    """Sample id -> ids of those that its maps are contrasted with, which may be none."""
    match how:
        case Contrast.none:
            against: tuple[Sample, ...] = ()
        case Contrast.others:
            against = group.samples
        case Contrast.probes:
            against = probes_of(group).samples
        case _:
            assert_never(how)
    return {own.sample_id: tuple(other.sample_id for other in against if _differ(own, other)) for own in group.samples}


def uncontrasted(groups: Iterable[ImageGroup], how: Contrast, failed: Collection[str]) -> list[str]:
    """Ids of the samples whose maps stay as they are, because there is nothing to contrast them with."""
    found = chain.from_iterable(references(group, how).items() for group in groups)
    return [own for own, others in found if own not in failed and set(others) <= set(failed)]


def _differ(one: Sample, other: Sample) -> bool:
    """Whether they mean different objects. Several refs of a data set may have the same box."""
    return one.ref_id != other.ref_id and (one.absent or other.absent or one.is_apart_from(other))


def contrasted(attentions: Iterable[Attention], references: Mapping[str, Collection[str]]) -> Iterator[Attention]:
    """One image's samples of `references` together, each with the maps of its `references` taken away.

    The mean over all heads is contrasted as a map of its own. Where the samples have the maps of different heads, those
    that all of them have are left; sums and scores, which are of maps as they were, are not.
    """
    places = [(attention, row) for attention in attentions for row in range(len(attention.sample_ids))]
    ids = [attention.sample_ids[row] for attention, row in places]
    own = [i for i, sample_id in enumerate(ids) if sample_id in references]
    if not own:
        return
    heads = _common_heads([attention for attention, _ in places])
    against = np.array([[other in references[ids[i]] for other in ids] for i in own])
    maps = np.stack([a.maps[row] if heads is None else a.chosen(row, heads) for a, row in places])
    known = all(attention.mean is not None or attention.heads is None for attention, _ in places)
    means = np.stack([attention.mean_map(row) for attention, row in places]) if known else None
    yield replace(
        places[0][0],
        sample_ids=tuple(ids[i] for i in own),
        maps=contrast(maps[own], maps, against),
        heads=heads,
        mean=None if means is None else contrast(means[own], means, against),
        sums=None,
        scores=None,
        scored_by=None,
        cells=None,
    )


def _common_heads(attentions: Iterable[Attention]) -> tuple[HeadIndex, ...] | None:
    """None: all heads of the model."""
    parts = [attention.heads for attention in attentions if attention.heads is not None]
    return tuple(sorted(set(parts[0]).intersection(*parts))) if parts else None


def contrast_asked(
    maps: Float[np.ndarray, "m head row col"], n: int, how: Contrast
) -> Float[np.ndarray, "n head row col"]:
    """The first n maps, of expressions of different objects of one image; any others are of its probes."""
    match how:
        case Contrast.none:
            return maps[:n]
        case Contrast.others:
            return contrast(maps[:n], maps[:n], ~np.eye(n, dtype=bool))
        case Contrast.probes:
            return contrast(maps[:n], maps[n:], np.ones((n, len(maps) - n), dtype=bool))
        case _:
            assert_never(how)


def contrast(
    maps: Float[np.ndarray, "n *head row col"],
    references: Float[np.ndarray, "m *head row col"],
    against: Bool[np.ndarray, "n m"],
) -> Float[np.ndarray, "n *head row col"]:
    """ReLU(map - mean of the same head's maps of its references): what a head gives to this question only.

    `against[i, j]`: whether the reference j is one of the map i. Maps of references that hold NaN or infinity are left
    out; a map without references stays as it is. Other rows never change a row's result.
    """
    finite = np.isfinite(references).all(axis=(-2, -1), keepdims=True)
    usable = np.where(finite, references, references.dtype.type(0))
    found = np.empty_like(maps)
    for row, own in enumerate(against):
        mean = usable[own].sum(axis=0, dtype=np.float64) / np.maximum(finite[own].sum(axis=0), 1)
        found[row] = np.maximum(maps[row] - mean, 0)
    return found
