"""metrics.json: what a run measured, as it is written and read back; files of earlier versions still open."""

from math import isfinite, isnan, nan
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, StrictFloat, StrictInt, model_validator
from pydantic.dataclasses import dataclass

from locheads.evaluation.box_format_check import BoxCheck
from locheads.evaluation.intervals import FEW_IMAGES
from locheads.evaluation.metric_table import METHODS, OWN_METHODS, Place, Unit, only_rare, shown
from locheads.records.absence_part import CalibrationPart, Share
from locheads.records.follows import FollowsRecord
from locheads.records.record_base import Count, Part, Record
from locheads.types import HeadIndex

EARLIER_NAMES = {"oracle_heads": "best_iou_heads"}
"""Methods, and lists of heads, as run folders of earlier versions call them."""
FEW_MARK = "\N{DAGGER}"
FEW_LEGEND = f"{FEW_MARK} on fewer than {FEW_IMAGES} images: take figure and interval as rough."
RHO = "\N{GREEK SMALL LETTER RHO}"

End = Annotated[
    StrictFloat,
    BeforeValidator(lambda value: nan if value is None else value),
    PlainSerializer(lambda value: None if isnan(value) else value),
]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]


def few_mark(n_images: int) -> str:
    """FEW_MARK, or nothing."""
    return FEW_MARK if n_images < FEW_IMAGES else ""


def few_legend(*texts: object) -> str:
    """What the mark means, to be put behind a text; nothing where none of `texts` holds it."""
    return f" {FEW_LEGEND}" if any(FEW_MARK in str(text) for text in texts) else ""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Estimate:
    """A metric with its confidence interval, unscaled; NaN ends where nothing is known of the spread."""

    value: StrictFloat
    low: End
    high: End
    mark: str = Field(default="", exclude=True)
    """FEW_MARK on fewer than FEW_IMAGES images."""

    def __str__(self) -> str:
        """In percent: 53.2 [50.1, 56.0]."""
        return self.text()

    def text(self, unit: Unit = Unit.PERCENT, interval: bool = True, sign: str = "") -> str:
        """53.2 [50.1, 56.0]; `sign`: see `Unit.text`."""
        ends = f" [{unit.text(self.low, sign)}, {unit.text(self.high, sign)}]" if interval else ""
        return unit.text(self.value, sign) + self.mark + ends


def _marked(estimates: Any, n_images: Any) -> Any:
    """Estimates of a file, with their mark; those without a value, which earlier versions wrote, are left out."""
    if not isinstance(estimates, dict):
        return estimates  # which the model refuses
    mark = {"mark": few_mark(n_images) if isinstance(n_images, int) else ""}
    marked = {key: found | mark if isinstance(found, dict) else found for key, found in estimates.items()}
    return {key: v for key, v in marked.items() if (v.get("value", 0) if isinstance(v, dict) else v) is not None}


class Slice(Part):
    """The run's own method on a part of the expressions."""

    by: str
    """A key of locheads.evaluation.slices.SLICES."""
    name: str = Field(alias="slice")
    n_expressions: Count
    n_images: Count
    metrics: dict[str, Estimate]

    @model_validator(mode="before")
    @classmethod
    def _with_marks(cls, raw: Any) -> Any:
        return raw | {"metrics": _marked(raw.get("metrics"), raw.get("n_images"))} if isinstance(raw, dict) else raw


class FrequencyPoint(Part):
    """One head of the paper's Fig. 6."""

    layer: Count
    head: Count
    frequency: StrictFloat
    iou: StrictFloat

    @property
    def index(self) -> HeadIndex:
        return HeadIndex(self.layer, self.head)


class Figure6(Part):
    """Does selection frequency tell how well a head's map covers the object?"""

    spearman: StrictFloat | None
    p_value: StrictFloat | None
    n_heads: Count
    points: tuple[FrequencyPoint, ...]

    @property
    def defined(self) -> bool:
        """Whether there is a correlation: not with too few heads."""
        return self.spearman is not None and isfinite(self.spearman)

    def text(self) -> str:
        """Spearman rho = 0.71, p < 0.001, 32 heads (with the Greek letter)."""
        if self.spearman is None or not self.defined:
            return "Spearman correlation not defined: too few heads"
        return f"Spearman {RHO}\u00a0=\u00a0{self.spearman:.2f}, {p_text(self.p_value)}, {self.n_heads} heads"


class FailedSample(Part):
    """An evaluated expression that could not be processed."""

    sample_id: str
    reason: str


