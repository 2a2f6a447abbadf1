"""Several processes work on stored maps: the same answers in the same order, and nothing lost where one ends."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from running import TinyFiles

from locheads.config import Config
from locheads.errors import StoreError
from locheads.pipeline import processes as module
from locheads.pipeline.processes import processes
from locheads.store.attention_store import AttentionStore
from locheads.types import ImageGroup

Run = Callable[[Config], Path]
GRID = 6, 6
"""Of the tests' model."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)


def grounding_in(config: Config, number: int | None, **changes: object) -> Config:
    return replace(config, engine=replace(config.engine, processes=number), **changes)


@pytest.mark.usefixtures("small_chunks", "no_model")
def test_two_processes_ground_to_the_same_bytes(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    runs = []
    for number in (1, 2):
        for name in ("baselines", "single_hits", "best_rec", "dependence"):
            for kept in store.rglob(f"{name}-*.kept"):
                kept.unlink()
        runs.append(run(grounding_in(files.config(tmp_path, store), number)))
    one, two = runs
    assert json.loads((one / "heads.json").read_text())["dependence"]
    for name in ("heads.json", "predictions.parquet", "baselines.parquet", "scores.parquet", "metrics.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_damage_that_another_process_finds_is_computed_again(
    files: TinyFiles, tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    config = files.config(tmp_path)
    whole = run(config)
    (shard,) = (tmp_path / "cache").rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    # A byte of every map: what discovery reads are numbers, and what it made of maps is kept.
    for name, array in json.loads(content[8:start]).items():
        if name.endswith(".maps"):
            where = slice(start + array["data_offsets"][0], start + array["data_offsets"][1], 2 * math.prod(GRID))
            content[where] = bytes(byte ^ 1 for byte in content[where])
    shard.write_bytes(content)
    again = run(grounding_in(config, 2))
    assert caplog.text.count("is damaged (the checksum of a map of image") == 1
    assert "is damaged" not in capfd.readouterr().err  # by another process, to nobody
    assert list((tmp_path / "cache").rglob("*.damaged"))
    assert (whole / "predictions.parquet").read_bytes() == (again / "predictions.parquet").read_bytes()


def _groups(n: int) -> list[ImageGroup]:
    return [ImageGroup(str(i), Path("none"), 1, 1, ()) for i in range(n)]


def _names(_: AttentionStore, groups: list[ImageGroup]) -> list[str]:
    return [group.image_id for group in groups]


def _dies(_: AttentionStore, groups: list[ImageGroup]) -> int:
    os._exit(9) if groups[0].image_id == "32" else None
    return len(groups)


def _process(_: AttentionStore, groups: list[ImageGroup]) -> int:
    return os.getpid()


@pytest.fixture
def empty(tmp_path: Path) -> AttentionStore:
    return AttentionStore(tmp_path, {"model": "m"})


@pytest.mark.parametrize("number", [1, 3])
def test_results_come_in_the_order_of_the_images(empty: AttentionStore, number: int) -> None:
    groups = _groups(70)
    with processes(empty, number, len(groups)) as each:
        found = [name for names in each(_names, groups) for name in names]
    assert found == [group.image_id for group in groups]


def test_no_process_is_started_for_work_that_is_not_worth_it(
    empty: AttentionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    def others(number: int | None, images: int, worth: int) -> int:
        with processes(empty, number, images, worth) as each:
            return len(set(each(_process, _groups(images))) - {os.getpid()})

    assert others(None, 400, 500) == 0 and others(4, 16, 500) == 0 and others(1, 400, 10) == 0
    assert others(2, 40, 500) > 0  # asked for
    assert others(None, 40, 20) > 0


def test_a_process_that_is_killed_is_one_sentence(empty: AttentionStore) -> None:
    def work() -> None:
        with processes(empty, 2, 70) as each:
            list(each(_dies, _groups(70)))

    with pytest.raises(StoreError, match=r"was killed, most likely for lack of memory: engine\.processes=1"):
        work()
