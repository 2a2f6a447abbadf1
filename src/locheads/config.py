"""Every setting, its type and its default: the schema that the files in conf/ are merged into.

Each dataclass is one Hydra group, so a key that is not here, or a value of another type, is an error before
anything loads. `check` adds the rules that types cannot say.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from locheads.audit.choices import AuditConfig, audit_rules
from locheads.data.choices import DatasetConfig
from locheads.discovery.criteria import ElbowRule, Floor, Weighting
from locheads.engine import ALL_MAPS, EngineConfig, engine_rules
from locheads.errors import ConfigError
from locheads.grounding.choices import GroundingConfig, Sinks, grounding_rules
from locheads.models.geometry import Preprocess
from locheads.segmenters.choices import SegmenterConfig, SegmenterKind, segmenter_rules


class Stage(StrEnum):
    """Stages in their order. `stage=X` runs all up to X; what the store already holds is not computed again."""

    attend = "attend"
    discover = "discover"
    ground = "ground"
    evaluate = "evaluate"
    report = "report"
    audit = "audit"  # after discover, instead of the others: what every choice does, from the store
    check = "check"  # alone: looks the data set over, without a model


class DType(StrEnum):
    """Floating-point type of the model's weights; rows are always float32 softmax."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass
class ModelConfig:
    """The LVLM."""

    name: str = "pocket"
    id: str = "pocket"
    """"pocket" (shipped with the package), a hub id, or a folder with a checkpoint."""
    revision: str | None = None
    """Commit of the hub repository; pin it for figures that others should be able to repeat."""
    dtype: DType = DType.float32
    preprocess: Preprocess = Preprocess.pad
    tiles: bool = False
    """For families that cut a picture into tiles: the grid is that of the tiles, not that of the view of the whole
    picture. Either way the model reads both."""
    trust_remote_code: bool = False


REFERSEG = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language.\n<image>\n{expression}"
)
"""The released code's text: system line, picture, expression; no roles."""


class Query(StrEnum):
    """The token from which attention is taken."""

    last = "last"
    """The last token of the whole prompt (the paper)."""
    expression_last = "expression_last"
    """The last token of the expression itself, without an added full stop."""
    expression_mean = "expression_mean"
    """The mean of the rows of all tokens of the expression."""


@dataclass
class PromptConfig:
    """What the LVLM is asked. `<image>` and `{expression}` stand for the picture and the expression."""

    name: str = "referseg"
    template: str = REFERSEG
    full_stop: bool = True
    """Ends an expression with a full stop, the query token of the paper's examples, where it has none."""
    chat: bool = False
    """The template is a question without `<image>`; the model's own chat template puts roles and picture around it."""
    query: Query = Query.last
    """Where the expression stands several times in the template, the last of them counts."""


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
    """The head's flat index >= the rank at which the sample's sorted sums bend: released code C0's bug."""


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
    max_bottom_row: float | None = None
    """Drop a head from a sample in which any bottom-row weight exceeds this (C1: 0.05)."""
    skip_layers: int = 2
    """Layers at the input that are never chosen."""
    candidates: int = 10
    """N: how many heads each sample votes for."""


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
    """How many heads are summed."""

    k: int = 3


@dataclass
class DiscoveryConfig:
    """The samples that discovery sees."""

    n_samples: int = 1000
    trials: int = 5


@dataclass
class EvaluationConfig:
    """Baselines and intervals."""

    random_draws: int = 10
    """Draws of k random heads that the baseline averages."""
    confidence: float = 0.95
    resamples: int = 2000
    gallery: int = 24
    """Samples shown in the report, evenly spaced over the split."""
    show: list[str] = field(default_factory=list)
    """Ids of samples to show besides."""


class TrackerKind(StrEnum):
    none = "none"
    wandb = "wandb"


class TrackerMode(StrEnum):
    auto = "auto"
    """Online where an account is set up on this machine, offline elsewhere."""
    online = "online"
    offline = "offline"


@dataclass
class TrackerConfig:
    """Experiment tracking."""

    kind: TrackerKind = TrackerKind.none
    project: str = "locheads"
    entity: str | None = None
    group: str | None = None
    mode: TrackerMode = TrackerMode.auto


@dataclass
class PathsConfig:
    """Folders, relative to where the command runs."""

    outputs: str = "outputs"
    cache: str = "${paths.outputs}/cache"
    """The attention store and generated data."""
    data: str = "data"
    """Data sets; see README for the layout."""


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
    audit: AuditConfig = field(default_factory=AuditConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    study: str = "default"
    """Name of the folder under paths.outputs, and of the W&B group."""
    stage: Stage = Stage.report
    seed: int = 0


def check(config: Config) -> None:
    """Raises ConfigError for the first setting whose value makes no sense, before anything loads."""
    for ok, sentence in _rules(config):
        if not ok:
            raise ConfigError(sentence)


def _rules(c: Config) -> list[tuple[bool, str]]:
    e = c.evaluation
    at_least_one = {
        "heads.k": c.heads.k,
        "discovery.n_samples": c.discovery.n_samples,
        "discovery.trials": c.discovery.trials,
        "criterion.candidates": c.criterion.candidates,
        "evaluation.random_draws": e.random_draws,
        "evaluation.resamples": e.resamples,
        "dataset.limit": 1 if c.dataset.limit is None else c.dataset.limit,
    }
    rules = [(value >= 1, f"{key} must be at least 1, not {value}.") for key, value in at_least_one.items()]
    rules += engine_rules(c.engine) + grounding_rules(c.grounding) + segmenter_rules(c.segmenter)
    rules += _audit_rules(c) if c.stage is Stage.audit else []
    rules += [
        (0 < e.confidence < 1, f"evaluation.confidence must lie between 0 and 1, not {e.confidence}."),
        (e.gallery >= 0, f"evaluation.gallery must not be negative, not {e.gallery}."),
        (c.criterion.skip_layers >= 0, f"criterion.skip_layers must not be negative, not {c.criterion.skip_layers}."),
        (c.dataset.offset >= 0, f"dataset.offset must not be negative, not {c.dataset.offset}."),
        (c.seed >= 0, f"seed must not be negative, not {c.seed}."),
        ("{expression}" in c.prompt.template, "prompt.template has no {expression}: add it where the expression goes."),
        (
            c.prompt.template.count("<image>") == (0 if c.prompt.chat else 1),
            "prompt.template must not hold <image> with prompt.chat=true: the chat template places the picture."
            if c.prompt.chat
            else "prompt.template must hold <image> exactly once.",
        ),
        (
            c.prompt.chat or c.prompt.template.find("<image>") < c.prompt.template.find("{expression}"),
            "prompt.template must have <image> before {expression}: the picture is read once for all expressions.",
        ),
        (
            c.selection.kind is SelectionKind.fixed or c.heads.k <= c.criterion.candidates,
            f"heads.k={c.heads.k} is more than criterion.candidates={c.criterion.candidates}, and selection=greedy "
            "takes its heads from a sample's candidates: lower heads.k or raise criterion.candidates.",
        ),
        (
            c.grounding.sinks is not Sinks.mean_map or c.engine.maps == ALL_MAPS,
            f"grounding.sinks=mean_map needs the maps of all heads: set engine.maps=all, not {c.engine.maps}.",
        ),
        (
            c.dataset.split != c.dataset.discovery_split,
            f"dataset.split and dataset.discovery_split are both {c.dataset.split}: heads must be found on other "
            "pictures than those that are evaluated.",
        ),
    ]
    return rules


def _audit_rules(c: Config) -> list[tuple[bool, str]]:
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
