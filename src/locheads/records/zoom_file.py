"""zoom.json of a run with further looks: what was looked at, what it cost, and what it changed."""

from typing import ClassVar

from pydantic import Field

from locheads.evaluation.intervals import Difference
from locheads.records.record_base import Count, Part, Record, Size


class GainPart(Part):
    """What the further looks change, on a part of the expressions."""

    part: str
    """A slice by the object's share of the image, or "all"."""
    n_expressions: Count
    n_images: Count
    metrics: dict[str, Difference]
    """Metric -> its value after the first look (a), after all looks (b), and their paired difference."""


class ZoomFile(Record):
    """zoom.json."""

    FILE: ClassVar[str] = "zoom.json"

    name: str
    """Of the settings."""
    combine: str
    n_asked: tuple[Count, ...]
    """Per further look the expressions that were asked about parts of their images: each is a row of a forward pass."""
    n_parts: tuple[Count, ...]
    """Per further look the parts, which expressions may share."""
    n_failed: Count
    """Expressions of which a further look failed: scored as misses."""
    gains: tuple[GainPart, ...]
    windows: dict[str, tuple[tuple[Count, Count, Size, Size], ...]] = Field(default_factory=dict)
    """Sample id -> the parts of its image that were looked at, xyxy in pixels, in the order of the looks."""
    confidence: float = 0.95
