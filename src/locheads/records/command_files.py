"""What the commands beside the stages write: check.json, fetched.json and compare.json."""

from dataclasses import asdict
from typing import ClassVar, Literal, Self

from pydantic import StrictFloat, StrictInt

from locheads.evaluation import intervals
from locheads.evaluation.intervals import Difference
from locheads.records.record_base import Count, Part, Record, Size


class CheckedPoint(Part):
    """One answer of stage=check."""

    split: str
    question: str
    state: Literal["ok", "warn", "FAIL"]
    text: str


class CheckFile(Record):
    """check.json."""

    FILE: ClassVar[str] = "check.json"
    LIST: ClassVar[str] = "points"

    points: tuple[CheckedPoint, ...]


class FetchedFile(Record):
    """fetched.json: what the caches hold now."""

    FILE: ClassVar[str] = "fetched.json"

    model: str
    folder: str
    weights: str
    dataset: str
    annotations_sha256: str
    evaluated: Count
    """Samples."""
    discovery: Count


class ComparedRun(Part):
    """One of the two runs."""

    run: str
    """Its folder."""
    method: str


class LeftOut(Part):
    """How many samples of each run the other one lacks."""

    a: Count
    b: Count


class NeededSample(Part):
    """A sample in which a difference is seen, see `locheads.evaluation.intervals.NeededSample`."""

    expressions: Count
    images: Count


class ComparedMetric(Part):
    """b - a of one metric, unscaled, see `locheads.evaluation.intervals.Difference`."""

    a: StrictFloat
    b: StrictFloat
    difference: StrictFloat
    low: StrictFloat
    high: StrictFloat
    p: StrictFloat
    spread: StrictFloat
    design_effect: StrictFloat
    need: NeededSample | None
    need_of_a_point: NeededSample | None
    """For a difference of one percentage point."""

    @classmethod
    def of(cls, found: Difference, need_of_a_point: intervals.NeededSample | None) -> Self:
        return cls.parse(asdict(found) | {"need_of_a_point": need_of_a_point and asdict(need_of_a_point)})


class CompareFile(Record):
    """compare.json: every metric that both runs have, on the samples that both have."""

    FILE: ClassVar[str] = "compare.json"

    a: ComparedRun
    b: ComparedRun
    n_expressions: Size
    n_images: Size
    left_out: LeftOut
    confidence: StrictFloat
    """Coverage of the intervals."""
    resamples: Size
    """Of the permutation test."""
    seed: StrictInt
    power: StrictFloat
    """With which a needed sample shows the difference."""
    metrics: dict[str, ComparedMetric]
