"""The pairs of images that are measured one by one, while their maps are in memory and before it is known which heads
will be found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from locheads.dependence.config import DependenceConfig
from locheads.dependence.head_dependence import HeadDependence, head_dependence
from locheads.dependence.overlaps import NO_PAIRS, PairTable, joined, overlaps_of, smoothed, table_of
from locheads.dependence.pairs import pairs_of, token_is_known
from locheads.dependence.word_verdict import WordVerdict, judge
from locheads.grounding.config import GroundingConfig
from locheads.grounding.fuse import fuse
from locheads.models.config import PromptConfig
from locheads.types import ImageGroup


@dataclass
class AskedPairs:
    """Of the first `config.images` images that have expressions for several objects."""

    config: DependenceConfig
    prompt: PromptConfig
    groups: list[ImageGroup] = field(default_factory=list)
    """The images that were measured, with their paraphrases."""
    tables: list[PairTable] = field(default_factory=list)
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    """Smooths the maps."""

    def wants(self, group: ImageGroup) -> bool:
        """Whether this image is to be measured, too. None is where attention is taken from one token of the model's
        answer: without the answers it is not known which pairs have the same token."""
        told = not (self.prompt.asks and token_is_known(self.prompt))
        return told and len(self.groups) < self.config.images and len({one.ref_id for one in group.samples}) > 1

    def add(self, group: ImageGroup, maps: Float[np.ndarray, "sample layer head row col"]) -> None:
        """An image `with_paraphrases`, and the maps of all heads."""
        self.tables.append(self._table(len(self.groups), group, smoothed(maps, self.grounding)))
        self.groups.append(group)

    def dependence(self) -> HeadDependence | None:
        """Of every head; None without images."""
        return head_dependence(joined(self.tables)) if self.tables else None

    def verdict(self, chosen: Sequence[Float[np.ndarray, "_ head _ _"]], seed: int) -> WordVerdict:
        """On the fused map of some heads. `chosen`: of each of `groups` their maps [sample, head, row, col]."""
        pairs = zip(self.groups, chosen, strict=True)
        tables = [self._table(i, group, fuse(maps, self.grounding)) for i, (group, maps) in enumerate(pairs)]
        return judge(joined([NO_PAIRS, *tables]), self.config.resamples, seed)

    def _table(self, image: int, group: ImageGroup, maps: Float[np.ndarray, "sample *head row col"]) -> PairTable:
        pairs = pairs_of(group.samples, self.prompt)
        return table_of(overlaps_of(maps, pairs), pairs, image, self.config.tolerance)
