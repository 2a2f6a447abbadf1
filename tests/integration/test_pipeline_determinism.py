"""The same seed gives the same bytes, whatever lies in between."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from running import TinyFiles

from locheads.config import Config, Stage
from locheads.models.engine import EngineConfig

SAME = ("heads.json", "metrics.json", "predictions.parquet", "baselines.parquet", "scores.parquet")


def test_two_runs_that_share_nothing_give_the_same_bytes(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    first = run(files.config(tmp_path / "a"))
    second = run(files.config(tmp_path / "b"))
    for name in SAME:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_shards_of_another_size_give_the_same_bytes(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    first = run(files.config(tmp_path / "a"))
    engine = EngineConfig(device="cpu", threads=1, shard_images=1)
    second = run(files.config(tmp_path / "b", engine=engine))
    for name in SAME:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_draws_other_samples(files: TinyFiles, store: Path, run: Callable[[Config], Path]) -> None:
    first, second = (run(files.config(store.parent, store, seed=seed)) for seed in (0, 1))
    one, other = (json.loads((folder / "heads.json").read_text()) for folder in (first, second))
    assert one["mean_attention_sum"] != other["mean_attention_sum"]
    assert one["digest"] != other["digest"]


def test_a_store_that_another_seed_filled_gives_the_same_heads(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    # The store then holds some expressions of an image in one pass and some in another.
    fresh = json.loads((run(files.config(tmp_path / "a")) / "heads.json").read_text())
    run(files.config(tmp_path / "b", seed=1))
    shared = json.loads((run(files.config(tmp_path / "b")) / "heads.json").read_text())
    assert [(h["layer"], h["head"]) for h in shared["heads"]] == [(h["layer"], h["head"]) for h in fresh["heads"]]
    assert np.allclose(shared["mean_attention_sum"], fresh["mean_attention_sum"], rtol=1e-5)


def test_where_things_lie_does_not_change_what_a_run_is(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    moved = files.copy(tmp_path / "elsewhere")
    one, other = (
        json.loads((run(each.config(tmp_path / name)) / "heads.json").read_text())
        for each, name in ((files, "a"), (moved, "b"))
    )
    assert one["digest"] == other["digest"]
    assert one["made_from"] == other["made_from"]


def test_how_far_a_run_goes_and_how_it_is_watched_does_not_change_what_it_is(
    files: TinyFiles, store: Path, run: Callable[[Config], Path]
) -> None:
    one, other = (
        json.loads((run(files.config(store.parent, store, stage=stage, study=study)) / "heads.json").read_text())
        for stage, study in ((Stage.discover, "a"), (Stage.evaluate, "b"))
    )
    assert one == other
