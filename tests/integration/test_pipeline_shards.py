"""One attention pass by several workers: the same files as by one, whatever happens to any of them."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import Finished, Result, TinyFiles

from locheads.config import Config, Stage
from locheads.discovery.config import SelectionConfig, SelectionKind
from locheads.errors import ConfigError, StoreError
from locheads.models import load
from locheads.models.engine import EngineConfig
from locheads.models.identity import identify
from locheads.pipeline import attention_pass as attention
from locheads.pipeline import signals
from locheads.pipeline.inputs import load_inputs
from locheads.pipeline.open_store import open_store
from locheads.pipeline.signals import Stopped
from locheads.types import Attention
from locheads.workers.config import ShardConfig

SAME = ("heads.json", "metrics.json", "predictions.parquet", "baselines.parquet", "scores.parquet")
ENGINE = EngineConfig(device="cpu", threads=1, shard_images=2)


def worker(files: TinyFiles, outputs: Path, count: int, index: int, **changes: Any) -> Config:
    shard = ShardConfig(count=count, index=index)
    changes = {"engine": ENGINE} | changes
    return files.config(outputs, stage=Stage.attend, shard=shard, **changes)


def progress(outputs: Path) -> list[dict[str, Any]]:
    """What the workers of the one pass say, by shard."""
    return [json.loads(path.read_text()) for path in sorted((outputs / "cache").glob("attention/*/work/*/*.json"))]


def stored(config: Config) -> dict[str, bytes]:
    """Sample id -> everything that the store holds of it, as bytes."""
    inputs = load_inputs(config)
    store = open_store(config, identify(config.model), inputs.annotations)
    content = {}
    for found in store.read([*inputs.discovery, *inputs.evaluated]):
        assert isinstance(found, Attention)
        for i, sample_id in enumerate(found.sample_ids):
            content[sample_id] = found.maps[i].tobytes() + found.sums[i].tobytes()
    return content


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the images that the model saw, in order."""
    ids: list[str] = []
    real = attention.attend_groups

    def counting(lvlm: Any, batch: Any, *rest: Any) -> Any:
        ids.extend(group.image_id for group, _ in batch)
        return real(lvlm, batch, *rest)

    monkeypatch.setattr(attention, "attend_groups", counting)
    return ids


@pytest.mark.parametrize("count", [2, 5, 20])
def test_any_number_of_workers_gives_the_same_files(
    count: int, files: TinyFiles, finished: Finished, tmp_path: Path, run: Callable[[Config], Path], seen: list[str]
) -> None:
    for index in reversed(range(count)):
        run(worker(files, tmp_path, count, index))
    assert len(seen) == len(set(seen)) == 14
    assert [content["state"] for content in progress(tmp_path)] == ["done"] * count
    config = files.config(tmp_path)
    folder = run(config)
    assert len(seen) == 14
    for name in SAME:
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes(), name
    assert stored(config) == stored(files.config(tmp_path, finished.cache))


def test_the_same_worker_once_more_changes_nothing(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], seen: list[str]
) -> None:
    for index in (2, 0, 1):
        run(worker(files, tmp_path, 3, index))
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    for index in (2, 0, 1):
        run(worker(files, tmp_path, 3, index))
    assert len(seen) == len(set(seen)) == 14
    assert {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()} == before


def test_a_deleted_file_of_a_shard_that_was_done_is_computed_again(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], seen: list[str]
) -> None:
    run(worker(files, tmp_path, 2, 0))
    next((tmp_path / "cache").rglob("*.shard.json")).unlink()
    seen.clear()
    run(worker(files, tmp_path, 2, 0))
    assert len(seen) in (1, 2)


@pytest.mark.parametrize("kind", list(SelectionKind))
def test_a_compact_store_takes_two_passes(
    kind: SelectionKind, files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], seen: list[str]
) -> None:
    compact = {"engine": replace(ENGINE, maps="top 3"), "selection": SelectionConfig(kind)}
    alone = run(files.config(tmp_path / "alone", **compact))
    n_alone = len(seen)
    seen.clear()
    many = tmp_path / "many"
    for index in (1, 0):
        run(worker(files, many, 2, index, **compact))
    # The second was the last one: only it knew the heads.
    for index in (1, 0):
        run(worker(files, many, 2, index, **compact))
    assert len(seen) == n_alone
    folder = run(files.config(many, **compact))
    assert len(seen) == n_alone
    for name in SAME:
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name


