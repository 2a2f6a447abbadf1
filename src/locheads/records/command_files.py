"""What the commands beside the stages write: check.json, verify.json, fetched.json, workers.json and compare.json."""

from typing import Any, ClassVar, Literal

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


class VerifiedPoint(Part):
    """One line of stage=verify, as `locheads.models.findings.Finding` has it."""

    name: str
    outcome: Literal["passed", "failed", "not applicable"]
    text: str
    advice: str


class VerifyFile(Record):
    """verify.json."""

    FILE: ClassVar[str] = "verify.json"

    model: str
    digest: str | None
    """Of the model, how it is asked, and what with; None where the checkpoint could not be identified."""
    when: str
    """ISO time."""
    findings: tuple[VerifiedPoint, ...]

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(point.outcome == "passed" for point in self.findings)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [point.name for point in self.findings if point.outcome == "failed"]

    @property
    def not_applicable(self) -> list[str]:
        """Names of the checks that could not be made."""
        return [point.name for point in self.findings if point.outcome == "not applicable"]


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


class ShardStatus(Part):
    """How far one shard of a pass is."""

    shard: Count
    state: str
    """As locheads.workers.shard_progress.ShardState names it."""
    images: Count
    stored: Count | None
    """Images with everything that is needed; None where that is not known yet."""
    tokens_per_second: StrictFloat | None
    seconds_left: StrictFloat | None
    """None where nobody works on it, or nothing was timed yet."""
    age_s: StrictFloat
    """Seconds since its worker was heard of."""
    record: dict[str, Any]
    """What its worker says."""


class PassStatus(Part):
    """How far a pass is that is dealt out in shards."""

    shards: tuple[ShardStatus, ...]
    seconds_left: StrictFloat | None


class WorkersFile(Record):
    """workers.json: by pass, what stage=status shows."""

    FILE: ClassVar[str] = "workers.json"
    LIST: ClassVar[str] = "passes"

    passes: dict[str, PassStatus]


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
