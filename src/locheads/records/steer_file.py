"""steer.json of stage=steer: does the answer change when the heads look elsewhere?"""

from typing import ClassVar

from pydantic import StrictFloat

from locheads.evaluation.steer_effect import SteerEffect
from locheads.records.record_base import Count, HeadName, Record


class SteerFile(Record):
    """steer.json."""

    FILE: ClassVar[str] = "steer.json"

    sentences: tuple[str, ...]
    """One for every mode and k."""
    effects: tuple[SteerEffect, ...]
    heads: tuple[HeadName, ...]
    """The most frequent first; steered are the first k of them."""
    source: str
    """Who found the heads."""
    split: str
    """Whose images."""
    n_images: Count
    """With an expression that was steered."""
    n_expressions: Count
    n_same_answer: Count
    """Expressions that were left out, because the answers about all other objects begin alike."""
    other: StrictFloat
    own: StrictFloat
    """What is added to the logits, see `SteerConfig`."""
    confidence: StrictFloat
    digest: str
    """Of the run."""
