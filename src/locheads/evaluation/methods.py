"""What is compared: the localization heads, and the baselines that anybody should beat before believing them.

All see the same samples and, but for the centre box, go through the same grounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from locheads.evaluation.metric_table import (
    BEST_IOU_HEADS,
    BEST_REC_HEADS,
    LOCALIZATION_HEADS,
    MEAN_OF_ALL_HEADS,
    RANDOM_HEADS,
)
from locheads.grounding.ground_maps import NOT_FINITE
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Box, HeadIndex, ImageGroup


@dataclass(frozen=True)
class HeadPlan:
    """Which heads ground which sample."""

    fixed: tuple[HeadIndex, ...]
    """The k heads of discovery."""
    greedy: Mapping[str, Sequence[HeadIndex]] | None
    """Per sample its own heads; None for selection=fixed."""
    best_iou: tuple[HeadIndex, ...]
    """See `best_heads_by_iou`. Empty where heads were given: without discovery samples nothing to choose on."""
    random: tuple[tuple[HeadIndex, ...], ...]
    """One entry per draw."""
    sinks: SinkCells | None = None
    """What grounding.sinks=mean_map removes."""
    best_rec: tuple[HeadIndex, ...] = ()
    """See `search_heads`. Empty where the store lacks the discovery samples' maps, too."""
    baselines: bool = True
    """Whether they ground, too."""

    def heads(self, sample_id: str) -> tuple[HeadIndex, ...]:
        """The localization heads of one sample; none where greedy selection has no scores for it."""
        return self.fixed if self.greedy is None else tuple(self.greedy.get(sample_id, ()))


def random_heads(
    eligible: Bool[np.ndarray, "layer head"], k: int, draws: int, seed: int
) -> tuple[tuple[HeadIndex, ...], ...]:
    """`draws` draws of k different eligible heads (all of them where fewer are eligible)."""
    rng = np.random.default_rng([seed, 1])  # 1: another stream than the trials'.
    heads = [HeadIndex(int(layer), int(head)) for layer, head in np.argwhere(eligible)]
    size = min(k, len(heads))
    return tuple(tuple(sorted(heads[i] for i in rng.choice(len(heads), size, replace=False))) for _ in range(draws))


def methods_of(plan: HeadPlan, sample_id: str) -> list[tuple[str, int, tuple[HeadIndex, ...] | None]]:
    """(method, draw, heads) of everything that grounds this sample from maps; None stands for all heads."""
    own = (LOCALIZATION_HEADS, 0, plan.heads(sample_id))
    if not plan.baselines:
        return [own]
    return [
        own,
        *([(BEST_REC_HEADS, 0, plan.best_rec)] if plan.best_rec else []),
        *([(BEST_IOU_HEADS, 0, plan.best_iou)] if plan.best_iou else []),
        (MEAN_OF_ALL_HEADS, 0, None),
        *((RANDOM_HEADS, draw, heads) for draw, heads in enumerate(plan.random)),
    ]


def heads_of(plan: HeadPlan, group: ImageGroup) -> set[HeadIndex]:
    """All whose own maps any method reads for the image's samples."""
    methods = (heads for sample in group.samples for _, _, heads in methods_of(plan, sample.sample_id))
    return {head for heads in methods for head in heads or ()}


def heads_maps(
    asked: Sequence[tuple[Attention, int, Sequence[HeadIndex] | None]],
    grid: tuple[int, int],
    sinks: SinkCells | None = None,
) -> tuple[Float[np.ndarray, "n head row col"], Bool[np.ndarray, "n head row col"] | None, list[str | None]]:
    """-> (maps to ground, their sinks where any are known, why each cannot be grounded) of (attention, row, heads).

    `grid`: the (rows, cols) that all maps have.

    None stands for the mean over all heads of the model. Zeros stand for the heads that one has fewer than others,
    and for what cannot be grounded: no head at all, a map that is not stored, or one that is not finite.
    """
    shape = (len(asked), max((len(heads or ()) for _, _, heads in asked), default=0) or 1, *grid)
    maps, cells = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    errors: list[str | None] = [None] * len(asked)
    for i, (attention, row, heads) in enumerate(asked):
        try:
            taken = attention.mean_map(row)[None] if heads is None else take(attention, row, heads)
        except ValueError as error:
            errors[i] = str(error)
            continue
        maps[i, : len(taken)] = taken
        if sinks is not None and (found := sinks.get(grid, heads)) is not None:
            cells[i, : len(taken)] = found
    for broken in np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2, 3))):
        maps[broken], errors[broken] = 0, NOT_FINITE
    return maps, None if sinks is None else cells, errors


def take(attention: Attention, row: int, heads: Sequence[HeadIndex]) -> Float[np.ndarray, "chosen row col"]:
    """The maps of some heads for one sample. Raises ValueError without any: there is nothing to sum."""
    if not heads:
        raise ValueError("no head is eligible for this sample")
    return attention.chosen(row, heads)


def centre_box(group: ImageGroup) -> Box:
    """The image's middle, half as wide and half as high: what a blind guess answers."""
    return group.width * 0.25, group.height * 0.25, group.width * 0.75, group.height * 0.75
