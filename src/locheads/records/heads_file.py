"""heads.json: the localization heads with everything that they were chosen from, as a run writes it and as whoever
takes over its heads reads it; and stability.json, which tells the heads that fewer samples lead to."""

from collections.abc import Collection, Hashable, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from locheads.geometry import Preprocess
from locheads.models.config import ModelConfig, PromptConfig
from locheads.records.follows import DependenceGrids, FollowsRecord
from locheads.records.record_base import BoolGrid, Count, FloatGrid, HeadName, Part, Record, Size, check_grids, plain
from locheads.types import Discovery, HeadIndex

SCHEMA = 1
"""Version of what a heads.json holds. Raised whenever a reader of the old form would misread the new one."""


class OpenPart(Part):
    """Whatever else a user notes in it is passed over."""

    model_config = ConfigDict(extra="ignore")


class FoundHead(OpenPart):
    """One localization head; a set that was not found by a run lacks its frequency."""

    layer: Count
    head: Count
    frequency_mean: StrictFloat | None = None
    frequency_std: StrictFloat | None = None
    frequency_low: StrictFloat | None = None
    frequency_high: StrictFloat | None = None

    @property
    def index(self) -> HeadIndex:
        return HeadIndex(self.layer, self.head)


class RankedHead(FoundHead):
    """A head of which a source tells the rank, but not all heads before it."""

    rank: Size
    """1 is the first."""


class HowFound(Part):
    """How the heads of a published set were found, in words; null: the source does not say, or is not known to us."""

    row: str | None
    """Of which token attention was taken."""
    prompt: str | None
    data: str | None
    criterion: str | None
    n_samples: Size | None
    date: str | None
    """Of the source: YYYY, YYYY-MM or YYYY-MM-DD."""
    by_us: StrictBool | None
    measured: dict[str, StrictFloat] = Field(default_factory=dict)
    """What the source measured of these heads together: name -> share in [0, 1]."""
    notes: tuple[str, ...] = ()


class AskedModel(OpenPart):
    """Of the model in which the heads were found; how it saw the images."""

    id: str | None = None
    revision: str | None = None
    preprocess: Preprocess | None = None
    tiles: StrictBool = False


class FoundOn(OpenPart):
    """The discovery's data."""

    name: str
    split: str


Model = Annotated[AskedModel, BeforeValidator(lambda value: {"id": value} if isinstance(value, str) else value)]
"""The first versions wrote its id alone."""


def _check_heads(found: Sequence[FoundHead], layers: int, heads_per_layer: int) -> None:
    for head in found:
        if not (head.layer < layers and head.head < heads_per_layer):
            raise ValueError(f"head {head.index} does not exist in {layers} layers of {heads_per_layer} heads")
    if len({head.index for head in found}) < len(found):
        raise ValueError("its heads must be all different")


