"""audit.json: which choices after the attention pass matter."""

from typing import ClassVar

from pydantic import Field, StrictBool, StrictFloat

from locheads.dependence.planted import Plant
from locheads.dependence.word_verdict import Follows
from locheads.records.record_base import Count, HeadName, Part, Record


class AuditDifference(Part):
    """On the same samples, with its interval; null where the choice failed."""

    value: StrictFloat | None
    low: StrictFloat | None
    high: StrictFloat | None


class AuditEstimate(AuditDifference):
    """A metric in [0, 1] with its interval."""

    difference: AuditDifference | None = None
    """To the run's own settings."""
    planting: AuditDifference | None = None
    """With planted heads: to the same choice without them."""


class AuditedChoice(Part):
    """One combination; the effects also name the one option that is changed."""

    option: str = ""
    value: str = ""
    documented: StrictBool = False
    """Whether the paper says how it chose."""
    changes: str
    """What makes it differ from the run's own settings; "none" for these themselves."""
    heads: str
    metrics: dict[str, AuditEstimate]
    contradicts: tuple[str, ...]
    """Documented choices of the paper that it goes against."""
    error: str | None


class AuditFile(Record):
    """What stage=audit found; effects are those of one option alone."""

    FILE: ClassVar[str] = "audit.json"

    split: str
    n_images: Count
    n_expressions: Count
    n_failed: Count
    confidence: StrictFloat
    mode: str
    seconds: StrictFloat
    metric: str
    target: StrictFloat | None
    n_choices: Count
    n_failed_choices: Count
    plant: str = Plant.none.value
    """What was planted."""
    planted: tuple[HeadName, ...] = ()
    """In the place of these heads."""
    follows: dict[str, Follows] = Field(default_factory=dict)
    """With planted heads: whether each set that a choice found follows the words, by its heads."""
    base: AuditedChoice
    base_contradicts: tuple[str, ...]
    effects: tuple[AuditedChoice, ...]
    best: tuple[AuditedChoice, ...]
    closest: tuple[AuditedChoice, ...]
