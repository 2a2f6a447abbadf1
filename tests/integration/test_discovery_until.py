"""discovery.until=stable: the model is asked in rounds, no more than it takes, and the records hold what was asked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from running import Result, TinyFiles

from locheads.config import Config, Stage
from locheads.discovery.config import DiscoveryConfig, Until
from locheads.pipeline import ask_until_stable
from locheads.pipeline.ask_until_stable import first_samples
from locheads.pipeline.inputs import load_inputs
from locheads.records.heads_file import HeadsFile
from locheads.report.tables import heads_caption

Run = Callable[[Config], Path]
HOW = DiscoveryConfig(until=Until.stable, n_samples=20, trials=2)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny split is smaller than a first look."""
    monkeypatch.setattr("locheads.discovery.support.FIRST_SIZE", 5)


def final_from(monkeypatch: pytest.MonkeyPatch, per_trial: int) -> list[int]:
    """Looks find the heads final with so many samples per trial -> the sizes of the looks, as they happen."""
    looked: list[int] = []

    def share(setup: object) -> float:
        looked.append(len(setup.inputs.trials[0]))  # type: ignore[attr-defined]
        return float(looked[-1] >= per_trial)

    monkeypatch.setattr(ask_until_stable, "_share", share)
    return looked


def stored(folder: Path) -> set[str]:
    trials = json.loads((folder / "samples.json").read_text())["trials"]
    return {key for trial in trials for key in trial["samples"]}


@pytest.mark.parametrize("maps", ["all", "top 3"])
def test_only_the_samples_that_it_takes_are_asked(
    maps: str, files: TinyFiles, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = files.config(tmp_path, discovery=HOW, stage=Stage.discover)
    config = replace(config, engine=replace(config.engine, maps=maps), dependence=replace(config.dependence, images=0))
    looked = final_from(monkeypatch, 10)
    folder = run(config)
    assert looked == [5, 10]
    heads = HeadsFile.read(folder)
    assert (heads.n_samples, heads.trials) == (10, 2)
    whole = load_inputs(config)
    asked, held = stored(folder), {key for trial in whole.trials for key in trial}
    assert asked < held and len(asked) == heads.n_expressions
    # The same heads as those that discovery.sizes tells of so many samples.
    monkeypatch.undo()
    counted = replace(config, discovery=replace(HOW, until=Until.count, sizes=[10]))
    sizes = json.loads((run(counted) / "stability.json").read_text())["sizes"]
    assert sizes[0]["tops"] == [list(top) for top in heads.top_per_trial]


def test_where_all_do_not_suffice_all_are_used_and_it_is_said(
    files: TinyFiles, tmp_path: Path, store: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, no_model: None,
) -> None:  # fmt: skip
    looks: list[tuple[int, float]] = []
    real = ask_until_stable._share
    monkeypatch.setattr(ask_until_stable, "_share", lambda s: looks.append((len(s.inputs.trials[0]), real(s))) or 0.0)
    never = files.config(tmp_path, store, discovery=HOW, stage=Stage.discover)
    as_ever = replace(never, discovery=replace(HOW, until=Until.count))
    stopped, counted = HeadsFile.read(run(never)), HeadsFile.read(run(as_ever))
    assert [n for n, _ in looks] == [5, 10, 20]
    assert looks[-1][1] == counted.support.share > 0
    assert "not final with all 20 samples per trial" in caplog.text
    assert stopped.found == counted.found and stopped.support == counted.support
    (text,) = [part for part in heads_caption(counted).split(". ") if "resamples" in part]
    assert f"{100 * counted.support.share:.1f} % of 500 resamples" in text


def test_smaller_looks_are_parts_of_larger_ones(files: TinyFiles, tmp_path: Path) -> None:
    inputs = load_inputs(files.config(tmp_path, discovery=HOW))
    five, ten = (first_samples(inputs, n, HOW, 0) for n in (5, 10))
    for small, large, whole in zip(five.trials, ten.trials, inputs.trials, strict=True):
        assert set(small) < set(large) < set(whole)
        assert list(small) == [key for key in whole if key in small]
    assert first_samples(inputs, 99, HOW, 0) == inputs


def test_workers_cannot_share_it(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "stage=attend", "shard.count=2",
                     "discovery.until=stable")  # fmt: skip
    assert result.code == 1
    assert "discovery.until=stable asks the model in rounds" in result.err and result.err.count("\n") == 1
