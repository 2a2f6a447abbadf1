"""stage=status: what is left, and who works on it."""

from pathlib import Path

import pytest

from locheads.types import ImageGroup
from locheads.workers.shard_progress import ShardProgress, ShardState
from locheads.workers.shard_table import ShardRow, headline, seconds_left
from locheads.workers.split_work import Pass

WORK = Pass("all", [ImageGroup(str(i), Path("a.jpg"), 4, 4, ()) for i in range(8)], None)


def row(state: ShardState, tokens_left: float, stored: int, **content: float) -> ShardRow:
    return ShardRow(0, ShardProgress(state, content), 2, stored, tokens_left)


DONE = row(ShardState.done, 0, 2, tokens_done=90, seconds=1)
SLOW = row(ShardState.running, 600, 1, tokens_done=100, seconds=10)
QUICK = row(ShardState.running, 600, 1, tokens_done=100, seconds=1)
NEW = row(ShardState.running, 1200, 0, tokens_done=0, seconds=0)
DEAD = row(ShardState.silent, 600, 1, tokens_done=100, seconds=1)


@pytest.mark.parametrize(
    ("rows", "seconds", "says"),
    [
        ([DONE, DONE], 0, "2 done; 4 of 8 images; complete."),
        ([SLOW, QUICK, DONE], 60, "2 running, 1 done; 4 of 8 images; about 1 min 00 s left."),
        ([QUICK, DEAD], 6, "1 running, 1 silent; 2 of 8 images; about 6 s left; nobody is working on 1 of the shards."),
        ([NEW, DONE], None, "1 running, 1 done; 2 of 8 images."),
        ([DEAD], None, "1 silent; 1 of 8 images; nobody is working on 1 of the shards."),
    ],
)
def test_the_time_left_is_that_of_the_slowest_worker(rows: list[ShardRow], seconds: float | None, says: str) -> None:
    assert seconds_left(rows) == seconds
    assert headline(WORK, rows) == f"all: {says}"


@pytest.mark.parametrize("said", list(ShardState))
def test_a_shard_that_is_stored_is_done_whoever_stored_it(said: ShardState) -> None:
    silent = said in (ShardState.silent, ShardState.not_begun)
    assert row(said, 0, 2).state == (ShardState.done if silent else said)
    assert row(said, 1, 1).state == said
