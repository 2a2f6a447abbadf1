"""Do the heads follow the words? The verdict of whole runs, on the pocket model and on one of random weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import TinyFiles, execute
from tiny import headset
from transformers import LlavaForConditionalGeneration

from locheads.api import Grounder
from locheads.config import Config, PathsConfig, Stage
from locheads.data.config import DatasetConfig
from locheads.dependence.config import DependenceConfig
from locheads.dependence.overlaps import PairTable, joined
from locheads.dependence.pairs import TOGGLED
from locheads.discovery.config import (
    CriterionConfig,
    DiscoveryConfig,
    Draw,
    HeadsConfig,
    Require,
    SelectionConfig,
    SelectionKind,
)
from locheads.discovery.headset import doubts, read_headset
from locheads.errors import ConfigError, DiscoveryError
from locheads.evaluation.config import EvaluationConfig
from locheads.models.config import ModelConfig
from locheads.models.engine import EngineConfig
from locheads.pipeline import attention_pass, word_pairs
from locheads.pipeline.inputs import load_inputs
from locheads.pipeline.prepare import prepare
from locheads.pocket.pocket_model import build_config, export
from locheads.report.html import write_report
from locheads.report.run_record import read_run
from locheads.report.verdict import verdict
from locheads.types import HeadIndex

Run = Callable[[Config], Path]
STARING = [HeadIndex(0, 2), HeadIndex(0, 5), HeadIndex(0, 6)]
"""Heads of the pocket's first layer, which knows nothing of the words yet."""


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Some twenty seconds' worth of the default run."""
    outputs = tmp_path_factory.mktemp("words")
    return Config(
        dataset=DatasetConfig(limit=260),
        discovery=DiscoveryConfig(n_samples=60, trials=1),
        dependence=DependenceConfig(images=30),
        evaluation=EvaluationConfig(random_draws=2, resamples=50, gallery=2),
        engine=EngineConfig(device="cpu", threads=1),
        paths=PathsConfig(outputs=str(outputs), cache=str(outputs / "cache")),
        stage=Stage.evaluate,
    )


