"""Settings of a pass that is cut up; kept apart, because the configuration loads before everything."""

import logging
from typing import Annotated

from pydantic import Field

from locheads.settings import Natural, require, settings


@settings("shard")
class ShardConfig:
    """How one attention pass is split over many workers. Changes nothing in the result."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Shards of the pass, even by expected tokens. 1: not cut up."""
    index: Natural | None = None
    """The shard of this process, from 0. null: the number of its task in a job array of SLURM."""
    lease_s: float | None = None
    """Has no effect any more, and goes in the next version."""

    def __post_init__(self) -> None:
        if self.lease_s is not None:
            logging.getLogger(__name__).warning(
                "shard.lease_s has no effect any more and goes in the next version: a shard belongs to one task, "
                "shard.index, and the scheduler starts it again. Leave the setting out."
            )
        require(
            (
                self.index is None or self.index < self.count,
                f"shard.index={self.index} is not a shard of shard.count={self.count}: they count from 0 to "
                f"{self.count - 1}.",
            )
        )
