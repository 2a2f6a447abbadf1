"""The choices of the tracker; kept apart, because the configuration loads before everything."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from locheads.errors import Rule


class TrackerKind(StrEnum):
    none = "none"
    wandb = "wandb"


class TrackerMode(StrEnum):
    auto = "auto"
    """Online where an account is set up on this machine, offline elsewhere."""
    online = "online"
    offline = "offline"


@dataclass
class TrackerConfig:
    """Experiment tracking."""

    kind: TrackerKind = TrackerKind.none
    project: str = "locheads"
    entity: str | None = None
    group: str | None = None
    """null: the study; for the runs of a sweep, the study and an id that follows from the sweep's command."""
    job_type: str | None = None
    """null: the stage."""
    tags: list[str] = field(default_factory=list)
    """Besides the names of model and data set."""
    mode: TrackerMode = TrackerMode.auto
    timeout: float = 60.0
    """Seconds that the end of a run waits for W&B at most."""


def tracker_rules(t: TrackerConfig) -> list[Rule]:
    """What types cannot say."""
    return [(0 < t.timeout < math.inf, f"tracker.timeout must be a number of seconds, not {t.timeout}.")]
