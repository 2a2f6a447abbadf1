"""Which maps and numbers a reader of the store needs of the attention pass, so that the pass does no more than that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from locheads.store.store_files import Entry
from locheads.types import HeadIndex


@dataclass(frozen=True)
class NeededMaps:
    """Per sample. The default is everything: the maps of all heads, from which all the rest follows."""

    heads: frozenset[HeadIndex] | None = None
    """Heads whose maps are needed of every sample; None: all of the model."""
    own: Mapping[str, tuple[HeadIndex, ...]] = field(default_factory=dict)
    """Heads that single samples need besides (greedy selection), by sample id."""
    scored_by: tuple[str, ...] | None = None
    """What the scores of all heads depend on (`CriterionConfig.numbers_key`) where they are needed."""
    mean: bool = False
    """Whether the mean over all heads is needed."""
    cells: bool = False
    """Whether the cells above the mean are needed of all heads."""
    overlaps: Mapping[str, str] = field(default_factory=dict)
    """Samples of which all heads' overlaps with the image's others are needed, by id, and what these depend on
    (`pipeline.word_pairs.overlaps_key`)."""

    def whole_model(self) -> bool:
        """Whether it takes the rows of every layer."""
        return self.heads is None or self.scored_by is not None or self.mean or self.cells or bool(self.overlaps)

    def of_sample(self, sample_id: str) -> frozenset[HeadIndex]:
        """The heads whose maps this sample needs; only where `heads` is not None."""
        return (self.heads or frozenset()) | set(self.own.get(sample_id, ()))


EVERYTHING = NeededMaps()


def lacking(
    need: NeededMaps, sample_id: str, entries: Iterable[Entry], overlaps: Mapping[str, str] | None = None
) -> NeededMaps | None:
    """What `entries` of a sample leave open of what it needs; None: nothing. `overlaps`: those that are open."""
    entries = list(entries)
    open_ = NeededMaps(frozenset(), overlaps=overlaps or {})
    if not any(entry.heads is None for entry in entries):
        if need.heads is None:
            return need
        stored = {head for entry in entries for head in entry.heads or ()}
        open_ = replace(
            open_,
            heads=frozenset(need.of_sample(sample_id) - stored),
            scored_by=None if any(entry.scored_by == need.scored_by for entry in entries) else need.scored_by,
            mean=need.mean and not any(entry.mean for entry in entries),
            cells=need.cells and not any(entry.cells for entry in entries),
        )
    return open_ if open_.heads or open_.whole_model() else None


def union(needs: Iterable[NeededMaps]) -> NeededMaps:
    """What serves all of them."""
    needs = list(needs)
    if any(need.heads is None for need in needs):
        return EVERYTHING
    return NeededMaps(
        heads=frozenset(head for need in needs for head in need.heads or ()),
        scored_by=next((need.scored_by for need in needs if need.scored_by), None),
        mean=any(need.mean for need in needs),
        cells=any(need.cells for need in needs),
        overlaps={sample_id: key for need in needs for sample_id, key in need.overlaps.items()},
    )
