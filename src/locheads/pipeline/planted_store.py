"""A store in which some heads look at what the audit plants there; nothing of it is kept or written."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from locheads.data.image_groups import merged
from locheads.dependence.planted import Plant, planted_map
from locheads.pipeline.setup import Setup
from locheads.store.attention_store import AttentionStore
from locheads.types import Attention, HeadIndex, ImageGroup


class PlantedStore(AttentionStore):
    """Reads as the store of a run does, with planted maps in the place of some heads'. Numbers of heads are those of
    the maps as they are read."""

    def __init__(self, run: Setup, heads: Sequence[HeadIndex]) -> None:
        """Shares what `run.store` has opened. `heads`: those that audit.plant takes the place of."""
        self.__dict__.update(vars(run.store))
        self.keeps = False
        self._heads, self._audit = heads, run.config.audit
        self._samples = {group.image_id: group.samples for group in merged(run.inputs.all_groups)}

    def read(
        self,
        groups: Iterable[ImageGroup],
        scored_by: tuple[str, ...] | None = None,
        heads: Collection[HeadIndex] | None = None,
    ) -> Iterator[Attention]:
        """As `AttentionStore.read`, without scores: those that are stored are of heads as they were."""
        return map(self._with_planted, super().read(groups, scored_by, heads))

    def _with_planted(self, attention: Attention) -> Attention:
        maps, own = attention.maps.copy(), {s.sample_id: s for s in self._samples[attention.image_id]}
        sums = None if attention.sums is None else attention.sums.copy()
        for head in self._heads:
            at = _place(attention, head)
            if at is None:
                continue
            for row, sample_id in enumerate(attention.sample_ids):
                seed = [self._audit.seed, head.layer, head.head]
                planted = planted_map(self._audit.plant, own[sample_id], [*own.values()], attention.geometry, seed)
                maps[row, *at] = planted
                if sums is not None:
                    sums[row, head.layer, head.head] = planted.sum()
        mean = maps.mean(axis=(1, 2)) if attention.heads is None else None
        return replace(attention, maps=maps, sums=sums, scores=None, scored_by=None, mean=mean, cells=None)


def _place(attention: Attention, head: HeadIndex) -> tuple[int, ...] | None:
    """Where the head's maps stand; None where they are not read."""
    if attention.heads is None:
        return head.layer, head.head
    return (attention.heads.index(head),) if head in attention.heads else None


def planted_heads(run: Setup) -> list[HeadIndex]:
    """Those whose place audit.plant takes: audit.plant_share of those that discovery admits, at random."""
    audit = run.config.audit
    if audit.plant == Plant.none:
        return []
    layers = range(run.config.criterion.skip_layers, run.identity.layers)
    admitted = [HeadIndex(layer, head) for layer in layers for head in range(run.identity.heads)]
    n = max(1, round(audit.plant_share * len(admitted)))
    chosen = np.random.default_rng([audit.seed, 1]).choice(len(admitted), n, replace=False)
    return [admitted[i] for i in np.sort(chosen)]
