"""stage=audit against the pipeline itself: every number that it gives for a combination is the one of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import Finished, Result, TinyFiles

from locheads.audit.config import METRICS, AuditConfig, AuditMode
from locheads.config import Config, Stage
from locheads.data.config import DatasetConfig
from locheads.discovery.config import HeadsConfig
from locheads.pipeline import audit_stage
from locheads.pipeline.audit_stage import choices_of, prompts_of
from locheads.segmenters.config import Negatives, PointRule, PromptKind, SegmenterConfig, SegmenterKind

HEADS = {"value": 0.05, "metric": "res_ciou", "heads.k": 1}
RANDOM = AuditConfig(mode=AuditMode.random, n=40, target=0.1, targets=[HEADS])
Run = Callable[[Config], Path]


def audited(folder: Path) -> tuple[pd.DataFrame, dict]:
    return pd.read_parquet(folder / "audit.parquet"), json.loads((folder / "audit.json").read_text())


@pytest.mark.usefixtures("no_model")
def test_ten_combinations_are_what_single_runs_give(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    config = files.config(tmp_path, store, stage=Stage.audit, audit=RANDOM, heads=HeadsConfig(2))
    frame, _ = audited(run(config))
    choices = choices_of(config)
    assert len(choices) == len(frame) > 60
    possible = np.flatnonzero(frame["error"].isna())
    drawn = np.random.default_rng(5).choice(possible, 9, replace=False)
    # And one of the finer lattices, which random combinations leave out.
    drawn = [*drawn, next(i for i in possible if "image" in frame["changes"][i])]
    seen = set()
    for i in drawn:
        choice = choices[i]
        single = replace(config, stage=Stage.evaluate, criterion=choice.criterion, selection=choice.selection,
                         heads=HeadsConfig(choice.k), grounding=choice.grounding)  # fmt: skip
        found = json.loads((run(single) / "metrics.json").read_text())["methods"]["localization_heads"]
        for metric in METRICS:
            assert frame[metric][i] == found[metric]["value"], (frame["changes"][i], metric)
            for end in ("low", "high"):
                assert frame[f"{metric}_{end}"][i] == pytest.approx(found[metric][end], abs=1e-12)
        seen.add(tuple(found[metric]["value"] for metric in METRICS))
    assert len(seen) > 5, "combinations that all give the same cannot tell a wrong audit from a right one"


@pytest.mark.usefixtures("no_model")
def test_prompts_are_measured_as_a_run_with_a_segmenter_does_and_change_nothing_else(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run
) -> None:
    asked = {"prompt": PromptKind.box_point, "points": PointRule.inner, "negatives": Negatives.lowest, "margin": 0.2}
    few = AuditConfig(grid={"heads": {"k": [1, 2]}}, single={})
    config = files.config(tmp_path, store, stage=Stage.audit, audit=few, heads=HeadsConfig(2))
    plain = run(config)
    with_prompts = run(replace(config, audit=replace(few, prompts={"points": [asked]})))
    assert (plain / "audit.csv").read_bytes() == (with_prompts / "audit.csv").read_bytes()
    _, before = audited(plain)
    _, record = audited(with_prompts)
    own, other = record["prompts"]
    assert before["prompts"] == [] and (own["option"], other["option"]) == ("", "segmenter.points")
    segmenter = SegmenterConfig(kind=SegmenterKind.box, **asked)
    single = run(replace(config, stage=Stage.evaluate, segmenter=segmenter))
    found = json.loads((single / "metrics.json").read_text())["methods"]["localization_heads"]
    assert set(other["metrics"]) == {"points_inside", "points_beside", "box_covers", "asked_box_iou"}
    for metric, estimate in other["metrics"].items():
        for key in ("value", "low", "high"):
            assert estimate[key] == pytest.approx(found[metric][key], abs=1e-9), metric
    assert own["metrics"]["asked_box_iou"]["value"] == pytest.approx(found["rec_mean_iou"]["value"], abs=1e-9)
    assert "What a segmenter would be asked" in (with_prompts / "report.html").read_text()
    assert "What a segmenter would be asked" not in (plain / "report.html").read_text()


def test_prompts_without_heads_are_not_measured(files: TinyFiles, tmp_path: Path, caplog: Any) -> None:
    """Planting can take the heads of the run's own settings away; without it, such a run ends before the audit."""
    asked = prompts_of(files.config(tmp_path, audit=AuditConfig(prompts={"margin": [0.1]})))
    assert len(asked) == 2
    assert audit_stage._prompts(None, None, asked, "No head is eligible.") == []  # type: ignore[arg-type]
    assert "audit.prompts lists was not measured, as the run's own settings find no heads: No head" in caplog.text


