"""The settings of the tracker."""

from dataclasses import field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.settings import settings


class TrackerKind(StrEnum):
    none = "none"
    wandb = "wandb"


class TrackerMode(StrEnum):
    auto = "auto"
    """Online where an account is set up on this machine, offline elsewhere."""
    online = "online"
    offline = "offline"


Project = Annotated[
    str,
    Field(pattern=r"^[^/\\#?%:]{1,128}$", description="must be 1 to 128 characters, none of them of / \\ # ? % :"),
]
"""What W&B allows."""


@settings("tracker")
class TrackerConfig:
    """Experiment tracking."""

    kind: TrackerKind = TrackerKind.none
    project: Project = "locheads"
    entity: str | None = None
    group: str | None = None
    """null: the study; for the runs of a sweep, the study and an id that follows from the sweep's command."""
    job_type: str | None = None
    """null: the stage."""
    tags: list[str] = field(default_factory=list)
    """Besides the names of model and data set."""
    mode: TrackerMode = TrackerMode.auto
    timeout: Annotated[
        float, Field(gt=0, le=86_400, description="must be a positive number of seconds, at most 86,400")
    ] = 60.0
    """Seconds that the end of a run waits for W&B at most."""
