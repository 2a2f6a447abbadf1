"""`engine.maps`: a store without all maps gives the same results, and computes what is missing later."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import Finished, TinyFiles
from tiny import headset, write_headset

from locheads.config import Config, Stage
from locheads.discovery.config import CriterionConfig, HeadsConfig, SelectionConfig, SelectionKind
from locheads.errors import ConfigError, StoreError
from locheads.evaluation.config import EvaluationConfig
from locheads.map_numbers import Floor
from locheads.models import load
from locheads.models.engine import EngineConfig
from locheads.pipeline import attention_pass as attention
from locheads.types import HeadIndex

EXACT = ("heads.json", "predictions.parquet")
SEARCHED = "best_rec_heads"
"""What needs the maps of all heads: a store with few leaves it out."""
ENGINE = EngineConfig(device="cpu", threads=1)
TOP = replace(ENGINE, maps="top 4")
Run = Callable[[Config], Path]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[HeadIndex] | None]]:
    """(images, heads) of every call of the model."""
    seen: list[tuple[int, list[HeadIndex] | None]] = []
    real = attention.attend_groups

    def counting(lvlm: Any, batch: Any, budget: Any, heads: Any = None) -> Any:
        seen.append((len(batch), heads))
        return real(lvlm, batch, budget, heads)

    monkeypatch.setattr(attention, "attend_groups", counting)
    return seen


def assert_same_results(one: Path, other: Path) -> None:
    for name in EXACT:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("baselines.parquet", "scores.parquet"):
        rows = [pd.read_parquet(run / name) for run in (one, other)]
        pd.testing.assert_frame_equal(
            *(frame[frame["method"] != SEARCHED].reset_index(drop=True) for frame in rows), check_exact=True, obj=name
        )
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    for record in metrics:
        record["methods"].pop(SEARCHED, None)
        record[SEARCHED] = []
    assert metrics[0] == metrics[1]
    assert metrics[0]["n_failed"] == 0


def size(cache: Path) -> int:
    return sum(file.stat().st_size for file in (cache / "attention").rglob("*.safetensors"))


def test_a_users_own_criterion_gives_the_same_with_all_maps_and_with_few(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "unit" / "discovery")
    own: dict[str, Any] = {"criterion": CriterionConfig(score="own_criterion:narrow", candidates=2)}
    whole = run(files.config(tmp_path, store, **own))
    assert_same_results(whole, run(files.config(tmp_path / "compact", engine=TOP, **own)))
    frequencies = [
        json.loads((one / "heads.json").read_text())
        for one in (whole, run(files.config(tmp_path, store, criterion=CriterionConfig(candidates=2))))
    ]
    assert frequencies[0]["frequency_mean"] != frequencies[1]["frequency_mean"]


@pytest.mark.parametrize("kind", list(SelectionKind))
def test_results_are_the_same_to_the_byte_with_all_maps_and_with_few(
    kind: SelectionKind, files: TinyFiles, store: Path, tmp_path: Path, run: Run, passes: list
) -> None:
    own: dict[str, Any] = {"selection": SelectionConfig(kind)}
    whole = run(files.config(tmp_path, store, **own))
    assert passes == []
    compact = run(files.config(tmp_path / "compact", engine=TOP, **own))
    assert_same_results(whole, compact)
    # Every image once, whatever greedy selection picks; the eight that are judged once more, for the heads found.
    assert sum(images for images, _ in passes) == 14 + 8
    passes.clear()
    assert_same_results(whole, run(files.config(tmp_path / "compact", engine=TOP, **own)))
    assert passes == []
    assert size(tmp_path / "compact" / "cache") < 0.6 * size(store)


def test_heads_that_a_later_run_needs_are_computed_alone_and_no_deeper(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, passes: list
) -> None:
    few = EvaluationConfig(random_draws=1, resamples=50, gallery=3)
    run(files.config(tmp_path, engine=replace(ENGINE, maps="top 1"), heads=HeadsConfig(1), evaluation=few))
    passes.clear()
    compact = run(files.config(tmp_path, engine=replace(ENGINE, maps="top 1"), heads=HeadsConfig(4), evaluation=few))
    assert passes, "k=4 needs heads that k=1 did not store"
    assert all(heads for _, heads in passes)
    assert sum(images for images, _ in passes) == 6 + 8  # the evaluated and the judged ones
    whole = run(files.config(tmp_path / "whole", store, heads=HeadsConfig(4), evaluation=few))
    assert_same_results(whole, compact)


def test_a_head_set_stores_only_its_heads_and_loads_only_their_layers(
    files: TinyFiles, finished: Finished, tmp_path: Path, run: Run, passes: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    real, layers = load.load_lvlm, []

    def counting(*arguments: Any) -> Any:
        lvlm = real(*arguments)
        layers.append(len(lvlm.model.base_model.language_model.layers))
        return lvlm

    monkeypatch.setattr(load, "load_lvlm", counting)
    engine = replace(ENGINE, maps=str(tmp_path / "set"))
    for named in ([HeadIndex(0, 2)], [HeadIndex(1, 3), HeadIndex(2, 1)]):
        write_headset(tmp_path / "set" / "heads.json", named)
        run(files.config(tmp_path, engine=engine, stage=Stage.attend))
    # The first run loaded all layers, once, because discovery needs them.
    assert layers == [5, 3]
    first, second = [[HeadIndex(0, 2)]], [[HeadIndex(1, 3), HeadIndex(2, 1)]]
    assert [heads for _, heads in passes] == [None] * 8 + first * 14 + second * 14  # judged and evaluated ones
    # The whole run goes on from there, and computes what its baselines need.
    assert_same_results(run(files.config(tmp_path, engine=engine)), run(files.config(tmp_path / "w", finished.cache)))


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (headset([HeadIndex(5, 0)], (6, 4)), ConfigError, "6 layers of 4 heads, but this model has 5 layers of 4"),
        (headset([HeadIndex(5, 0)], (5, 4)), StoreError, "head L5H0 does not exist in 5 layers of 4 heads"),
        ("{}", StoreError, "has the schema version None"),
        (None, StoreError, "There is no head set"),
    ],
)
def test_a_wrong_head_set_is_one_sentence_before_anything_loads(
    content: str | None, error: type, sentence: str, files: TinyFiles, tmp_path: Path, run: Run, no_model: None
) -> None:
    if content is not None:
        (tmp_path / "heads.json").write_text(content)
    with pytest.raises(error, match=sentence):
        run(files.config(tmp_path, engine=replace(ENGINE, maps=str(tmp_path / "heads.json"))))


@pytest.mark.parametrize("maps", ["top", "top 0", "top ten", "Top 3"])
def test_maps_that_are_not_understood(maps: str, files: TinyFiles, tmp_path: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match=r"engine\.maps=.* is not understood"):
        run(files.config(tmp_path, engine=replace(ENGINE, maps=maps)))


def test_another_floor_of_the_entropy_is_computed_again_and_the_first_is_still_there(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, passes: list
) -> None:
    other = CriterionConfig(floor=Floor.relu_mean_eps)
    first = run(files.config(tmp_path, engine=TOP))
    passes.clear()
    compact = run(files.config(tmp_path, engine=TOP, criterion=other))
    assert passes
    assert_same_results(run(files.config(tmp_path / "w", store, criterion=other)), compact)
    passes.clear()
    assert_same_results(first, run(files.config(tmp_path, engine=TOP)))
    assert passes == []


@pytest.mark.parametrize("maps", ["all", "top 4"])
def test_an_image_that_changed_under_its_name_is_asked_again(
    maps: str, files: TinyFiles, tmp_path: Path, run: Run, passes: list
) -> None:
    copy = files.copy(tmp_path / "copy")
    config = copy.config(tmp_path, engine=replace(ENGINE, maps=maps))
    before = pd.read_parquet(run(config) / "baselines.parquet")
    passes.clear()
    path = copy.images / "COCO_train2014_000000000201.jpg"
    with Image.open(path) as image:
        Image.fromarray(255 - np.asarray(image)).save(path)
    after = pd.read_parquet(run(config) / "baselines.parquet")
    assert sum(images for images, _ in passes) == 1
    changed = (before["mask_counts"] != after["mask_counts"]) & (before["method"] != "centre_box")
    assert set(before["image_id"][changed]) == {"201"}


def test_batches_over_images_and_no_workers_change_nothing_but_rounding(
    files: TinyFiles, finished: Finished, tmp_path: Path, run: Run, passes: list
) -> None:
    engine = replace(ENGINE, token_budget=1600, workers=0)
    folder = run(files.config(tmp_path, engine=engine))
    assert max(images for images, _ in passes) > 1
    found = pd.read_parquet(folder / "predictions.parquet")
    expected = pd.read_parquet(finished.folder / "predictions.parquet")
    np.testing.assert_allclose(found["x0"], expected["x0"], atol=1e-3)
    assert found["heads"].equals(expected["heads"])


def test_memory_that_never_suffices_is_a_recorded_reason(
    files: TinyFiles, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from locheads.models import attend, batching

    real = attend.run_batch

    def small(lvlm: Any, batch: Any) -> None:
        if batch.input_ids.shape[1] > 75:
            raise RuntimeError("CUDA out of memory")
        real(lvlm, batch)

    monkeypatch.setattr(attend, "run_batch", small)
    monkeypatch.setattr(batching, "free_memory", lambda: None)  # of a real device; here it takes minutes
    folder = run(files.config(tmp_path))
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert 0 < rows["error"].notna().sum() < len(rows)
    assert rows["error"].dropna().unique().tolist() == [attend.NO_MEMORY]


@pytest.mark.parametrize("maps", ["all", "top 4"])
def test_a_map_that_is_not_finite_fails_its_sample_and_no_other(
    files: TinyFiles, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, maps: str
) -> None:
    real = attention.attend_groups

    def overflows(lvlm: Any, batch: Any, budget: Any, heads: Any = None) -> Any:
        found = real(lvlm, batch, budget, heads)
        for (group, _), of_image in zip(batch, found, strict=True):
            if group.image_id in ("100", "200"):  # one of discovery, one of the evaluated split
                layers = [layer.clone() for layer in of_image[0].layers]
                layers[0].view(-1)[0] = np.nan
                of_image[0] = replace(of_image[0], layers=layers)
        return found

    monkeypatch.setattr(attention, "attend_groups", overflows)
    folder = run(files.config(tmp_path, engine=replace(ENGINE, maps=maps)))
    assert json.loads((folder / "heads.json").read_text())["n_failed"] == 1
    rows = pd.read_parquet(folder / "predictions.parquet")
    failed = rows["error"].notna()
    assert failed.sum() == 1 and rows.loc[failed, "image_id"].tolist() == ["200"]
    assert rows.loc[failed, "error"].tolist() == [attention.NOT_FINITE]
