"""A store in which some heads look at what the audit plants there; nothing of it is kept or written."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from locheads.audit.config import AuditConfig
from locheads.data.image_groups import merged
from locheads.dependence.planted import Plant, planted_map
from locheads.pipeline.setup import Setup
from locheads.store.attention_store import AttentionStore
from locheads.store.kept import Arrays
from locheads.types import Attention, HeadIndex, ImageGroup, Sample


class PlantedStore:
    """Reads as the attention store does, with planted maps in the place of some heads'. Numbers of heads are those of
    the maps as they are read."""

    def __init__(
        self, store: AttentionStore, kind: Plant, heads: Sequence[HeadIndex], groups: Iterable[ImageGroup], seed: int
    ) -> None:
        """`groups`: the images that will be read, with all samples that are known of each."""
        self.planted = frozenset(heads)
        self._store, self._kind, self._seed = store, kind, seed
        self._samples: dict[str, tuple[Sample, ...]] = {group.image_id: group.samples for group in groups}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_store":  # asked by pickle before there is a store
            raise AttributeError(name)
        return getattr(self._store, name)

    def read(
        self,
        groups: Iterable[ImageGroup],
        scored_by: tuple[str, ...] | None = None,
        heads: Collection[HeadIndex] | None = None,
    ) -> Iterator[Attention]:
        """As `AttentionStore.read`, without scores."""
        for attention in self._store.read(groups, scored_by, heads):
            yield self._with_planted(attention)

    def read_numbers(self, groups: Iterable[ImageGroup], scored_by: tuple[str, ...]) -> Iterator[Attention]:
        """All maps: what is stored are the numbers of heads as they were."""
        return self.read(groups, scored_by)

    def kept(
        self,
        name: str,
        groups: Sequence[ImageGroup],
        depends_on: Any,
        make: Callable[[], Arrays],
        enough: Callable[[Arrays], bool] = lambda _: True,
    ) -> Arrays:
        """Works it out, always."""
        return make()

    def _with_planted(self, attention: Attention) -> Attention:
        maps, own = attention.maps.copy(), {s.sample_id: s for s in self._samples[attention.image_id]}
        sums = None if attention.sums is None else attention.sums.copy()
        for head in self.planted:
            at = self._place(attention, head)
            if at is None:
                continue
            for row, sample_id in enumerate(attention.sample_ids):
                seed = [self._seed, head.layer, head.head]
                planted = planted_map(self._kind, own[sample_id], [*own.values()], attention.geometry, seed)
                maps[row, *at] = planted
                if sums is not None:
                    sums[row, head.layer, head.head] = planted.sum()
        mean = maps.mean(axis=(1, 2)) if attention.heads is None else None
        return replace(attention, maps=maps, sums=sums, scores=None, scored_by=None, mean=mean, cells=None)

    def _place(self, attention: Attention, head: HeadIndex) -> tuple[int, ...] | None:
        """Where the head's maps stand; None where they are not read."""
        if attention.heads is None:
            return head.layer, head.head
        return (attention.heads.index(head),) if head in attention.heads else None


def with_plants(run: Setup, audit: AuditConfig) -> Setup:
    """The setup with audit.plant in the place of audit.plant_share of the heads that discovery admits."""
    if audit.plant == Plant.none:
        return run
    layers = range(run.config.criterion.skip_layers, run.identity.layers)
    admitted = [HeadIndex(layer, head) for layer in layers for head in range(run.identity.heads)]
    n = max(1, round(audit.plant_share * len(admitted)))
    chosen = np.random.default_rng([audit.seed, 1]).choice(len(admitted), n, replace=False)
    heads = [admitted[i] for i in np.sort(chosen)]
    store: Any = PlantedStore(run.store, audit.plant, heads, merged(run.inputs.all_groups), audit.seed)
    return replace(run, store=store)
