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


class JointDifference(AuditDifference):
    """Also with the interval that it has where those of all combinations are to hold at once (max-type)."""

    joint_low: StrictFloat | None = None
    joint_high: StrictFloat | None = None


class AuditEstimate(AuditDifference):
    """A metric in [0, 1] with its interval."""

    difference: JointDifference | None = None
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
    picked: StrictFloat | None = None
    """The metric on the images by which it was picked as best."""
    confirmed: AuditEstimate | None = None
    """The metric on the other images, which had no say."""


class PromptEstimate(AuditDifference):
    """A share of what a segmenter would be asked, in [0, 1], with its interval."""

    difference: AuditDifference | None = None
    """To the run's own prompt; None where that does not ask for it, or asks the same of every image."""


class AuditedPrompt(Part):
    """One way of asking a segmenter; of the run's own, which is the first, option and value are empty."""

    option: str
    value: str
    metrics: dict[str, PromptEstimate]
    """Only of what is asked."""


class AuditTarget(Part):
    """A figure that a reading must give to be compatible."""

    metric: str
    value: StrictFloat
    settings: str
    """What it was measured with, whatever the reading."""
    source: str
    split: str
    alone: Count
    """Readings that are compatible with this target, were it the only one."""
    beside: StrictBool = False
    """Whether another audit measured it (audit.beside)."""


class CommonValue(Part):
    """How often a value of an option is among the compatible readings, and among all."""

    option: str
    value: str
    members: Count
    readings: Count


class PickedAgain(Part):
    """In what share of random halves of the images the same reading is picked as on all of them."""

    splits: Count
    best: StrictFloat
    closest: StrictFloat | None = None
    """To the first target; None without one."""


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
    """Picked on a part of the images, and confirmed on the others; of earlier versions, picked on all."""
    closest: tuple[AuditedChoice, ...] = ()
    """The one closest to the first target, on all images; of earlier versions ten."""
    joint_confidence: dict[str, StrictFloat] = Field(default_factory=dict)
    """Metric -> the confidence of each interval with which all hold at once."""
    n_confirming: Count | None = None
    """Images that had no say in which readings are best; None of earlier versions."""
    again: PickedAgain | None = None
    targets: tuple[AuditTarget, ...] = ()
    n_compatible: Count | None = None
    """Readings that no target rules out; None without targets."""
    compatible: tuple[AuditedChoice, ...] = ()
    """Some of them, those first that contradict the paper least; audit.csv marks all."""
    in_common: tuple[CommonValue, ...] = ()
    prompts: tuple[AuditedPrompt, ...] = ()
    """What audit.prompts lists."""
