"""Settings of a pass that is cut up; kept apart, because the configuration loads before everything."""

from dataclasses import dataclass

from locheads.errors import Rule


@dataclass
class ShardConfig:
    """How one attention pass is dealt out to many workers. Changes nothing in the result."""

    count: int = 1
    """Shards of the pass, even by expected tokens. 1: not cut up, no leases."""
    index: int | None = None
    """The shard of this process, from 0. null: one free shard after the other, until none is left."""
    lease_s: float = 90.0
    """A worker on another machine that has not been heard of for so many seconds is dead, and its shard free. On the
    same machine its process tells, at once."""


def shard_rules(shard: ShardConfig, stage: str) -> list[Rule]:
    """What types cannot say."""
    return [
        (shard.count >= 1, f"shard.count must be at least 1, not {shard.count}."),
        (
            shard.index is None or 0 <= shard.index < shard.count,
            f"shard.index={shard.index} is not a shard of shard.count={shard.count}: they count from 0 to "
            f"{shard.count - 1}.",
        ),
        (shard.lease_s > 0, f"shard.lease_s must be positive, not {shard.lease_s}."),
        (
            shard.count == 1 or stage in ("attend", "status"),
            f"shard.count={shard.count} cuts up the attention pass only: add stage=attend, and run the later stages "
            "without it once all shards are done.",
        ),
    ]
