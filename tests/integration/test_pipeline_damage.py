"""What breaks while a run goes on: a bad sample is recorded and counted, a bad disk ends the run in one sentence."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from running import Finished, Result, TinyFiles, small_disk_at

from locheads.config import Config
from locheads.discovery.config import CriterionConfig, SelectionConfig, SelectionKind
from locheads.errors import DiscoveryError, StoreError
from locheads.models import load
from locheads.pipeline import attention_pass as attention


@pytest.fixture
def damaged(files: TinyFiles, tmp_path: Path) -> TinyFiles:
    """A truncated image and a blank expression in each split: 5 + 1 of the 30 of val, 5 + 1 of the 40 of train."""
    copy = files.copy(tmp_path / "damaged")
    for image_id in (101, 201):
        image = copy.images / f"COCO_train2014_{image_id:012d}.jpg"
        image.write_bytes(image.read_bytes()[:-400])
    refs = tiny.read_refs(copy.folder)
    for ref in refs:
        if ref["ref_id"] in (1000, 2000):
            ref["sentences"][0] |= {"sent": " ", "raw": "", "tokens": []}
    tiny.write_refs(copy.folder, refs)
    return copy


@pytest.fixture
def everything() -> dict[str, Any]:
    """All 40 expressions of train."""
    from locheads.discovery.config import DiscoveryConfig

    return {"discovery": DiscoveryConfig(n_samples=40, trials=1)}


def test_bad_samples_of_the_split_are_rows_with_a_reason_and_score_zero(
    damaged: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    folder = run(damaged.config(tmp_path / "out"))
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert len(rows) == 30
    failed = rows[rows["error"].notna()].set_index("sample_id")
    assert len(failed) == 6
    corrupt = failed[failed["image_id"] == "201"]
    assert len(corrupt) == 5
    assert corrupt["error"].str.contains("COCO_train2014_000000000201.jpg").all()
    assert corrupt["error"].str.contains("truncated").all()
    assert "The expression is empty" in failed.loc["20000", "error"]
    scores = pd.read_parquet(folder / "scores.parquet")
    bad = scores[scores["sample_id"].isin(failed.index)]
    # A failed sample is a miss of every method, the centre box included.
    assert len(bad) == 6 * (5 + 2)
    assert (bad["box_iou"] == 0).all()
    assert (bad["intersection"] == 0).all()
    assert (bad["union"] > 0).all()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n_expressions"] == 30
    assert metrics["n_failed"] == 6
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_bad_samples_of_discovery_are_counted(
    damaged: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], everything: dict[str, Any]
) -> None:
    record = json.loads((run(damaged.config(tmp_path / "out", **everything)) / "heads.json").read_text())
    assert record["n_failed"] == 6
    assert record["n_samples"] == 40


def test_the_command_goes_on_after_a_corrupt_image(
    damaged: TinyFiles, tmp_path: Path, command: Callable[..., Result]
) -> None:
    result = command(*damaged.arguments(tmp_path / "out", tmp_path / "cache"))
    assert result.code == 0, result.err
    assert "6 failed" in result.out
    assert "Traceback" not in result.out + result.err
    assert "cannot be read" in (next((tmp_path / "out" / "default").iterdir()) / "run.log").read_text()


def test_what_failed_before_does_not_load_the_model_again(
    damaged: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = damaged.config(tmp_path / "out")
    first = run(config)
    monkeypatch.setattr(load, "load_lvlm", lambda *_: pytest.fail("the model was loaded"))
    second = run(config)
    for name in ("predictions.parquet", "metrics.json", "heads.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_mended_image_is_attended_by_the_next_run(
    damaged: TinyFiles, files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    config = damaged.config(tmp_path / "out")
    run(config)
    name = "COCO_train2014_000000000201.jpg"
    (damaged.images / name).write_bytes((files.images / name).read_bytes())
    assert json.loads((run(config) / "metrics.json").read_text())["n_failed"] == 1


@pytest.mark.parametrize("kind", list(SelectionKind))
def test_a_split_without_any_readable_image_still_gets_its_zeros(
    kind: SelectionKind, files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    copy = files.copy(tmp_path / "copy")
    for image_id in tiny.SPLITS["val"]:
        (copy.images / f"COCO_train2014_{image_id:012d}.jpg").unlink()
    folder = run(copy.config(tmp_path / "out", selection=SelectionConfig(kind)))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n_failed"] == 30
    assert metrics["methods"]["localization_heads"]["rec_acc@0.5"]["value"] == 0


def test_a_discovery_split_without_any_readable_image_is_one_sentence(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    copy = files.copy(tmp_path / "copy")
    for image in copy.images.iterdir():
        image.unlink()
    with pytest.raises(DiscoveryError, match=r"Every one of the \d+ discovery samples failed, the first because"):
        run(copy.config(tmp_path / "out"))


def test_no_eligible_head_is_one_sentence(files: TinyFiles, store: Path, run: Callable[[Config], Path]) -> None:
    with pytest.raises(DiscoveryError, match=r"criterion\.tau=5\.0 is above every mean attention sum"):
        run(files.config(store.parent, store, criterion=CriterionConfig(tau=5.0)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 200 KiB; skips where mounting one is not allowed."""
    with small_disk_at(tmp_path / "disk", "200k") as folder:
        yield folder


