"""What a check of a checkpoint found, in a sentence, and what to do where it failed."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    passed = "passed"
    failed = "failed"
    not_applicable = "not applicable"


@dataclass(frozen=True)
class Finding:
    """One line of a verification."""

    name: str
    """Of the check, in a few words."""
    outcome: Outcome
    text: str
    """What was found, with its figures."""
    advice: str = ""
    """What to do; only where it failed."""
