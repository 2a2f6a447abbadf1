"""The whole configuration: the schema that the files in conf/ are merged into.

Each dataclass is one Hydra group, so a key that is not here, or a value of another type, is an error before
anything loads. What a group's settings mean stands with its dataclass, mostly in the choices.py of the package that
it is for. `check` adds the rules that types cannot say.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from locheads.audit.choices import AuditConfig, audit_rules
from locheads.data.choices import DatasetConfig, PredictionsConfig, dataset_rules
from locheads.discovery.choices import CriterionConfig, DiscoveryConfig, HeadsConfig, SelectionConfig, discovery_rules
from locheads.engine import ALL_MAPS, EngineConfig, engine_rules
from locheads.errors import ConfigError, Rule
from locheads.evaluation.choices import DirectConfig, EvaluationConfig, direct_rules, evaluation_rules
from locheads.grounding.choices import GroundingConfig, Sinks, grounding_rules
from locheads.models.choices import ModelConfig, PromptConfig, prompt_rules
from locheads.pipeline.tracking.choices import TrackerConfig, tracker_rules
from locheads.segmenters.choices import SegmenterConfig, SegmenterKind, segmenter_rules
from locheads.sharding.choices import ShardConfig, shard_rules


class Stage(StrEnum):
    """Stages in their order. `stage=X` runs all up to X; what the store already holds is not computed again."""

    attend = "attend"
    discover = "discover"
    ground = "ground"
    evaluate = "evaluate"
    report = "report"
    audit = "audit"  # after discover, instead of the others: what every choice does, from the store
    check = "check"  # alone: looks the data set over, without a model
    compare = "compare"  # alone: two finished runs, `runs`, without a model
    fetch = "fetch"  # alone: downloads and prepares what workers will read
    status = "status"  # alone: how far the shards of stage=attend are
    direct = "direct"  # alone: asks the LVLM for the box in words, and scores that


@dataclass
class ExplorerConfig:
    """What the run keeps for the head explorer; changes no result."""

    samples: int = 200
    """Evenly spaced over the split; 0: no explorer."""
    megabytes: float = 16.0
    """Of maps in the run folder, a byte per cell; the most frequent heads come first. 16 suffice for all heads of the
    pocket model and 139 of the 1,024 of LLaVA-1.5-7B; its pictures take some 5 MB besides."""


@dataclass
class PathsConfig:
    """Folders, relative to where the command runs."""

    outputs: str = "outputs"
    cache: str = "${paths.outputs}/cache"
    """The attention store and generated data."""
    data: str = "data"
    """Data sets; see docs/data.md for the layout."""
    studies: str = "experiments"
    """A folder per study with the paper's figures (paper.csv); stage=report with `runs` writes result.* there."""


@dataclass
class Config:
    """The whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explorer: ExplorerConfig = field(default_factory=ExplorerConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    predictions: str | None = None
    """A file of another model's boxes or masks (JSONL or CSV): scored instead of the heads, without a model."""
    predictions_format: PredictionsConfig = field(default_factory=PredictionsConfig)
    runs: list[str] = field(default_factory=list)
    """Two run folders for stage=compare. Or folders of finished runs and of sweeps: stage=report joins them into the
    tables of `study`. Neither runs a model."""
    study: str = "default"
    """Name of the folder under paths.outputs, and of the W&B group."""
    stage: Stage = Stage.report
    seed: int = 0
    fresh: bool = False
    """In a sweep: does every run anew. Else a run that this study has done with the same settings, code and data is
    taken over; see pipeline/receipt.py."""


def check(config: Config) -> None:
    """Raises ConfigError for the first setting whose value makes no sense, before anything loads."""
    for ok, sentence in _rules(config):
        if not ok:
            raise ConfigError(sentence)


def _rules(c: Config) -> list[Rule]:
    rules = [
        *dataset_rules(c.dataset),
        *prompt_rules(c.prompt),
        *discovery_rules(c.criterion, c.selection, c.heads, c.discovery),
        *grounding_rules(c.grounding),
        *segmenter_rules(c.segmenter),
        *evaluation_rules(c.evaluation),
        *engine_rules(c.engine),
        *shard_rules(c.shard, c.stage),
        *tracker_rules(c.tracker),
        *_place_rules(c),
        *_run_rules(c),
        *_maps_rules(c),
    ]
    if c.stage is Stage.audit:
        rules += _audit_rules(c)
    return rules + (direct_rules(c.direct) if c.stage is Stage.direct else [])


def _place_rules(c: Config) -> list[Rule]:
    """A variable of the shell that is not set leaves nothing behind the equals sign."""
    named = {"paths.outputs": c.paths.outputs, "paths.cache": c.paths.cache, "study": c.study, "model.id": c.model.id}
    inside = not PurePath(c.study).is_absolute() and ".." not in PurePath(c.study).parts
    return [
        *((bool(value.strip()), f"{key} is empty: give it a value, or leave it out.") for key, value in named.items()),
        (inside, f"study={c.study} leads out of paths.outputs: name a folder in it."),
    ]


def _run_rules(c: Config) -> list[Rule]:
    return [
        (
            not c.runs or c.stage in (Stage.compare, Stage.report),
            f"runs are read by stage=compare and stage=report, not by stage={c.stage}.",
        ),
        (c.seed >= 0, f"seed must not be negative, not {c.seed}."),
        (c.explorer.samples >= 0, f"explorer.samples must not be negative, not {c.explorer.samples}."),
        (
            0 < c.explorer.megabytes < math.inf,
            f"explorer.megabytes must be a positive number, not {c.explorer.megabytes} (no explorer: "
            "explorer.samples=0).",
        ),
        (
            c.predictions is None or c.stage in (Stage.evaluate, Stage.report),
            f"predictions={c.predictions} is scored by stage=evaluate or stage=report, not by stage={c.stage}.",
        ),
        (
            c.predictions is not None or c.dataset.split != c.dataset.discovery_split,
            f"dataset.split and dataset.discovery_split are both {c.dataset.split}: heads must be found on other "
            "pictures than those that are evaluated.",
        ),
    ]


def _maps_rules(c: Config) -> list[Rule]:
    """What needs discovery, or the maps of all heads."""
    mean_map = c.grounding.sinks is Sinks.mean_map
    return [
        (
            c.heads.set is None or c.stage is not Stage.discover,
            f"stage=discover finds heads, and heads.set={c.heads.set} gives them: leave one of the two out.",
        ),
        (
            not mean_map or c.engine.maps == ALL_MAPS,
            f"grounding.sinks=mean_map needs the maps of all heads: set engine.maps=all, not {c.engine.maps}.",
        ),
        (
            c.heads.set is None or not (mean_map or c.stage is Stage.audit),
            f"heads.set={c.heads.set} leaves discovery out, and grounding.sinks=mean_map and stage=audit need it: "
            "set heads.set=null.",
        ),
    ]


def _audit_rules(c: Config) -> list[Rule]:
    return [
        *audit_rules(c.audit),
        (
            c.dataset.split not in c.dataset.test_splits,
            f"stage=audit compares choices, and {c.dataset.split} is a test split (dataset.test_splits): choose "
            "dataset.split=val.",
        ),
        (c.engine.maps == ALL_MAPS, f"stage=audit needs the maps of all heads: engine.maps=all, not {c.engine.maps}."),
        (
            c.segmenter.kind is SegmenterKind.none,
            f"stage=audit measures pseudo-masks: set segmenter=none, not {c.segmenter.kind.value}.",
        ),
    ]
