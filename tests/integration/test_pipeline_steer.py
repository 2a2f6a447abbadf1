"""stage=steer: the pocket model's answers follow its dependent heads and no others; and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from running import Result, TinyFiles

from locheads.config import Config, PathsConfig, Stage
from locheads.dependence.config import DependenceConfig, SteerConfig
from locheads.discovery.config import HeadsConfig
from locheads.evaluation.steer_effect import Kind, Mode
from locheads.models import load
from locheads.models.engine import EngineConfig
from locheads.pipeline import steer_stage
from locheads.records.heads_file import HeadsFile
from locheads.records.steer_file import SteerFile
from locheads.types import HeadIndex

DEPENDENT = ("L2H4", "L2H3", "L2H2")
"""The localization heads of the pocket model, which are those of the largest dependence on the words."""


def test_the_answer_goes_where_dependent_heads_look_and_not_where_others_do(
    tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    heads = tmp_path / "heads.json"
    heads.write_text(tiny.headset([HeadIndex(*map(int, name[1:].split("H"))) for name in DEPENDENT], (8, 8)))
    config = Config(
        heads=HeadsConfig(set=str(heads)),
        dependence=DependenceConfig(images=8),
        steer=SteerConfig(k=[3]),
        engine=EngineConfig(device="cpu", threads=1),
        paths=PathsConfig(outputs=str(tmp_path), cache=str(tmp_path / "cache")),
        stage=Stage.steer,
    )
    found = SteerFile.read(run(config))
    effects = {(effect.mode, effect.kind): effect for effect in found.effects}
    chosen, least = effects[Mode.move, Kind.chosen], effects[Mode.move, Kind.least]
    assert chosen.heads == list(DEPENDENT) and not set(least.heads) & set(chosen.heads)
    assert chosen.dependence is not None and least.dependence is not None
    assert chosen.dependence > 0.8 > 0.5 > least.dependence
    assert chosen.change.low is not None and chosen.change.low > 1
    assert abs(least.change.value) < 0.3
    assert least.lead is not None and least.lead.low is not None and least.lead.low > 1
    assert chosen.becomes > 0.1 > least.becomes
    assert found.sentences[0].startswith("Made to look at another object, the 3 chosen heads move the answer towards")
    assert 5 <= found.n_images <= 8 and found.n_expressions > 30


def test_heads_are_found_first_where_none_are_given(
    files: TinyFiles, store: Path, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    more: dict[str, Any] = {"steer": SteerConfig(k=[2, 500], images=3), "dependence": DependenceConfig(images=4)}
    folder = run(files.config(tmp_path / "out", store, stage=Stage.steer, **more))
    found, heads = SteerFile.read(folder), HeadsFile.read(folder)
    assert found.split == "train" and found.n_images <= 3
    sizes = sorted({effect.k for effect in found.effects})
    assert sizes[0] == 2 and sizes[1] == len(found.heads) <= tiny.LAYERS * tiny.HEADS
    assert found.heads[: len(heads.heads)] == tuple(str(HeadIndex(head.layer, head.head)) for head in heads.heads)
    assert not (folder / "metrics.json").exists()
    again = run(files.config(tmp_path / "out", store, stage=Stage.steer, **more))
    assert (again / "steer.json").read_bytes() == (folder / "steer.json").read_bytes()
    more["engine"] = EngineConfig(device="cpu", threads=1, maps="top 3")
    few = SteerFile.read(run(files.config(tmp_path / "out", tmp_path / "few", stage=Stage.steer, **more)))
    assert few.effects == found.effects


def test_biases_of_zero_have_no_effect(
    files: TinyFiles, store: Path, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    more: dict[str, Any] = {"steer": SteerConfig(k=[3], images=3, own=0, other=0)}
    found = SteerFile.read(run(files.config(tmp_path / "out", store, stage=Stage.steer, **more)))
    sizes = {mode: max(abs(e.change.value) for e in found.effects if e.mode == mode) for mode in Mode}
    assert sizes[Mode.move] < 1e-5 < 1e-3 < sizes[Mode.hide]


def test_a_model_that_says_the_same_of_everything_cannot_be_judged(
    files: TinyFiles, store: Path, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = steer_stage.answer_beginnings
    monkeypatch.setattr(steer_stage, "answer_beginnings", lambda *given: ask(*given)[:1].repeat(len(given[2]), 1))
    result = command(*files.arguments(tmp_path / "out", store), "stage=steer", "dependence.images=3")
    assert result.code == 1 and "choose a prompt that it answers by what the object is" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("selection=greedy", "stage=steer steers the same heads for every expression"),
        ("dependence.images=0", "dependence.images=0 leaves out what stage=judge, stage=steer"),
        ("steer.k=[]", "steer.k is empty: write how many heads"),
        ("steer.k=[0]", "steer.k[0] must be at least 1, not 0."),
        ("steer.own=2000", "steer.own must lie between -1000 and 1000, not 2000.0."),
        ("shard.count=2", "shard.count=2 cuts up the attention pass only"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_loads(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None, override: str, sentence: str
) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "stage=steer", override)
    assert result.code == 1 and sentence in result.err, result.err


def test_a_model_without_words_is_refused(
    files: TinyFiles, store: Path, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load.load_lvlm
    monkeypatch.setattr(load, "load_lvlm", lambda *how: replace(whole(*how), has_head=False))
    result = command(*files.arguments(tmp_path / "out", store), "stage=steer", "dependence.images=3")
    assert result.code == 1 and "has no lm_head.weight, so its model cannot write an answer" in result.err
