"""What a run says of its heads' dependence on the words: a section of heads.json and of metrics.json, and
judgement.json of stage=judge."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat

from locheads.dependence.head_dependence import HeadDependence
from locheads.dependence.pairs import TOGGLED, token_is_known
from locheads.dependence.word_verdict import Follows, WordVerdict
from locheads.grounding.config import GroundingConfig
from locheads.models.config import PromptConfig
from locheads.records.record_base import Count, FloatGrid, HeadName, Part, Record
from locheads.types import HeadIndex, ImageGroup

Known = Annotated[
    StrictFloat | None, BeforeValidator(lambda value: value if value is None or isfinite(value) else None)
]
"""None where there was nothing to tell it from."""


class DependenceGrids(Part):
    """Of every head; see `HeadDependence`."""

    dependence: FloatGrid
    lex: FloatGrid
    auc: FloatGrid
    stays_same: FloatGrid
    stays_other: FloatGrid

    @classmethod
    def of(cls, found: HeadDependence) -> Self:
        return cls(**found.arrays())

    def found(self) -> HeadDependence:
        """As it was measured."""
        return HeadDependence(**dict(self))


class FollowsRecord(Part):
    """Do these heads follow the words? See `WordVerdict`."""

    heads: tuple[HeadName, ...]
    """Those that were judged together."""
    follows: Follows
    sentence: str
    gap: Known = None
    low: Known = None
    high: Known = None
    dependence: Known = None
    stays_same: Known = None
    stays_other: Known = None
    n_images: Count
    n_same: Count
    n_other: Count
    split: str
    """Whose images."""
    n_asked: Count
    """Images of that split whose expressions were asked."""
    n_paraphrases: Count
    """Expressions that were made by toggling an article."""
    same_token: StrictBool
    """Whether only pairs count whose attention was taken from the same token."""
    tolerance: StrictFloat
    smoothing: dict[str, StrictFloat | int | str] = Field(default_factory=dict)
    """Of grounding: `GroundingConfig.smoothing`."""

    @classmethod
    def of(
        cls,
        verdict: WordVerdict,
        heads: Sequence[HeadIndex],
        judged: Sequence[ImageGroup],
        split: str,
        prompt: PromptConfig,
        grounding: GroundingConfig,
        tolerance: float,
    ) -> Self:
        """The verdict with what was asked for it: `judged` images, `with_paraphrases`, of this split."""
        return cls(
            **{**asdict(verdict), "sentence": verdict.sentence},
            heads=tuple(map(str, heads)),
            split=split,
            n_asked=len(judged),
            n_paraphrases=sum(sample.sample_id.endswith(TOGGLED) for group in judged for sample in group.samples),
            same_token=token_is_known(prompt),
            tolerance=tolerance,
            smoothing=grounding.smoothing,
        )

    def summary(self) -> dict[str, float | int | str]:
        """What a tracker shows beside a run."""
        numbers = {"gap": self.gap, "gap/low": self.low, "gap/high": self.high, "dependence": self.dependence}
        known = {f"follows/{name}": value for name, value in numbers.items() if value is not None}
        return {"follows": self.follows.value, "follows/n_images": self.n_images, **known}


class JudgementFile(Record):
    """judgement.json of stage=judge."""

    FILE: ClassVar[str] = "judgement.json"

    verdict: FollowsRecord
    source: str
    """Who found the heads."""
    digest: str
    """Of the run."""
