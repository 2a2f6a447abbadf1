"""What the worker of a shard writes, and what others read of it."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from locheads.errors import StoreError
from locheads.pipeline.signals import Stopped
from locheads.store.derived import write_derived_json
from locheads.workers import shard_progress
from locheads.workers.shard_progress import SILENT_S, ShardState, read_progress, reported, summary


def test_the_file_tells_the_worker_and_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "work" / "0000.json"
    monkeypatch.setattr(shard_progress, "WRITE_EVERY_S", 0.0)
    with reported(path, images=3) as update:
        begun = read_progress(path)
        update(tokens_done=30.0, seconds=2.0)
        assert read_progress(path).tokens_per_second() == 15
    assert begun.state is ShardState.running and begun.tokens_per_second() is None
    assert begun.content["worker"] == shard_progress.this_worker()
    assert begun.content["worker"]["pid"] == os.getpid()
    ended = read_progress(path)
    assert (ended.state, ended.content["images"], ended.content["tokens_done"]) == (ShardState.done, 3, 30.0)


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (ValueError("why"), ShardState.failed, "why"),
        (ValueError(), ShardState.failed, "ValueError"),
        (Stopped(15), ShardState.stopped, "Stopped by SIGTERM"),
        (KeyboardInterrupt(), ShardState.stopped, "KeyboardInterrupt"),
    ],
)
def test_what_ended_badly_says_why(error: BaseException, state: ShardState, says: str, tmp_path: Path) -> None:
    path = tmp_path / "0000.json"
    with pytest.raises(type(error)), reported(path):
        raise error
    found = read_progress(path)
    assert (found.state, found.content["error"]) == (state, says)


@pytest.mark.parametrize(
    ("silence", "state"), [(SILENT_S - 60, ShardState.running), (SILENT_S + 60, ShardState.silent)]
)
def test_who_says_that_it_runs_is_silent_once_it_was_long_not_heard_of(
    silence: float, state: ShardState, tmp_path: Path
) -> None:
    path = tmp_path / "0000.json"
    heard = datetime.now(UTC) - timedelta(seconds=silence)
    for said, expected in ((ShardState.running, state), (ShardState.done, ShardState.done)):
        write_derived_json(path, {"state": said, "heard": heard.isoformat()})
        found = read_progress(path)
        assert found.state is expected
        assert silence <= found.age_s


def test_between_two_words_passes_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "0000.json"
    with reported(path, images_done=0) as update:
        update(images_done=1)
        assert read_progress(path).content["images_done"] == 0
        now += shard_progress.WRITE_EVERY_S
        update(images_done=2)
        assert read_progress(path).content["images_done"] == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"state": "done", "heard": "2025-01-01"}'])
def test_a_damaged_file_never_says_that_a_shard_is_done(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0000.json"
    assert read_progress(path).state is ShardState.not_begun
    assert caplog.text == ""
    path.write_text(content)
    assert read_progress(path).state is ShardState.not_begun
    assert f"{path} is damaged" in caplog.text


def test_the_last_word_done_is_not_lost_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "work" / "0000.json"
    monkeypatch.setattr(shard_progress, "WRITE_EVERY_S", 0.0)

    def in_the_way(update: Callable[..., None]) -> None:
        path.unlink()
        path.parent.rmdir()
        path.parent.write_text("")
        update(images_done=1)  # which may fail: the pass fails by itself if that goes on

    with pytest.raises(StoreError, match="Cannot write"), reported(path) as update:
        in_the_way(update)
    with pytest.raises(StoreError, match=r"Cannot write .*work/0000.json"), reported(path):
        pytest.fail("it has begun")


def test_an_array_task_is_named_as_the_queue_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    assert shard_progress.this_worker()["job"] == "9"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert shard_progress.this_worker()["job"] == "7_3"


def test_summary() -> None:
    states = [ShardState.not_begun, ShardState.done, ShardState.done, ShardState.running]
    assert summary(states) == "1 running, 2 done, 1 not begun"
