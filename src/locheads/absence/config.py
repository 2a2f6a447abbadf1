"""How a run decides that what an expression names is not there; apart, because the configuration loads first."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.errors import DataError
from locheads.settings import Count, require, settings


class AbsenceScore(StrEnum):
    """What speaks for "it is not there": a number in [0, 1], 1 for nothing to be seen (`absence_scores.py`). Later than
    the paper, whose map always answers."""

    off = "off"
    """The map always answers."""
    peak = "peak"
    """The fused map's mean over its maximum: 1 for a flat map."""
    entropy = "entropy"
    """Of the fused map over its sum, divided by that of a flat map."""
    mass = "mass"
    """1 - the chosen heads' mean attention sum: how little they look at the image."""
    agreement = "agreement"
    """1 - the overlap of the chosen heads' maps, mean over their pairs."""
    scatter = "scatter"
    """Distance between the peaks of the chosen heads' maps over the map's diagonal, mean over their pairs."""
    others = "others"
    """How much of the fused map is that of the image's other expressions, too (other refs); 0 without others."""
    probes = "probes"
    """How much of the fused map is that of questions of place about the image, too (`contrast.PROBES`), which the
    attention pass asks besides."""
    calibrated = "calibrated"
    """The one of these with the largest AUROC on the calibration samples."""


class AbsenceRule(StrEnum):
    """Which score is the lowest that says "none", worked out on the calibration samples."""

    equal_error = "equal_error"
    """The share of targeted expressions that are taken for absent is, as nearly as can be, that of the absent ones that
    are taken for targeted."""
    youden = "youden"
    """N-acc + T-acc is largest (Youden 1950)."""
    false_alarm = "false_alarm"
    """N-acc is largest with at most `false_alarm` of the targeted expressions taken for absent."""


@settings("absence")
class AbsenceConfig:
    """The answer "none". Calibrated on images of the discovery split, which the leakage guard keeps apart."""

    score: AbsenceScore = AbsenceScore.off
    rule: AbsenceRule = AbsenceRule.equal_error
    false_alarm: Annotated[float, Field(gt=0, lt=1, description="must lie between 0 and 1")] = 0.05
    """Only rule=false_alarm."""
    threshold: Annotated[float | None, Field(ge=0, description="must be 0 or more")] = None
    """Scores from here on say "none"; null: by `rule`. Given, nothing is calibrated."""
    images: Count = 100
    """Of the discovery split, drawn whole, on which the threshold is worked out."""

    def __post_init__(self) -> None:
        require(
            (
                self.threshold is None or self.score not in (AbsenceScore.off, AbsenceScore.calibrated),
                f"absence.threshold={self.threshold} is the threshold of one score: name it as absence.score, which is "
                f"{self.score}.",
            )
        )

    @property
    def on(self) -> bool:
        return self.score != AbsenceScore.off

    @property
    def calibrates(self) -> bool:
        return self.on and self.threshold is None

    @property
    def needs_probes(self) -> bool:
        return self.score in (AbsenceScore.probes, AbsenceScore.calibrated)

    def lacks_kinds(self, split: str) -> DataError:
        """What is said where there is nothing to calibrate on."""
        return DataError(
            f"absence.score={self.score} is calibrated on {split}, and the {self.images} images drawn there have not "
            "both absent and present objects: set dataset.absent=swapped, or absence.threshold to a number of your own."
        )
