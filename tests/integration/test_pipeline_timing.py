"""What the attention pass took is kept with the maps, and out of every result."""

from collections.abc import Callable
from pathlib import Path

import pytest
from running import Finished, TinyFiles

from locheads.config import Config
from locheads.store.atomic import read_json


def test_a_run_that_reads_the_store_knows_what_filling_it_took(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, run: Callable[[Config], Path], no_model: None
) -> None:
    (first,) = read_json(finished.folder / "timing.json")["passes"]
    again = run(files.config(tmp_path / "out", store))
    assert read_json(again / "timing.json")["passes"] == [first]
    assert first["expressions"] == 8 * 5 + 30  # all of train: its eight images are judged
    assert (first["of"], first["maps"], first["memory_of"]) == ("attention", "all", "process")
    assert first["seconds"] > 0 and first["peak_bytes"] > 100 << 20
    for name in ("heads.json", "metrics.json", "predictions.parquet"):
        assert b"seconds" not in (again / name).read_bytes()


def test_passes_of_one_kind_are_added_up_and_others_kept_apart(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    cache = tmp_path / "cache"
    for limit in (5, 12):
        config = files.config(tmp_path / "out", cache)
        config.dataset.limit = limit
        folder = run(config)
    (kind,) = read_json(folder / "timing.json")["passes"]
    passes = [read_json(path) for path in cache.rglob("*.pass.json")]
    assert len(passes) == 2
    assert kind["expressions"] == sum(one["expressions"] for one in passes)
    assert kind["seconds"] == pytest.approx(sum(one["seconds"] for one in passes))
    assert kind["peak_bytes"] == max(one["peak_bytes"] for one in passes)
