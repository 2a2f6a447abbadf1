"""Every setting, its type and its default: the schema that the files in conf/ are merged into.

Each dataclass is one Hydra group, so a key that is not here, or a value of another type, is an error before
anything loads. `check` adds the rules that types cannot say.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from locheads.data.choices import AnswerFormat, DatasetConfig, Frame
from locheads.discovery.criteria import ElbowRule, Floor, Weighting
from locheads.engine import EngineConfig, engine_rules
from locheads.errors import ConfigError
from locheads.models.geometry import Preprocess


class Stage(StrEnum):
    """Stages in their order. `stage=X` runs all up to X; what the store already holds is not computed again."""

    attend = "attend"
    discover = "discover"
    ground = "ground"
    evaluate = "evaluate"
    report = "report"
    check = "check"  # alone: looks the data set over, without a model
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
    """How many heads are summed."""

    k: int = 3


@dataclass
class DiscoveryConfig:
    """The samples that discovery sees."""

    n_samples: int = 1000
    trials: int = 5
    sizes: list[int] = field(default_factory=list)
    """Also ranks the heads by so many of each trial's samples (stability.json), without another forward pass."""


class Border(StrEnum):
    """What smoothing sees beyond the map's border (names as in scipy.ndimage). The paper does not say."""

    mirror = "mirror"
    """d c b | a b c d | c b a: OpenCV's default, and torchvision's."""
    reflect = "reflect"
    nearest = "nearest"
    constant = "constant"


class BoxRule(StrEnum):
    """Which cells above the mean make the box."""

    largest_hull = "largest_hull"
    """The component whose convex hull is largest (the paper)."""
    all_cells = "all_cells"
    """All of them (released code C1)."""


class MaskRule(StrEnum):
    """Which cells make the pseudo-mask."""

    all_cells = "all_cells"
    """All above the mean (the paper's pseudo-mask)."""
    box_cells = "box_cells"
    """Only those of the component that made the box."""


@dataclass
class GroundingConfig:
    """From the chosen heads' maps to a box and a pseudo-mask."""

    name: str = "paper"
    kernel: int = 7
    """Width of the Gaussian's window in cells, odd."""
    sigma: float = 1.0
    """In cells; 0 switches smoothing off."""
    border: Border = Border.mirror
    box: BoxRule = BoxRule.largest_hull
    mask: MaskRule = MaskRule.all_cells


@dataclass
class EvaluationConfig:
    """Baselines and intervals."""

    random_draws: int = 10
    """Draws of k random heads that the baseline averages."""
    confidence: float = 0.95
    resamples: int = 2000
    gallery: int = 24
    """Samples shown in the report, evenly spaced over the split."""


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
    mode: TrackerMode = TrackerMode.auto


@dataclass
class PathsConfig:
    """Folders, relative to where the command runs."""

    outputs: str = "outputs"
    cache: str = "${paths.outputs}/cache"
    """The attention store and generated data."""
    data: str = "data"
    """Data sets; see README for the layout."""
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
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    runs: list[str] = field(default_factory=list)
    """Folders of finished runs or of sweeps: stage=report joins them into the tables of `study` and runs no model."""
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
    g, e = c.grounding, c.evaluation
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
    rules += engine_rules(c.engine)
    rules += [
        (g.kernel >= 1 and g.kernel % 2 == 1, f"grounding.kernel must be odd and positive, not {g.kernel}."),
        (0 <= g.sigma < math.inf, f"grounding.sigma must be a number of cells, 0 or more, not {g.sigma}."),
        (0 < e.confidence < 1, f"evaluation.confidence must lie between 0 and 1, not {e.confidence}."),
        (e.gallery >= 0, f"evaluation.gallery must not be negative, not {e.gallery}."),
        (c.criterion.skip_layers >= 0, f"criterion.skip_layers must not be negative, not {c.criterion.skip_layers}."),
        (c.dataset.offset >= 0, f"dataset.offset must not be negative, not {c.dataset.offset}."),
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
            c.selection.kind is SelectionKind.fixed or c.heads.k <= c.criterion.candidates,
            f"heads.k={c.heads.k} is more than criterion.candidates={c.criterion.candidates}, and selection=greedy "
            "takes its heads from a sample's candidates: lower heads.k or raise criterion.candidates.",
        ),
        (
            c.dataset.split != c.dataset.discovery_split,
            f"dataset.split and dataset.discovery_split are both {c.dataset.split}: heads must be found on other "
            "pictures than those that are evaluated.",
        ),
    ]
    return rules


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
