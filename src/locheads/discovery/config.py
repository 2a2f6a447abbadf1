"""How heads are judged and chosen; kept apart, because the configuration loads before everything."""

from dataclasses import field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.discovery.criteria import find_criterion, source_of
from locheads.map_numbers import EmptyMaps, Floor, Precision, Weighting
from locheads.settings import Count, Natural, Text, settings

NUMBER = Field(description="must be a number or null")


class Threshold(StrEnum):
    """Which heads reach the attention-sum threshold (for a criterion that has one, such as score=s_img_entropy)."""

    mean = "mean"
    """Mean sum over the samples >= the elbow of the means (the paper)."""
    per_sample = "per_sample"
    """The sample's own sums >= their own elbow (released code C1)."""
    per_sample_index_bug = "per_sample_index_bug"
    """Head's flat index (layer x heads + head) >= that of the head at the elbow of the sample's own sums: released
    code C0's bug, which compares an index where a value was meant."""


class ElbowRule(StrEnum):
    """How the elbow of the sorted attention sums is found."""

    chord = "chord"
    """The point farthest from the line between the curve's ends."""
    kneed = "kneed"
    """The Kneedle algorithm of the package `kneed` for a convex increasing curve: a different rule."""


@settings("criterion")
class CriterionConfig:
    """How one sample's heads are judged, with every choice on which the paper and the released code differ."""

    name: str = "paper"
    score: Text = "s_img_entropy"
    """What ranks the heads of one sample: an entry of the table of criteria, or package.module:Name of a Criterion of
    your own (see discovery/criteria.py)."""
    threshold: Threshold = Threshold.mean
    elbow: ElbowRule = ElbowRule.chord
    tau: Annotated[float | None, NUMBER] = None
    """A fixed attention-sum threshold instead of the elbow (the paper's Fig. 13)."""
    floor: Floor = Floor.mean
    weighting: Weighting = Weighting.area
    empty_maps: EmptyMaps = EmptyMaps.never
    precision: Precision = Precision.float64
    max_bottom_row: Annotated[float | None, NUMBER] = None
    """Drop a head from a sample in which any bottom-row weight exceeds this (C1: 0.05)."""
    min_dependence: Annotated[float | None, NUMBER] = None
    """Drop heads whose dependence on the words is below this, or does not outlast another wording (`lex` above 0, where
    there are pairs to tell): see `DependenceConfig`."""
    min_keep: Natural = 0
    """A sample with fewer heads than this takes so many of its highest sums instead, of any layer (C1: 1)."""
    skip_layers: Natural = 2
    """Layers at the input that are never chosen."""
    candidates: Count = 10
    """N: how many heads each sample votes for."""

    def __post_init__(self) -> None:
        find_criterion(self.score)

    @property
    def needs_dependence(self) -> bool:
        """Whether heads cannot be found without knowing how they depend on the words."""
        return self.min_dependence is not None or find_criterion(self.score).reads_dependence

    def numbers_key(self) -> tuple[str, ...]:
        """What the numbers of a head depend on, by which stored ones are found again: floor and weighting, and what
        differs from the defaults (so that those stored before these options existed are still found)."""
        rest = {"empty_maps": (self.empty_maps, EmptyMaps.never), "precision": (self.precision, Precision.float64)}
        changed = [f"{name}={value.value}" for name, (value, default) in rest.items() if value != default]
        for number in find_criterion(self.score).numbers:
            changed += [number.name, source_of(self.score)]
            changed += [f"{name}={getattr(self, name)}" for name in number.options]
        return self.floor.value, self.weighting.value, *changed


class SelectionKind(StrEnum):
    fixed = "fixed"
    """The k most frequent heads of discovery, for every sample (the paper)."""
    greedy = "greedy"
    """Each sample's own top k (the paper's Table 5)."""


@settings("selection")
class SelectionConfig:
    """Which heads ground a sample."""

    kind: SelectionKind = SelectionKind.fixed


class Require(StrEnum):
    """What the heads must do for a run to go on to the evaluation."""

    nothing = "nothing"
    follow = "follow"
    """Follow the words (`WordVerdict`): else the run ends with an error instead of figures."""


@settings("heads")
class HeadsConfig:
    """How many heads are summed, where they come from, and what is asked of them."""

    k: Count = 3
    set: Text | None = None
    """null: the run discovers them. Else its first k heads ground every sample, and discovery is left out: a published
    set (such as llava_1_5_7b, the paper's heads), the heads.json of a run, or a folder with one. Then no heads are
    chosen with ground truth, and the random heads are drawn from all layers but criterion.skip_layers."""
    require: Require = Require.nothing


class Draw(StrEnum):
    """What is drawn at random for a trial."""

    expression = "expression"
    """n_samples expressions (the paper): of a large split nearly each from another image, which the LVLM reads for it
    alone."""
    image = "image"
    """Whole images, until they hold n_samples expressions; the last one gives a random part of its own. An image is
    read once for all its expressions, so the pass is several times cheaper, and a trial says less, because the
    expressions of an image are alike: the intervals of the frequencies know that."""


class Until(StrEnum):
    """How many samples discovery asks."""

    count = "count"  # type: ignore[assignment]
    """n_samples of each trial (the paper)."""
    stable = "stable"
    """50 of each trial, 100, 200, ..., at most n_samples, until the heads are final: until the same k come first in
    enough resamples of the images (`confidence`, see discovery/support.py)."""


@settings("discovery")
class DiscoveryConfig:
    """The samples that discovery sees."""

    draw: Draw = Draw.expression
    n_samples: Count = 1000
    """Expressions of each trial, whatever is drawn."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 5
    until: Until = Until.count
    confidence: Annotated[float, Field(gt=0, lt=1, description="must lie between 0 and 1")] = 0.95
    """With which the heads are called final, and how many samples would have sufficed is told."""
    sizes: Annotated[list[Count], Field(description="must be a number of samples, 1 or more")] = field(
        default_factory=list
    )
    """Also ranks the heads by so many of each trial's samples (stability.json), without another forward pass."""