def test_samples_that_fail_do_not_keep_a_shard_open(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = files.copy(tmp_path / "copy")
    (copy.images / "COCO_train2014_000000000201.jpg").unlink()
    for index in range(3):
        run(worker(copy, tmp_path, 3, index))
    assert sum(content["failed"] for content in progress(tmp_path)) == 5
    monkeypatch.setattr(load, "load_lvlm", lambda *_: pytest.fail("the model was loaded"))
    for index in range(3):
        run(worker(copy, tmp_path, 3, index))
    folder = run(copy.config(tmp_path))
    assert json.loads((folder / "metrics.json").read_text())["n_failed"] == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_keeps_what_was_found(
    number: signal.Signals, files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path],
    monkeypatch: pytest.MonkeyPatch, seen: list[str],
) -> None:  # fmt: skip
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)}
    real = attention.attend_groups

    def signalled(lvlm: Any, batch: Any, *rest: Any) -> Any:
        if len(seen) == 3:
            os.kill(os.getpid(), number)
        return real(lvlm, batch, *rest)

    try:
        signals.stop_in_order()
        with monkeypatch.context() as patch:
            patch.setattr(attention, "attend_groups", signalled)
            with pytest.raises(Stopped) as stop:
                run(worker(files, tmp_path, 2, 0, engine=replace(ENGINE, shard_images=32)))
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert stop.value.code == 128 + number
    (content,) = progress(tmp_path)
    assert (content["state"], content["error"]) == ("stopped", f"Stopped by {number.name}")
    for index in range(2):
        run(worker(files, tmp_path, 2, index))
    assert len(seen) == len(set(seen)) == 14


def test_what_killed_runs_left_is_swept(files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]) -> None:
    run(worker(files, tmp_path, 2, 0))
    (key,) = (tmp_path / "cache").glob("attention/*/key.json")
    store = key.parent
    old = [store / ".abc.safetensors.x1", store / "abc.safetensors"]
    young = [store / ".abd.safetensors.x1", store / "abd.safetensors"]
    for path in old + young:
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (1, 1))
    run(worker(files, tmp_path, 2, 1))
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)


def test_status_tells_of_every_shard(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*files.arguments(tmp_path / "out", tmp_path / "cache"), "shard.count=3", "engine.shard_images=2"]
    assert command(*arguments, "stage=attend", "shard.index=0").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(attention.AttentionStore, "write", lambda *_: 1 / 0)
        patch.setattr(load, "load_lvlm", lambda *_: (_ for _ in ()).throw(StoreError("The disk is gone.")))
        assert command(*arguments, "stage=attend", "shard.index=1").code == 1
    result = command(*arguments, "stage=status")
    assert result.code == 0, result.err
    assert "1 done, 1 failed, 1 not begun" in result.out
    assert "nobody is working on 2 of the shards" in result.out
    assert "Shard 1: The disk is gone. (log: " in result.out
    (record,) = [json.loads(path.read_text())["all"] for path in (tmp_path / "out").rglob("workers.json")]
    assert [shard["state"] for shard in record["shards"]] == ["done", "failed", "not begun"]
    assert sum(shard["images"] for shard in record["shards"]) == 14
    assert [shard["stored"] for shard in record["shards"]] == [record["shards"][0]["images"], 0, 0]
    result = command(*arguments, "stage=attend")
    assert result.code == 1
    assert result.err.startswith("error: Nothing says which of the 3 shards is this worker's")
    assert result.err.count("\n") == 1
    assert command("-m", *arguments, "stage=attend", "shard.index=range(0,3)", "shard.lease_s=7").code == 0
    assert "3 done; 14 of 14 images; complete." in command(*arguments, "stage=status").out


@pytest.mark.parametrize(
    ("shard", "stage", "says"),
    [
        (dict(count=0), Stage.attend, "shard.count must be at least 1"),
        (dict(count=4, index=4), Stage.attend, "shard.index=4 is not a shard of shard.count=4"),
        (dict(count=4), Stage.report, "shard.count=4 cuts up the attention pass only"),
        (dict(count=4), Stage.attend, "Nothing says which of the 4 shards is this worker's"),
    ],
)
def test_mistakes_are_one_sentence(
    shard: dict[str, Any], stage: Stage, says: str, files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    with pytest.raises(ConfigError, match=says):
        run(files.config(tmp_path, stage=stage, shard=ShardConfig(**shard)))


def test_fetch_prepares_everything_and_loads_no_weights(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "stage=fetch")
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    record = json.loads((folder / "fetched.json").read_text())
    assert record["folder"] == str(files.model)
    assert record["evaluated"] == 30
    assert 20 <= record["discovery"] <= 40
    assert (tmp_path / "cache" / "digests.json").exists()


def test_fetch_without_the_hub_is_one_sentence(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result]
) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "stage=fetch", "model.id=no/where")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: Cannot download no/where (")
    assert "unset HF_HUB_OFFLINE" in result.err