class AbsencePart(Part):
    """How the run decides that what an expression names is not there, and how well."""

    score: str
    """A member of AbsenceScore."""
    threshold: StrictFloat
    """Scores from here on say "none"."""
    calibration: CalibrationPart | None
    """None where the threshold was given."""
    n_targeted: Count
    n_absent: Count
    n_unscored: Count
    """Expressions without a score: they count as placed wrongly against all others."""
    auroc: dict[str, Estimate]
    """Of every score on the evaluated expressions; empty where all or none are absent."""
    coverage: tuple[Share, ...]
    risk: tuple[Share, ...]
    """Share of wrong boxes among the answered expressions, at each coverage."""


def spearman_text(check: Figure6 | None) -> str:
    """The check's outcome in one line."""
    return (check or Figure6(spearman=None, p_value=None, n_heads=0, points=())).text()


def answered(metrics: "MetricsRecord") -> str:
    """What an answer is, which `n_empty` expressions lack: a box, or, where the truth is heat maps, a map that points
    anywhere."""
    return "map that points anywhere" if only_rare(metrics.measured) else "box"


def p_text(p_value: float | None) -> str:
    """p < 0.001, p = 0.034, or "p unknown"."""
    if p_value is None or not isfinite(p_value):
        return "p unknown"
    # A number never parts from its sign at the end of a line.
    return "p\u00a0<\u00a00.001" if p_value < 0.001 else f"p\u00a0=\u00a0{p_value:.3f}"


class MetricsRecord(Record):
    """metrics.json: the evaluation of one run."""

    FILE: ClassVar[str] = "metrics.json"

    split: str
    n_expressions: Count
    n_images: Count
    n_failed: Count
    """Expressions that could not be processed: scored as misses."""
    failed: tuple[FailedSample, ...] = ()
    """The first of them, in the order of the split."""
    n_empty: Count
    """Expressions without a predicted box: scored as misses."""
    confidence: StrictFloat = 0.95
    """Coverage of the intervals."""
    methods: dict[str, dict[str, Estimate]]
    """method -> metric -> estimate; a metric that a method lacks is absent."""
    slices: tuple[Slice, ...] = ()
    heads: Names = ()
    best_iou_heads: Names = ()
    best_rec_heads: Names = ()
    figure6: Figure6 | None = None
    n_missing: Count | None = None
    """Expressions that a file of predictions does not mention: scored as misses, and among n_failed."""
    n_not_evaluated: StrictInt | None = None
    """Lines of the file about other expressions."""
    boxes: BoxCheck | None = None
    """Of runs about written boxes."""
    follows: FollowsRecord | None = None
    """Whether the localization heads follow the words; None where that was not judged."""
    absence: AbsencePart | None = None
    """None where the run always answers."""
    notes: Names = ()
    """What a reader of the figures must know."""

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        raw = {EARLIER_NAMES.get(key, key): value for key, value in raw.items()}
        if isinstance(methods := raw.get("methods"), dict):
            named = {EARLIER_NAMES.get(name, name): found for name, found in methods.items()}
            raw["methods"] = {name: _marked(found, raw.get("n_images")) for name, found in named.items()}
        return raw

    def get(self, method: str, metric: str) -> Estimate | None:
        return self.methods.get(method, {}).get(metric)

    @property
    def measured(self) -> frozenset[str]:
        """The metrics that any method has."""
        return frozenset(key for found in self.methods.values() for key in found)

    def own(self) -> str | None:
        """The method that the run is about; None where only baselines are told."""
        return next((method for method in OWN_METHODS if method in self.methods), None)

    def rows(self) -> list[str]:
        """Methods in the order of the tables; unknown ones last."""
        return [m for m in METHODS if m in self.methods] + [m for m in self.methods if m not in METHODS]

    def summary(self) -> dict[str, float | int | str]:
        """What a tracker shows beside a run: every metric as METHOD/METRIC with /low and /high, and those of the
        localization heads that a sweep may optimise under a name without @ and dots."""
        found: dict[str, float | int | str] = {}
        for method, estimates in self.methods.items():
            for metric, estimate in estimates.items():
                name = f"{method}/{metric}"
                found |= {name: estimate.value, f"{name}/low": estimate.low, f"{name}/high": estimate.high}
        for key, told in shown(Place.SUMMARY).items():
            if own := self.get("localization_heads", key):
                found[told.plain_name] = own.value
        words = {} if self.follows is None else self.follows.summary()
        return found | {"heads": " ".join(self.heads), "n_failed": self.n_failed, "n_empty": self.n_empty} | words
