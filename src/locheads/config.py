"""Every setting, its type and its default: the schema that the files in conf/ are merged into.

Each dataclass is one Hydra group, so a key that is not here, or a value of another type, is an error before
anything loads. `check` adds the rules that types cannot say.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from locheads.audit.choices import AuditConfig, audit_rules
from locheads.data.choices import AnswerFormat, DatasetConfig, Frame, PredictionsConfig
from locheads.discovery.criteria import ElbowRule, Floor, Weighting
from locheads.engine import ALL_MAPS, EngineConfig, engine_rules
from locheads.errors import ConfigError
from locheads.grounding.choices import GroundingConfig, Sinks, grounding_rules
from locheads.models.geometry import Preprocess
from locheads.segmenters.choices import SegmenterConfig, SegmenterKind, segmenter_rules
from locheads.sharding.settings import ShardConfig, shard_rules


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
    """How many heads are summed, and where they come from."""

    k: int = 3
    set: str | None = None
    """null: the run discovers them. Else its first k heads ground every sample, and discovery is left out: a published
    set (such as llava_1_5_7b, the paper's heads), the heads.json of a run, or a folder with one. Then there is no
    oracle, and the random heads are drawn from all layers but criterion.skip_layers."""


@dataclass
class DiscoveryConfig:
    """The samples that discovery sees."""

    n_samples: int = 1000
    trials: int = 5
    sizes: list[int] = field(default_factory=list)
    """Also ranks the heads by so many of each trial's samples (stability.json), without another forward pass."""


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


@dataclass
class ExplorerConfig:
    """What the run keeps for the head explorer; changes no result."""

    samples: int = 200
    """Evenly spaced over the split; 0: no explorer."""
    megabytes: float = 16.0
    """Of maps in the run folder, a byte per cell; the most frequent heads come first. 16 suffice for all heads of the
    pocket model and 139 of the 1,024 of LLaVA-1.5-7B; its pictures take some 5 MB besides."""


@dataclass
class DirectConfig:
    """stage=direct: the LVLM answers with coordinates (the paper's Table 6). How it writes them is stated here and
    never guessed: a wrong convention gives plausible figures."""

    box_format: AnswerFormat | None = None
    """Has no default."""
    frame: Frame = Frame.picture
    cell_pixels: int | None = None
    """Side of a cell of the patch grid in pixels of the model's input (Qwen2.5-VL: 28); for frame=input with a format
    in pixels."""
    max_new_tokens: int = 64


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
    """null: the study; for the runs of a sweep, the study and an id that follows from the sweep's command."""
    job_type: str | None = None
    """null: the stage."""
    tags: list[str] = field(default_factory=list)
    """Besides the names of model and data set."""
    mode: TrackerMode = TrackerMode.auto
    timeout: float = 60.0
    """Seconds that the end of a run waits for W&B at most."""


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
    rules += shard_rules(c.shard, c.stage) + (_audit_rules(c) if c.stage is Stage.audit else [])
    rules += [
        (0 < e.confidence < 1, f"evaluation.confidence must lie between 0 and 1, not {e.confidence}."),
        (e.gallery >= 0, f"evaluation.gallery must not be negative, not {e.gallery}."),
        (c.explorer.samples >= 0, f"explorer.samples must not be negative, not {c.explorer.samples}."),
        (
            0 < c.explorer.megabytes < math.inf,
            f"explorer.megabytes must be a positive number, not {c.explorer.megabytes} (no explorer: "
            "explorer.samples=0).",
        ),
        (c.criterion.skip_layers >= 0, f"criterion.skip_layers must not be negative, not {c.criterion.skip_layers}."),
        (c.dataset.offset >= 0, f"dataset.offset must not be negative, not {c.dataset.offset}."),
        (
            c.predictions is None or c.stage in (Stage.evaluate, Stage.report),
            f"predictions={c.predictions} is scored by stage=evaluate or stage=report, not by stage={c.stage}.",
        ),
        (0 < c.tracker.timeout < math.inf, f"tracker.timeout must be a number of seconds, not {c.tracker.timeout}."),
        (
            all(size >= 1 for size in c.discovery.sizes),
            f"discovery.sizes must be numbers of samples, 1 or more, not {c.discovery.sizes}.",
        ),
        *_direct_rules(c),
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
            c.heads.set is None or c.stage is not Stage.discover,
            f"stage=discover finds heads, and heads.set={c.heads.set} gives them: leave one of the two out.",
        ),
        (
            c.heads.set is None or c.selection.kind is SelectionKind.fixed,
            f"selection=greedy needs the scores of discovery, and heads.set={c.heads.set} leaves it out: use "
            "selection=fixed.",
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
            c.heads.set is None or (c.grounding.sinks is not Sinks.mean_map and c.stage is not Stage.audit),
            f"heads.set={c.heads.set} leaves discovery out, and grounding.sinks=mean_map and stage=audit need it: "
            "set heads.set=null.",
        ),
        (
            c.predictions is not None or c.dataset.split != c.dataset.discovery_split,
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


def _direct_rules(c: Config) -> list[tuple[bool, str]]:
    d = c.direct
    if c.stage is not Stage.direct:
        return []
    formats = ", ".join(AnswerFormat)
    in_pixels = d.box_format in (AnswerFormat.xyxy, AnswerFormat.xywh)
    return [
        (d.box_format is not None, f"stage=direct needs direct.box_format, how the model writes boxes: {formats}."),
        (d.max_new_tokens >= 1, f"direct.max_new_tokens must be at least 1, not {d.max_new_tokens}."),
        (
            d.frame is Frame.picture or not in_pixels or (d.cell_pixels or 0) >= 1,
            f"direct.box_format={d.box_format} with direct.frame=input needs direct.cell_pixels, the side of a cell in "
            "pixels of the model's input.",
        ),
    ]