class HeadSetFile(Record):
    """What a heads.json must hold for its heads to be used: of a run, published with the package or written by a user.
    Whatever else it holds is passed over."""

    model_config = ConfigDict(extra="ignore")
    FILE: ClassVar[str] = "heads.json"

    found: tuple[FoundHead, ...] = Field(validation_alias=AliasChoices("heads"), min_length=1)
    layers: Size
    heads_per_layer: Size
    source: str | None = None
    model: Model | None = None
    prompt: str | None = None
    prompt_settings: dict[str, Any] | None = None
    dataset: FoundOn | None = None
    follows: FollowsRecord | None = None
    how: HowFound | None = None
    """Of a published set; a run's follows from the other fields."""
    also_ranked: tuple[RankedHead, ...] = ()
    """Further heads, which ground nothing."""
    criterion: Any = None
    n_samples: Any = None
    frequency_mean: FloatGrid | None = None
    score: FloatGrid | None = None
    """What all heads are ranked by, where it is not their frequency."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_heads((*self.found, *self.also_ranked), self.layers, self.heads_per_layer)
        check_grids(self, (self.layers, self.heads_per_layer))
        if any(head.rank <= len(self.found) for head in self.also_ranked):
            raise ValueError("also_ranked must hold ranks beyond those of heads")
        return self


class SupportRecord(Part):
    """How often the k localization heads come again where the images are drawn anew (`discovery.support`)."""

    confidence: StrictFloat
    """With which they are called final."""
    resamples: Size
    """Of each point of the curve."""
    curve: tuple[tuple[Size, StrictFloat], ...] = Field(min_length=1)
    """(samples, share of the resamples with so many in which the same k heads come first, in whatever order),
    ascending; the last: of all samples that were asked."""

    @property
    def share(self) -> float:
        """Of the resamples as large as what was asked: how far the heads are final."""
        return self.curve[-1][1]

    @property
    def enough(self) -> int | None:
        """The fewest samples of the curve from which on the share reaches the confidence; None: all do not suffice."""
        short = [i for i, (_, share) in enumerate(self.curve) if share < self.confidence]
        reaching = self.curve[short[-1] + 1 if short else 0 :]
        return reaching[0][0] if reaching else None


class HeadsFile(Record):
    """heads.json of a run."""

    FILE: ClassVar[str] = "heads.json"

    version: StrictInt = Field(default=SCHEMA, validation_alias=AliasChoices("schema"), serialization_alias="schema")
    found: tuple[FoundHead, ...] = Field(validation_alias=AliasChoices("heads"), serialization_alias="heads")
    """The localization heads, the most frequent first."""
    source: str | None = None
    """Who found them, in words, where it was not a run."""
    k: Size
    selection: str
    criterion: dict[str, Any]
    """Its settings."""
    tau: StrictFloat | None
    """Threshold on the mean attention sum; None where the criterion has none."""
    tau_per_trial: tuple[StrictFloat | None, ...] = ()
    top_per_trial: tuple[tuple[HeadName, ...], ...] = ()
    """The k heads of each trial."""
    draw: str = "expression"
    """What was drawn at random: expressions, or whole images."""
    n_samples: Count
    """Samples per trial."""
    n_expressions: Count | None = None
    """Different samples of all trials."""
    n_images: Count | None = None
    """Images of these, of those that could be processed."""
    trials: Count
    n_failed: Count
    """Discovery samples that could not be processed."""
    n_excluded_images: Count = 0
    """Images that discovery left out, because a guarded split holds them."""
    layers: Size
    heads_per_layer: Size
    mean_attention_sum: FloatGrid
    """Share of the query's attention that falls on the image, averaged over the samples, in [0, 1]."""
    frequency_mean: FloatGrid
    """Share of samples that chose the head, in [0, 1], averaged over the trials."""
    frequency_std: FloatGrid
    eligible: BoolGrid
    head_iou: FloatGrid | None = None
    """Mean IoU of the head's binarised map with the truth; None where it was not measured."""
    model: Model | None = None
    prompt: str | None = None
    prompt_settings: dict[str, Any] | None = None
    dataset: FoundOn | None = None
    seed: StrictInt | None = None
    dependence: DependenceGrids | None = None
    """On the words, of every head; None where it was not measured."""
    follows: FollowsRecord | None = None
    """Whether the localization heads follow the words."""
    support: SupportRecord | None = None
    """How far they are final; None where it was not measured."""
    score: FloatGrid | None = None
    """What the heads are ranked by where that is not their frequency; None where it is."""
    made_from: dict[str, str] = Field(default_factory=dict)
    """sha256 of the weights and of the annotations."""
    digest: str = ""
    """Of the run."""

    @classmethod
    def of(
        cls,
        discovery: Discovery,
        heads: Sequence[HeadIndex],
        trials: Sequence[Collection[Hashable]],
        model: ModelConfig,
        prompt: PromptConfig,
        criterion: object,
        **more: Any,
    ) -> Self:
        """The heads with what they were chosen from. `trials`: per trial its samples; `more`: the other fields."""
        layers, heads_per_layer = discovery.frequency_mean.shape
        return cls(
            version=SCHEMA,
            found=tuple(_found(discovery, head) for head in heads),
            k=len(heads),
            criterion=plain(criterion),
            tau=discovery.tau,
            tau_per_trial=discovery.tau_per_trial,
            top_per_trial=tuple(tuple(map(str, top[: len(heads)])) for top in discovery.ranking_per_trial()),
            n_samples=len(trials[0]),
            n_expressions=len(set().union(*trials)),
            n_images=discovery.n_images,
            trials=len(trials),
            layers=layers,
            heads_per_layer=heads_per_layer,
            mean_attention_sum=discovery.mean_sums,
            frequency_mean=discovery.frequency_mean,
            frequency_std=discovery.frequency_std,
            eligible=discovery.eligible,
            score=discovery.score,
            model=AskedModel(id=model.id, revision=model.revision, preprocess=model.preprocess, tiles=model.tiles),
            prompt=prompt.template,
            prompt_settings=plain(prompt),
            **more,
        )

    @property
    def heads(self) -> tuple[HeadIndex, ...]:
        return tuple(head.index for head in self.found)

    @property
    def skip_layers(self) -> int:
        """How many layers at the input are never chosen."""
        value = self.criterion.get("skip_layers")
        return int(value) if isinstance(value, int | float) else 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_heads(self.found, self.layers, self.heads_per_layer)
        for grids in (self, self.dependence):
            if grids is not None:
                check_grids(grids, (self.layers, self.heads_per_layer))
        return self


def _found(discovery: Discovery, head: HeadIndex) -> FoundHead:
    at, ends = (head.layer, head.head), discovery.frequency_ends
    low, high = (None, None) if ends is None else map(float, ends[:, *at])
    return FoundHead(
        layer=head.layer,
        head=head.head,
        frequency_mean=discovery.frequency_mean[at],
        frequency_std=discovery.frequency_std[at],
        frequency_low=low,
        frequency_high=high,
    )


class SizeOfDiscovery(Part):
    """The heads that the first n samples of each trial lead to."""

    n: Size
    tops: tuple[tuple[HeadName, ...], ...]


class StabilityFile(Record):
    """stability.json."""

    FILE: ClassVar[str] = "stability.json"

    k: Size
    sizes: tuple[SizeOfDiscovery, ...]