def test_workers_and_the_order_of_combinations_change_nothing(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locheads.pipeline.processes.CHUNK", 2)
    config = files.config(tmp_path, store, stage=Stage.audit, audit=replace(RANDOM, n=5))
    one, two = (run(replace(config, engine=replace(config.engine, processes=n))) for n in (1, 2))
    assert (one / "audit.csv").read_bytes() == (two / "audit.csv").read_bytes()


def test_the_record_answers_which_and_what_would_give(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    folder = run(files.config(tmp_path, store, stage=Stage.audit, audit=RANDOM))
    frame, record = audited(folder)
    assert record["base"]["changes"] == "none"
    assert record["base_contradicts"] == []
    (closest,) = record["closest"]
    expected = np.abs(frame["rec_acc@0.5"].dropna() - 0.1).min()
    assert abs(closest["metrics"]["rec_acc@0.5"]["value"] - 0.1) == pytest.approx(expected, abs=1e-12)
    p = frame[["target_0_p", "target_1_p"]].to_numpy()
    assert frame["compatible"].tolist() == (p >= 0.025).all(axis=1).tolist()
    assert record["n_compatible"] == frame["compatible"].sum()
    assert [t["alone"] for t in record["targets"]] == [(p[:, j] >= 0.05).sum() for j in range(2)]
    # A target's own settings: every combination with one head, as that combination itself gives.
    one_head = frame["changes"] == "heads.k=1"
    assert frame["target_1"][0] == frame.loc[one_head, "res_ciou"].item() != frame["res_ciou"][0]
    best = record["best"][0]
    assert best["picked"] == max(row["picked"] for row in record["best"])
    assert 0 < record["n_confirming"] < record["n_images"]
    effects = {(row["option"], row["value"]): row for row in record["effects"]}
    alone = effects["grounding.threshold", "mean, level 2.0"]
    row = frame[frame["changes"] == "grounding.threshold=mean, level 2.0"].iloc[0]
    difference = row["rec_acc@0.5"] - frame["rec_acc@0.5"][0]
    assert alone["metrics"]["rec_acc@0.5"]["difference"]["value"] == pytest.approx(difference, abs=1e-12)
    assert alone["contradicts"] == ["grounding.level=2.0 (paper: above the mean itself)"]
    assert effects["grounding.border", "reflect"]["contradicts"] == []
    assert effects["grounding.box", "component"]["metrics"]["rec_acc@0.5"]["difference"]["value"] == 0
    for name in ("audit.csv", "audit.png", "report.html"):
        assert (folder / name).stat().st_size > 1000
    page = (folder / "report.html").read_text()
    assert "Audit: which choices matter" in page and "metrics.json is missing" not in page
    assert "no evaluation to judge" not in page and "options alone surely move" in page


def test_the_command_line_prints_the_tables_and_loads_no_model(
    files: TinyFiles, finished: Finished, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    result = command(
        *files.arguments(tmp_path / "out", finished.cache), "stage=audit", "engine.processes=1",
        "audit.grid={criterion: {score: [], floor: [], weighting: [], candidates: []}, selection: {kind: []}}",
        "audit.grid.grounding.sigma=[0, 1]", "audit.single={grounding: {resolution: []}, criterion: {elbow: []}}",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "Effect of each option alone, in percent points" in result.out
    assert "grounding.sigma" in result.out
    assert "criterion.floor" not in result.out


def test_targets_of_another_split_count_as_well(
    files: TinyFiles, finished: Finished, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    few = ["stage=audit", "engine.processes=1", "audit.single={grounding: {resolution: []}, criterion: {elbow: []}}"]
    few += ["audit.grid={criterion: {score: [], floor: [], weighting: [], candidates: []}, selection: {kind: []}}"]
    shared = [*files.arguments(tmp_path / "out", finished.cache), *few, "audit.target=0.1"]
    assert command(*shared, "study=first").code == 0
    (first,) = (tmp_path / "out" / "first").iterdir()
    result = command(*shared, "study=second", f"audit.beside=[{first}]")
    assert result.code == 0, result.err
    (second,) = (tmp_path / "out" / "second").iterdir()
    (alone, before), (frame, record) = audited(first), audited(second)
    assert [t["beside"] for t in record["targets"]] == [False, True]
    assert record["targets"][1]["alone"] == before["n_compatible"]
    # The same images twice: each target must be met at half of what is allowed to be wrong.
    assert frame["compatible"].tolist() == (alone["target_0_p"] >= 0.025).tolist()
    other = command(*shared, "study=third", "grounding.sigma=0.5", f"audit.beside=[{first}]")
    assert other.code == 1 and "was made with other settings of grounding." in other.err


@pytest.mark.parametrize("split", ["testA", "testB", "test"])
def test_a_test_split_is_refused(split: str, files: TinyFiles, tmp_path: Path, run: Run, no_model: None) -> None:
    config = files.config(tmp_path, stage=Stage.audit)
    with pytest.raises(Exception, match=f"{split} is a test split \\(dataset.test_splits\\): choose dataset.split=val"):
        run(replace(config, dataset=replace(config.dataset, split=split)))


def test_what_counts_as_a_test_split_is_declared() -> None:
    assert DatasetConfig().test_splits == ["testA", "testB", "test"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataset.split=testA", "testA is a test split"),
        ("engine.maps='top 3'", "stage=audit needs the maps of all heads"),
        ("segmenter=box", "stage=audit measures pseudo-masks: set segmenter=none, not box."),
        ("audit.metric=acc", "audit.metric=acc is unknown: use one of rec_acc@0.5"),
        ("audit.target=86.5", "audit.target must lie between 0 and 1 (0.865, not 86.5)"),
        (
            "+audit.prompts.rounds=[2]",
            "audit.prompts holds rounds, which is not measured without a segmenter: use prompt",
        ),
        ("+audit.prompts.points=[middle]", "The audit cannot set segmenter.points to 'middle'"),
        ("+audit.prompts.points=[inner]", "segmenter.points=inner is for prompts with points"),
        ("audit.n=0", "audit.n must be at least 1"),
        ("audit.confirmation=1", "audit.confirmation must be a share of the images, between 0 and 1"),
        ("audit.targets=[{value: 0.5, heads.kk: 1}]", "The audit cannot set heads.kk to 1: Key 'kk' not in"),
        ("audit.targets=[{value: 0.5, grounding.kernel: 4}]", "grounding.kernel must be odd and positive, not 4."),
        ("audit.targets=[{value: 86.5}]", "value must lie between 0 and 1 (0.865, not 86.5)."),
        ("audit.paper=LLaVA-1.5-7B", "audit.paper=LLaVA-1.5-7B: the paper has no figure of rec_acc@0.5 for it on"),
        ("audit.beside=[nowhere]", "nowhere has no audit.json: give a run folder that holds one."),
        ("+audit.grid.model.id=[a]", "audit.grid.model cannot be varied"),
        ("audit.grid.grounding.sigma=[wide]", "The audit cannot set grounding.sigma to 'wide': Value 'wide'"),
        ("+audit.grid.grounding.kernel=[4]", "grounding.kernel must be odd and positive, not 4."),
        ("+audit.grid.grounding.sigmma=[1]", "The audit cannot set grounding.sigmma to 1: Key 'sigmma' not in"),
        ("audit.mode=product", "combinations, more than 20000: list fewer values, or set audit.mode=random"),
    ],
)
def test_a_mistake_is_one_sentence(
    override: str, sentence: str, files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    # An empty cache: a mistake that is told too late would load the model.
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "stage=audit", override)
    assert result.code == 1, result.out
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
