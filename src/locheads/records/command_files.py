"""What the commands beside the stages write: check.json, fetched.json and compare.json."""

from typing import ClassVar, Literal

from locheads.records.record_base import Count, Part, Record


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
