"""The whole configuration: the schema that the files in conf/ are merged into.

Each class is one Hydra group and checks its own values, wherever they come from (see settings.py), so a key that is
not here, or a value that makes no sense, is an error before anything loads. What a group's settings mean stands with
its class, mostly in the config.py of the package that it is for. `check` adds the rules between groups.
"""

from dataclasses import field, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from locheads.absence.config import AbsenceConfig, AbsenceScore
from locheads.audit.config import AuditConfig
from locheads.data.config import AnswerFormat, Asked, DatasetConfig, PredictionsConfig
from locheads.dependence.config import DependenceConfig, SteerConfig
from locheads.discovery.config import (
    CriterionConfig,
    DiscoveryConfig,
    HeadsConfig,
    Require,
    SelectionConfig,
    SelectionKind,
    Until,
)
from locheads.errors import Rule
from locheads.evaluation.config import DirectConfig, EvaluationConfig
from locheads.grounding.config import Contrast, GroundingConfig, Sinks
from locheads.grounding.zoom_config import ZoomConfig
from locheads.models.config import ModelConfig, PromptConfig, Query
from locheads.models.engine import ALL_MAPS, EngineConfig
from locheads.segmenters.config import SegmenterConfig, SegmenterKind
from locheads.settings import Natural, Seed, Text, require, settings
from locheads.tracking.config import TrackerConfig
from locheads.workers.config import ShardConfig


class Stage(StrEnum):
    """Stages in their order. `stage=X` runs all up to X; what the store already holds is not computed again."""

    attend = "attend"
    discover = "discover"
    ground = "ground"
    evaluate = "evaluate"
    report = "report"
    judge = "judge"  # alone: do the heads of heads.set follow the words?
    steer = "steer"  # after discover, or alone with heads.set: does the answer change when heads look elsewhere?
    audit = "audit"  # after discover, instead of the others: what every choice does, from the store
    check = "check"  # alone: looks the data set over, without a model
    verify = "verify"  # alone: is the model read rightly?
    compare = "compare"  # alone: two finished runs, `runs`, without a model
    fetch = "fetch"  # alone: downloads and prepares what workers will read
    status = "status"  # alone: how far the shards of stage=attend are
    direct = "direct"  # alone: asks the LVLM for the box in words, and scores that


@settings("explorer")
class ExplorerConfig:
    """What the run keeps for the head explorer; changes no result."""

    samples: Natural = 200
    """Evenly spaced over the split; 0: no explorer."""
    megabytes: Annotated[
        float, Field(gt=0, le=1e6, description="must be positive, at most 1,000,000 (no explorer: explorer.samples=0)")
    ] = 16.0
    """Of maps in the run folder, a byte per cell; the most frequent heads come first. 16 suffice for all heads of the
    pocket model and 139 of the 1,024 of LLaVA-1.5-7B; its images take some 5 MB besides."""


class Pages(StrEnum):
    """Whether a run writes report.html and explorer.html; `python -m locheads.report FOLDER` writes them later, the
    same to the byte."""

    auto = "auto"  # a single run does, a run of a sweep does not
    always = "always"
    never = "never"


@settings("report")
class ReportConfig:
    """What is made to be looked at; changes no result."""

    pages: Pages = Pages.auto


@settings("paths")
class PathsConfig:
    """Folders, relative to where the command runs."""

    outputs: Text = "outputs"
    cache: Text = "${paths.outputs}/cache"
    """The attention store and generated data."""
    data: Text = "data"
    """Data sets; see docs/data.md for the layout."""
    studies: Text = "experiments"
    """A folder per study with the paper's figures (paper.csv); stage=report with `runs` writes result.* there."""