@pytest.fixture(scope="module")
def found(pocket: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "run"
    execute(pocket, folder)
    return folder


def read(folder: Path, name: str) -> dict[str, object]:
    return json.loads((folder / name).read_text())


def test_the_pockets_heads_follow_and_every_record_says_so(found: Path) -> None:
    follows = read(found, "heads.json")["follows"]
    assert isinstance(follows, dict)
    assert follows["follows"] == "follow" and follows["n_asked"] == 30 and follows["split"] == "train"
    assert read(found, "metrics.json")["follows"] == follows
    told = verdict(read_run(found))
    assert told.points[0] == follows["sentence"] and "follow" not in told.headline
    write_report(found)
    page = (found / "report.html").read_text()
    assert "These heads follow the words." in page and "Which heads follow the words." in page
    summary = read_run(found).metrics.summary()  # type: ignore[union-attr]
    assert summary["follows"] == "follow" and summary["follows/gap/low"] == follows["low"]


def test_the_dependence_of_every_head_is_kept(pocket: Config, found: Path, tmp_path: Path, no_model: None) -> None:
    """The first layer sees no word; and a second run reads what the first one worked out."""
    grid = read(found, "heads.json")["dependence"]
    dependence = np.array(grid["dependence"], float)  # type: ignore[index]
    assert dependence.shape == (8, 8) and np.abs(dependence[0]).max() < 0.05 and dependence[2, 4] > 0.7
    (kept,) = (Path(pocket.paths.cache) / "attention").rglob("dependence-*.kept")
    before = kept.stat().st_mtime_ns
    execute(pocket, tmp_path / "again")
    assert read(tmp_path / "again", "heads.json")["dependence"] == grid
    assert kept.stat().st_mtime_ns == before
    # The negative control: other smoothing, other numbers, kept beside them.
    execute(replace(pocket, grounding=replace(pocket.grounding, sigma=3.0)), tmp_path / "wide")
    assert read(tmp_path / "wide", "heads.json")["dependence"] != grid
    assert len(list((Path(pocket.paths.cache) / "attention").rglob("dependence-*.kept"))) == 2


def test_heads_that_stare_are_the_headline_and_can_stop_the_run(
    pocket: Config, found: Path, tmp_path: Path, run: Run
) -> None:
    given = tmp_path / "staring.json"
    given.write_text(headset(STARING, (8, 8)))
    config = replace(pocket, heads=HeadsConfig(set=str(given)))
    folder = run(config)
    follows = read(folder, "metrics.json")["follows"]
    assert follows["follows"] == "same place" and follows["split"] == "val"  # type: ignore[index]
    told = verdict(read_run(folder))
    assert told.tone == "bad" and told.headline.startswith("These heads do not follow the words: they look at the same")
    with pytest.raises(DiscoveryError, match=r"heads\.require=follow: These heads do not follow the words"):
        execute(replace(config, heads=replace(config.heads, require=Require.follow)), tmp_path / "required")
    assert not (tmp_path / "required" / "metrics.json").exists()
    # Those that follow go on.
    run(replace(pocket, heads=HeadsConfig(require=Require.follow)))


def test_a_given_set_is_judged_alone(pocket: Config, found: Path, run: Run) -> None:
    heads = HeadsConfig(set=str(found))
    folder = run(replace(pocket, heads=heads, stage=Stage.judge))
    judgement = read(folder, "judgement.json")
    assert judgement["verdict"]["follows"] == "follow"  # type: ignore[index]
    assert not (folder / "metrics.json").exists() and not (folder / "predictions.parquet").exists()
    with pytest.raises(ConfigError, match=r"stage=judge judges heads that are given"):
        run(replace(pocket, stage=Stage.judge))
    with pytest.raises(ConfigError, match=r"dependence\.images=0 leaves out"):
        run(replace(pocket, heads=heads, stage=Stage.judge, dependence=DependenceConfig(images=0)))


def test_few_maps_give_the_same_verdict(pocket: Config, found: Path, tmp_path: Path, run: Run) -> None:
    config = replace(pocket, engine=replace(pocket.engine, maps="top 4"), paths=PathsConfig(outputs=str(tmp_path)))
    folder = run(config)
    for name in ("follows", "dependence"):
        assert read(folder, "heads.json")[name] == read(found, "heads.json")[name]
    given = run(replace(config, heads=HeadsConfig(set=str(found))))
    assert read(given, "metrics.json")["follows"]["follows"] == "follow"  # type: ignore[index]


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that the model is asked about from now on."""
    seen: list[str] = []
    real = attention_pass.attend_groups

    def noting(lvlm: Any, batch: Any, *rest: Any) -> Any:
        seen.extend(group.image_id for group, _ in batch)
        return real(lvlm, batch, *rest)

    monkeypatch.setattr(attention_pass, "attend_groups", noting)
    return seen


@pytest.fixture(scope="module")
def few(pocket: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """`pocket` up to discovery, in a store that keeps few maps, which is filled."""
    cache = tmp_path_factory.mktemp("few") / "cache"
    paths = replace(pocket.paths, cache=str(cache))
    config = replace(pocket, engine=replace(pocket.engine, maps="top 4"), paths=paths, stage=Stage.discover)
    execute(config, cache.parent / "run")
    return config


def tables(config: Config, folder: Path) -> PairTable:
    return joined(word_pairs._tables(prepare(config, folder, {}), None))


def test_the_overlaps_of_few_maps_are_those_of_all(pocket: Config, found: Path, few: Config, tmp_path: Path) -> None:
    of_all, of_few = tables(pocket, tmp_path), tables(few, tmp_path)
    np.testing.assert_allclose(of_few.overlap, of_all.overlap, rtol=0, atol=1e-3)
    assert len(of_all.image) > 500 and of_all.overlap.std() > 0.1
    for name in ("image", "same", "shares_word", "same_token", "stays"):
        np.testing.assert_array_equal(getattr(of_few, name), getattr(of_all, name), err_msg=name)


def test_another_smoothing_asks_the_judged_images_again_and_another_tolerance_does_not(
    pocket: Config, found: Path, few: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asked(monkeypatch)
    near = {"dependence": replace(pocket.dependence, tolerance=0.4), "stage": Stage.discover}
    wide = {"grounding": replace(pocket.grounding, sigma=3.0), "stage": Stage.discover}
    execute(replace(few, **near), tmp_path / "near")
    assert seen == []
    execute(replace(few, **wide), tmp_path / "wide")
    assert set(seen) == {group.image_id for group in load_inputs(few).judged}
    for name, changes in (("near", near), ("wide", wide)):
        execute(replace(pocket, **changes), tmp_path / f"{name} of all")
        heads = [read(tmp_path / folder, "heads.json") for folder in (name, f"{name} of all")]
        assert heads[0]["dependence"] == heads[1]["dependence"] != read(found, "heads.json")["dependence"]
        assert heads[0]["follows"] == heads[1]["follows"] != read(found, "heads.json")["follows"]
    seen.clear()
    execute(few, tmp_path / "again")
    assert seen == [] and read(tmp_path / "again", "heads.json")["follows"] == read(found, "heads.json")["follows"]


def test_damaged_overlaps_are_asked_again(few: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(shutil.copytree(few.paths.cache, tmp_path / "cache"))
    config = replace(few, paths=PathsConfig(outputs=str(tmp_path), cache=str(cache)))
    for shard in cache.rglob("*.safetensors"):
        content = bytearray(shard.read_bytes())
        length = 8 + int.from_bytes(content[:8], "little")
        arrays = json.loads(content[8:length])
        if "0.overlap" in arrays:
            content[length + arrays["0.overlap"]["data_offsets"][0]] ^= 64
            shard.write_bytes(content)
    for kept in cache.rglob("*.kept"):
        kept.unlink()
    seen = asked(monkeypatch)
    execute(config, tmp_path / "mended")
    assert seen and list(cache.rglob("*.damaged"))
    before = read(Path(few.paths.cache).parent / "run", "heads.json")
    assert read(tmp_path / "mended", "heads.json")["dependence"] == before["dependence"]


def test_words_is_a_criterion_of_a_run(pocket: Config, found: Path, run: Run, no_model: None) -> None:
    folder = run(replace(pocket, criterion=CriterionConfig(name="words", score="words"), stage=Stage.discover))
    heads = read(folder, "heads.json")
    score = np.array(heads["score"], float)
    sums, grid = np.array(heads["mean_attention_sum"], float), heads["dependence"]
    words = sums * np.maximum(np.array(grid["dependence"], float), 0)  # type: ignore[index]
    words[:2] = 0  # criterion.skip_layers
    np.testing.assert_allclose(score, words, atol=1e-6)
    best = np.argsort(-words, axis=None)[:3]
    assert [(h["layer"], h["head"]) for h in heads["heads"]] == [divmod(int(i), 8) for i in best]  # type: ignore[index, attr-defined]  # fmt: skip
    assert "score" not in read(found, "heads.json") or read(found, "heads.json")["score"] is None


def test_with_greedy_selection_it_is_said_which_heads_were_judged(
    pocket: Config, found: Path, run: Run, no_model: None
) -> None:
    greedy = SelectionConfig(kind=SelectionKind.greedy)
    of_greedy, of_fixed = (
        read(folder, "heads.json")["follows"]
        for folder in (run(replace(pocket, selection=greedy, stage=Stage.discover)), found)
    )
    sentence = of_fixed.pop("sentence")  # type: ignore[attr-defined]
    assert "not judged" not in sentence
    told = of_greedy.pop("sentence")  # type: ignore[attr-defined]
    assert told.startswith(f"{sentence} This is said of the 3 most frequent heads: with selection.kind=greedy")
    assert of_greedy == of_fixed


def test_few_images_tell_nothing(files: TinyFiles, tmp_path: Path, run: Run) -> None:
    """Random weights; six judged images of the tiny data set, of which each object has paraphrases of its own."""
    folder = run(files.config(tmp_path))
    follows = read(folder, "heads.json")["follows"]
    assert follows["follows"] == "unknown" and "too few to tell" in follows["sentence"]  # type: ignore[index, operator]
    without = run(files.config(tmp_path, dependence=DependenceConfig(images=0)))
    heads = read(without, "heads.json")
    assert heads["follows"] is None and heads["dependence"] is None


def test_which_images_are_judged(files: TinyFiles, tmp_path: Path) -> None:
    config = files.config(
        tmp_path, dependence=DependenceConfig(images=3), discovery=DiscoveryConfig(n_samples=10, trials=2)
    )
    inputs = load_inputs(config)
    assert len(inputs.judged) == 3 and all(len(group.samples) == 5 for group in inputs.judged)
    assert not any(s.sample_id.endswith(TOGGLED) for group in inputs.judged for s in group.samples)
    assert load_inputs(config).judged == inputs.judged != load_inputs(replace(config, seed=1)).judged
    # Drawn by images, those that were drawn whole come first: they are in the store anyway.
    whole = load_inputs(replace(config, discovery=replace(config.discovery, draw=Draw.image)))
    drawn = {group.image_id for group in whole.discovery if len(group.samples) == 5}
    assert {group.image_id for group in whole.judged} <= drawn
    evaluated = {group.image_id for group in inputs.evaluated}
    given = load_inputs(replace(config, heads=HeadsConfig(set="pocket")))
    assert {group.image_id for group in given.judged} <= evaluated
    assert not {group.image_id for group in inputs.judged} & evaluated


def test_ground_warns_of_heads_that_were_judged_not_to_follow(found: Path, tmp_path: Path) -> None:
    content = read(found, "heads.json")
    assert doubts(read_headset(found)) == []
    content["follows"] |= {"follows": "same place", "sentence": "These heads do not follow the words."}  # type: ignore[operator]
    (tmp_path / "heads.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="were judged on train: These heads do not follow the words"):
        Grounder(heads=str(tmp_path / "heads.json"))


@pytest.fixture(scope="module", params=[0, 1])
def untrained(request: pytest.FixtureRequest, pocket: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A model of the pocket's shape, of which nothing was learned."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(request.param)
    export(LlavaForConditionalGeneration(build_config()).eval(), folder / "model")
    return replace(
        pocket,
        model=ModelConfig(id=str(folder / "model")),
        paths=PathsConfig(outputs=str(folder), cache=str(folder / "cache")),
        stage=Stage.discover,
    )


def test_no_heads_of_an_untrained_model_follow(untrained: Config, run: Run) -> None:
    """Neither those of the paper's criteria nor those that seem to depend on the words most. The trained model, whose
    heads follow in the same samples, is the control (above)."""
    for score in ("s_img_entropy", "s_img", "words", "dependence"):
        folder = run(replace(untrained, criterion=CriterionConfig(name=score, score=score)))
        follows = read(folder, "heads.json")["follows"]
        assert follows["follows"] in ("same place", "elsewhere"), score  # type: ignore[index]
        assert "These heads do not follow the words" in follows["sentence"]  # type: ignore[index]
