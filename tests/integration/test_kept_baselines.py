"""Baselines are grounded once for all runs in which they are the same, and never read where they might differ."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import TinyFiles

from locheads.config import Config
from locheads.discovery.config import SelectionConfig, SelectionKind
from locheads.evaluation.methods import HeadPlan
from locheads.grounding.config import GroundingConfig, Sinks
from locheads.pipeline import ground_stage as module
from locheads.pipeline import head_plan
from locheads.segmenters.config import SegmenterConfig, SegmenterKind
from locheads.types import ImageGroup

Run = Callable[[Config], Path]
SAME = ("heads.json", "metrics.json", "predictions.parquet", "baselines.parquet", "scores.parquet")
GREEDY = {"selection": SelectionConfig(SelectionKind.greedy)}

pytestmark = pytest.mark.usefixtures("no_model")


@pytest.fixture
def grounded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every image that was grounded, whether the baselines were, too."""
    seen: list[bool] = []
    real = module.predict

    def watching(group: ImageGroup, attentions: Any, plan: HeadPlan, *rest: Any) -> Any:
        seen.append(plan.baselines)
        return real(group, attentions, plan, *rest)

    monkeypatch.setattr(module, "predict", watching)
    return seen


@pytest.fixture
def config(files: TinyFiles, store: Path, tmp_path: Path) -> Config:
    forget(store)
    return files.config(tmp_path, store)


def forget(store: Path) -> None:
    for path in store.rglob("baselines-*.kept"):
        path.unlink()


@pytest.mark.parametrize("sinks", [Sinks.keep, Sinks.mean_map])
def test_another_selection_finds_them_and_gives_the_same_bytes(
    config: Config, store: Path, run: Run, grounded: list[bool], sinks: Sinks
) -> None:
    config = replace(config, grounding=GroundingConfig(sinks=sinks))
    run(config)
    assert set(grounded) == {True}
    grounded.clear()
    found = run(replace(config, **GREEDY))
    assert set(grounded) == {False}
    forget(store)
    fresh = run(replace(config, **GREEDY))
    assert True in grounded
    for name in SAME:
        assert (found / name).read_bytes() == (fresh / name).read_bytes(), name


@pytest.mark.parametrize(
    "changes",
    [
        {"grounding": GroundingConfig(sigma=0.5)},
        {"grounding": GroundingConfig(sinks=Sinks.mean_map)},
        {"seed": 1},
        {"segmenter": SegmenterConfig("grabcut", SegmenterKind.grabcut)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_changes_them_grounds_them_again(
    config: Config, store: Path, run: Run, grounded: list[bool], changes: dict[str, Any]
) -> None:
    run(config)
    grounded.clear()
    run(replace(config, **changes))
    assert set(grounded) == {True}


@pytest.mark.parametrize(("group", "setting"), [("dataset", "limit"), ("heads", "k"), ("evaluation", "random_draws")])
def test_other_samples_or_heads_ground_them_again(
    config: Config, run: Run, grounded: list[bool], group: str, setting: str
) -> None:
    run(config)
    grounded.clear()
    run(replace(config, **{group: replace(getattr(config, group), **{setting: 1})}))
    assert set(grounded) == {True}


def test_other_code_grounds_them_again(
    config: Config, run: Run, grounded: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config)
    monkeypatch.setattr(module, "source_digest", lambda: "edited")
    grounded.clear()
    run(config)
    assert set(grounded) == {True}


def test_damaged_ones_are_grounded_again(
    config: Config, store: Path, run: Run, grounded: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(config)
    (file,) = store.rglob("baselines-*.kept")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    grounded.clear()
    again = run(config)
    assert f"{file} is damaged" in caplog.text and set(grounded) == {True}
    for name in SAME:
        assert (whole / name).read_bytes() == (again / name).read_bytes(), name


def test_a_sweep_over_k_looks_at_single_heads_once(
    config: Config, store: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best set of each k is that of a run by itself; with another smoothing single heads are looked at again."""

    def forget_search() -> None:
        for name in ("single_hits", "best_rec"):
            for path in store.rglob(f"{name}-*.kept"):
                path.unlink()

    looked: list[int] = []
    real = head_plan.single_hits
    monkeypatch.setattr(head_plan, "single_hits", lambda *rest: looked.append(1) or real(*rest))
    by_k = [replace(config, heads=replace(config.heads, k=k)) for k in (1, 2, 3, 2)]
    forget_search()
    swept = [run(one) for one in by_k]
    assert len(looked) == 1
    for one, folder in zip(by_k, swept, strict=True):
        forget_search()
        forget(store)
        assert (run(one) / "baselines.parquet").read_bytes() == (folder / "baselines.parquet").read_bytes()
    looked.clear()
    run(replace(config, grounding=GroundingConfig(sigma=0.5)))
    assert len(looked) == 1