@settings("")
class Config:
    """The whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    dependence: DependenceConfig = field(default_factory=DependenceConfig)
    steer: SteerConfig = field(default_factory=SteerConfig)
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    absence: AbsenceConfig = field(default_factory=AbsenceConfig)
    zoom: ZoomConfig = field(default_factory=ZoomConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explorer: ExplorerConfig = field(default_factory=ExplorerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    predictions: Text | None = None
    """A file of another model's boxes or masks (JSONL or CSV): scored instead of the heads, without a model."""
    predictions_format: PredictionsConfig = field(default_factory=PredictionsConfig)
    runs: list[Text] = field(default_factory=list)
    """Two run folders for stage=compare. Or folders of finished runs and of sweeps: stage=report joins them into the
    tables of `study`. Neither runs a model."""
    study: Text = "default"
    """Name of the folder under paths.outputs, and of the W&B group."""
    stage: Stage = Stage.report
    seed: Seed = 0
    fresh: bool = False
    """In a sweep: does every run anew. Else a run that this study has done with the same settings, code and data is
    taken over; see pipeline/receipt.py."""

    def __post_init__(self) -> None:
        # OmegaConf resolves this by itself, but not where the configuration is made in Python.
        here = self.paths.cache.replace("${paths.outputs}", self.paths.outputs)
        if here != self.paths.cache:
            object.__setattr__(self, "paths", replace(self.paths, cache=here))
        study = PurePath(self.study)
        inside = not study.is_absolute() and ".." not in study.parts
        require((inside, f"study={self.study} leads out of paths.outputs: name a folder in it."))


def check(config: Config) -> None:
    """Raises ConfigError for the first setting whose value makes no sense, before anything loads."""
    require(
        *_heads_rules(config),
        *_run_rules(config),
        *_maps_rules(config),
        *_absence_rules(config),
        *_zoom_rules(config),
        *(_audit_rules(config) if config.stage == Stage.audit else []),
    )


def _heads_rules(c: Config) -> list[Rule]:
    greedy = c.selection.kind == SelectionKind.greedy
    return [
        (
            c.heads.set is None or not greedy,
            f"selection=greedy needs the scores of discovery, and heads.set={c.heads.set} leaves it out: use "
            "selection=fixed.",
        ),
        (
            not greedy or c.stage != Stage.steer,
            "stage=steer steers the same heads for every expression, and selection=greedy chooses them for each: use "
            "selection=fixed.",
        ),
        (
            not greedy or c.heads.k <= c.criterion.candidates,
            f"heads.k={c.heads.k} is more than criterion.candidates={c.criterion.candidates}, and selection=greedy "
            "takes its heads from a sample's candidates: lower heads.k or raise criterion.candidates.",
        ),
    ]


def _run_rules(c: Config) -> list[Rule]:
    formats = ", ".join(AnswerFormat)
    return [
        (
            not c.runs or c.stage in (Stage.compare, Stage.report),
            f"runs are read by stage=compare and stage=report, not by stage={c.stage}.",
        ),
        (
            c.predictions is None or c.stage in (Stage.evaluate, Stage.report),
            f"predictions={c.predictions} is scored by stage=evaluate or stage=report, not by stage={c.stage}.",
        ),
        (
            c.predictions is not None or c.dataset.split != c.dataset.discovery_split,
            f"dataset.split and dataset.discovery_split are both {c.dataset.split}: heads must be found on other "
            "images than those that are evaluated.",
        ),
        (
            c.stage != Stage.direct or c.direct.box_format is not None,
            f"stage=direct needs direct.box_format, how the model writes boxes: {formats}.",
        ),
        (
            c.dataset.asked == Asked.alone
            or c.predictions is not None
            or c.prompt.query in (Query.expression_last, Query.expression_mean),
            f"dataset.asked=in_text puts several expressions into one prompt, where prompt.query={c.prompt.query} is "
            "the same for all of them: use prompt.query=expression_mean or expression_last.",
        ),
        (
            c.dataset.asked == Asked.alone or c.stage not in (Stage.direct, Stage.steer),
            f"stage={c.stage} asks an expression alone: use dataset.asked=alone.",
        ),
        (
            c.stage != Stage.steer or not c.prompt.asks,
            f"stage=steer steers at a token of the prompt, and prompt.query={c.prompt.query} is in the model's answer: "
            "use prompt.query=last.",
        ),
        (
            c.prompt.query != Query.answer_numbers or c.direct.box_format is not None,
            f"prompt.query={c.prompt.query} needs direct.box_format, how the model writes boxes: {formats}.",
        ),
        (
            c.shard.count == 1 or c.stage in (Stage.attend, Stage.status),
            f"shard.count={c.shard.count} cuts up the attention pass only: add stage=attend, and run the later stages "
            "without it once all shards are done.",
        ),
        (
            c.discovery.until == Until.count or (c.shard.count == 1 and c.stage != Stage.status),
            "discovery.until=stable asks the model in rounds, each after the last one's result, and workers cannot "
            "share that: set discovery.until=count.",
        ),
    ]