def test_a_disk_that_fills_up_is_one_sentence(
    files: TinyFiles, finished: Finished, small_disk: Path, command: Callable[..., Result]
) -> None:
    (small_disk / "other things").write_bytes(b"x" * (100 << 10))
    result = command(*files.arguments(small_disk / "out", finished.cache))
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "No space left on device" in result.err
    assert str(small_disk / "out") in result.err
    assert "Traceback" not in result.out + result.err
    assert not [path.name for path in (small_disk / "out").rglob(".*")]


def test_a_full_disk_is_one_sentence(
    files: TinyFiles, finished: Finished, small_disk: Path, command: Callable[..., Result]
) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "other things").write_bytes(b"x" * (1 << 20))
    result = command(*files.arguments(small_disk / "out", finished.cache))
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "No space left on device" in result.err
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize("name", ["config.yaml", "heads.json", "predictions.parquet", "metrics.json", "gallery.npz"])
def test_a_disk_that_is_full_at_any_file_is_one_sentence(
    name: str, files: TinyFiles, store: Path, tmp_path: Path, command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = os.fsync

    def full(descriptor: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = command(*files.arguments(tmp_path / "out", store))
    assert result.code == 1
    assert result.err.startswith("error: Cannot write ")
    assert f"/{name}: No space left on device" in result.err
    assert result.err.count("\n") == 1
    (folder,) = (tmp_path / "out" / "default").iterdir()
    assert not (folder / name).exists()
    assert not [path.name for path in folder.glob(".*")]


def test_a_full_disk_under_the_store_keeps_the_shards_before(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = files.config(tmp_path / "out")
    config.engine.shard_images = 4
    real, calls = attention.AttentionStore.append, []

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_at_the_second(self: Any, attentions: Any) -> None:
        calls.append(len(attentions))
        if len(calls) == 2:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                real(self, attentions)
        real(self, attentions)

    with monkeypatch.context() as patch:
        patch.setattr(attention.AttentionStore, "append", full_at_the_second)
        with pytest.raises(StoreError, match="No space left on device"):
            run(config)
    assert calls[0] == 4 and list((tmp_path / "out" / "cache").rglob("*.safetensors"))
    folder = run(config)
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 30


def test_an_interrupted_run_says_how_to_go_on(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attention, "attend_groups", interrupt)
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"))
    assert result.code == 130
    # The bar of the weights' file comes first, from transformers.
    assert result.err.splitlines()[-1].startswith("Interrupted. What was finished is stored")
    assert "Traceback" not in result.out + result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["error"] == "KeyboardInterrupt"
