"""What the commands beside the stages write: check.json, fetched.json and compare.json."""

from typing import ClassVar, Literal

from pydantic import StrictFloat, StrictInt

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
    metrics: dict[str, Difference]
