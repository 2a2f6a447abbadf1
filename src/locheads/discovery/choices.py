"""How heads are judged and chosen; kept apart, because the configuration loads before everything."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from locheads.discovery.criteria import ElbowRule, EmptyMaps, Floor, Precision, Weighting
from locheads.errors import Rule


class Score(StrEnum):
    """What ranks the heads of one sample."""

    s_img = "s_img"
    """Highest attention sum."""
    entropy = "entropy"
    """Lowest spatial entropy."""
    s_img_entropy = "s_img_entropy"
    """Lowest spatial entropy among the heads whose attention sum reaches the threshold (the paper)."""


class Threshold(StrEnum):
    """Which heads reach the attention-sum threshold (only for score=s_img_entropy)."""

    mean = "mean"
    """Mean sum over the samples >= the elbow of the means (the paper)."""
    per_sample = "per_sample"
    """The sample's own sums >= their own elbow (released code C1)."""
    per_sample_index_bug = "per_sample_index_bug"
    """Head's flat index (layer x heads + head) >= that of the head at the elbow of the sample's own sums: released
    code C0's bug, which compares an index where a value was meant."""


@dataclass
class CriterionConfig:
    """How one sample's heads are judged, with every choice on which the paper and the released code differ."""

    name: str = "paper"
    score: Score = Score.s_img_entropy
    threshold: Threshold = Threshold.mean
    elbow: ElbowRule = ElbowRule.chord
    tau: float | None = None
    """A fixed attention-sum threshold instead of the elbow (the paper's Fig. 13)."""
    floor: Floor = Floor.mean
    weighting: Weighting = Weighting.area
    empty_maps: EmptyMaps = EmptyMaps.never
    precision: Precision = Precision.float64
    max_bottom_row: float | None = None
    """Drop a head from a sample in which any bottom-row weight exceeds this (C1: 0.05)."""
    min_keep: int = 0
    """A sample with fewer heads than this takes so many of its highest sums instead, of any layer (C1: 1)."""
    skip_layers: int = 2
    """Layers at the input that are never chosen."""
    candidates: int = 10
    """N: how many heads each sample votes for."""

    def entropy_key(self) -> tuple[str, ...]:
        """What the entropies depend on, by which stored ones are found again: floor and weighting, and what differs
        from the defaults (so that entropies stored before these options existed are still found)."""
        rest = {"empty_maps": (self.empty_maps, EmptyMaps.never), "precision": (self.precision, Precision.float64)}
        changed = [f"{name}={value.value}" for name, (value, default) in rest.items() if value != default]
        return self.floor.value, self.weighting.value, *changed


class SelectionKind(StrEnum):
    fixed = "fixed"
    """The k most frequent heads of discovery, for every sample (the paper)."""
    greedy = "greedy"
    """Each sample's own top k (the paper's Table 5)."""


@dataclass
class SelectionConfig:
    """Which heads ground a sample."""

    kind: SelectionKind = SelectionKind.fixed


@dataclass
class HeadsConfig:
    """How many heads are summed, and where they come from."""

    k: int = 3
    set: str | None = None
    """null: the run discovers them. Else its first k heads ground every sample, and discovery is left out: a published
    set (such as llava_1_5_7b, the paper's heads), the heads.json of a run, or a folder with one. Then no heads are
    chosen with ground truth, and the random heads are drawn from all layers but criterion.skip_layers."""


@dataclass
class DiscoveryConfig:
    """The samples that discovery sees."""

    n_samples: int = 1000
    trials: int = 5
    sizes: list[int] = field(default_factory=list)
    """Also ranks the heads by so many of each trial's samples (stability.json), without another forward pass."""


def discovery_rules(
    criterion: CriterionConfig, selection: SelectionConfig, heads: HeadsConfig, discovery: DiscoveryConfig
) -> list[Rule]:
    """What types cannot say."""
    at_least_one = {
        "heads.k": heads.k,
        "discovery.n_samples": discovery.n_samples,
        "discovery.trials": discovery.trials,
        "criterion.candidates": criterion.candidates,
    }
    return [
        *((value >= 1, f"{key} must be at least 1, not {value}.") for key, value in at_least_one.items()),
        (criterion.skip_layers >= 0, f"criterion.skip_layers must not be negative, not {criterion.skip_layers}."),
        (criterion.min_keep >= 0, f"criterion.min_keep must not be negative, not {criterion.min_keep}."),
        *(
            (value is None or math.isfinite(value), f"{key} must be a number or null, not {value}.")
            for key, value in (
                ("criterion.tau", criterion.tau),
                ("criterion.max_bottom_row", criterion.max_bottom_row),
            )
        ),
        (
            all(size >= 1 for size in discovery.sizes),
            f"discovery.sizes must be numbers of samples, 1 or more, not {discovery.sizes}.",
        ),
        (
            heads.set is None or selection.kind is SelectionKind.fixed,
            f"selection=greedy needs the scores of discovery, and heads.set={heads.set} leaves it out: use "
            "selection=fixed.",
        ),
        (
            selection.kind is SelectionKind.fixed or heads.k <= criterion.candidates,
            f"heads.k={heads.k} is more than criterion.candidates={criterion.candidates}, and selection=greedy "
            "takes its heads from a sample's candidates: lower heads.k or raise criterion.candidates.",
        ),
    ]
