"""Settings of a pass that is cut up; kept apart, because the configuration loads before everything."""

from typing import Annotated

from pydantic import Field

from locheads.settings import Natural, require, settings


@settings("shard")
class ShardConfig:
    """How one attention pass is dealt out to many workers. Changes nothing in the result."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Shards of the pass, even by expected tokens. 1: not cut up, no leases."""
    index: Natural | None = None
    """The shard of this process, from 0. null: one free shard after the other, until none is left."""
    lease_s: Annotated[
        float, Field(gt=0, le=1e9, description="must be a positive number of seconds, at most 1,000,000,000")
    ] = 90.0
    """A worker on another machine that has not been heard of for so many seconds is dead, and its shard free. On the
    same machine its process tells, at once."""

    def __post_init__(self) -> None:
        require(
            (
                self.index is None or self.index < self.count,
                f"shard.index={self.index} is not a shard of shard.count={self.count}: they count from 0 to "
                f"{self.count - 1}.",
            )
        )