def _maps_rules(c: Config) -> list[Rule]:
    """What needs discovery, or the maps of all heads."""
    mean_map, contrast = c.grounding.sinks == Sinks.mean_map, c.grounding.contrast
    judged = c.stage in (Stage.judge, Stage.steer) or c.heads.require == Require.follow
    greedy = c.selection.kind == SelectionKind.greedy
    return [
        (
            contrast == Contrast.none or not greedy or c.engine.maps == ALL_MAPS,
            f"grounding.contrast={contrast} needs the same heads' maps of every expression, and selection=greedy with "
            f"engine.maps={c.engine.maps} keeps each expression's own: set engine.maps=all or selection=fixed.",
        ),
        (
            c.heads.set is None or c.stage != Stage.discover,
            f"stage=discover finds heads, and heads.set={c.heads.set} gives them: leave one of the two out.",
        ),
        (
            c.heads.set is not None or c.stage != Stage.judge,
            "stage=judge judges heads that are given: name them with heads.set, or use stage=discover, which judges "
            "those that it finds.",
        ),
        (
            c.dependence.images > 0 or not (judged or c.criterion.needs_dependence),
            "dependence.images=0 leaves out what stage=judge, stage=steer, heads.require=follow, "
            f"criterion.min_dependence and criterion.score={c.criterion.score} may need: set it to 30 or more.",
        ),
        (
            not mean_map or c.engine.maps == ALL_MAPS,
            f"grounding.sinks=mean_map needs the maps of all heads: set engine.maps=all, not {c.engine.maps}.",
        ),
        (
            c.heads.set is None or not (mean_map or c.stage == Stage.audit),
            f"heads.set={c.heads.set} leaves discovery out, and grounding.sinks=mean_map and stage=audit need it: "
            "set heads.set=null.",
        ),
    ]


def _absence_rules(c: Config) -> list[Rule]:
    pairs = c.absence.score in (AbsenceScore.agreement, AbsenceScore.scatter)
    return [
        (
            not c.absence.on or c.selection.kind == SelectionKind.fixed,
            f"absence.score={c.absence.score} compares the same heads' maps of every expression: use selection=fixed.",
        ),
        (
            not pairs or c.heads.k > 1,
            f"absence.score={c.absence.score} compares the maps of several heads: raise heads.k, or choose another.",
        ),
        (
            not c.absence.calibrates or c.dataset.discovery_split not in c.dataset.test_splits,
            f"absence.score={c.absence.score} is calibrated on the test split {c.dataset.discovery_split} "
            "(dataset.discovery_split): choose another, or set absence.threshold.",
        ),
    ]


def _zoom_rules(c: Config) -> list[Rule]:
    none = c.zoom.looks == 0
    return [
        (
            none or c.grounding.contrast != Contrast.others,
            "grounding.contrast=others needs the image's other expressions, and zoom asks about each part of it one "
            "expression alone: set grounding.contrast=probes or none, or zoom=none.",
        ),
        (none or c.stage != Stage.audit, f"stage=audit compares first looks: set zoom=none, not {c.zoom.name}."),
        (
            none or not c.absence.on,
            f"absence.score={c.absence.score} scores first looks: set zoom=none, not {c.zoom.name}.",
        ),
        (
            none or not c.segmenter.reads_map,
            "The segmenter is asked with places of the fused map, and after a further look there are several maps: set "
            "other segmenter.points and segmenter.negatives=none, or zoom=none.",
        ),
    ]


def _audit_rules(c: Config) -> list[Rule]:
    return [
        (
            c.dataset.split not in c.dataset.test_splits,
            f"stage=audit compares choices, and {c.dataset.split} is a test split (dataset.test_splits): choose "
            "dataset.split=val.",
        ),
        (c.engine.maps == ALL_MAPS, f"stage=audit needs the maps of all heads: engine.maps=all, not {c.engine.maps}."),
        (
            c.segmenter.kind == SegmenterKind.none,
            f"stage=audit measures pseudo-masks: set segmenter=none, not {c.segmenter.kind}.",
        ),
    ]
