"""grounding.contrast in whole runs: the answers are those of maps that are contrasted by other means."""

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
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.ground_maps import ground_maps
from locheads.pipeline import stages
from locheads.pipeline.audit_stage import choices_of
from locheads.pipeline.setup import Setup
from locheads.records.explorer_file import ExplorerFile
from locheads.records.metrics_file import MetricsRecord

Run = Callable[[Config], Path]
OTHERS = GroundingConfig(contrast=Contrast.others)


@pytest.fixture
def setups(monkeypatch: pytest.MonkeyPatch) -> list[Setup]:
    """Of the runs."""
    seen: list[Any] = []
    prepare = stages.prepare
    monkeypatch.setattr(stages, "prepare", lambda *a: seen.append(prepare(*a)) or seen[-1])
    return seen


def boxes(folder: Path, file: str = "predictions.parquet", method: str = "localization_heads") -> dict[str, list]:
    rows = pd.read_parquet(folder / file)
    rows = rows[rows["method"] == method].set_index("sample_id")
    return {sample_id: row.tolist() for sample_id, row in rows[["x0", "y0", "x1", "y1"]].iterrows()}


@pytest.mark.usefixtures("no_model")
def test_answers_are_those_of_maps_less_the_mean_of_other_objects(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, run: Run, setups: list[Setup]
) -> None:
    folder = run(files.config(tmp_path, store, grounding=OTHERS))
    own, mean, (setup,) = boxes(folder), boxes(folder, "baselines.parquet", "mean_of_all_heads"), setups
    heads = [(int(name[1]), int(name[3])) for name in json.loads((folder / "metrics.json").read_text())["heads"]]
    seen = 0
    for group in setup.inputs.evaluated:
        (attention,) = setup.store.read([group])
        refs = dict(zip(attention.sample_ids, [sample.ref_id for sample in group.samples], strict=True))
        assert len(set(refs.values())) == 2
        maps = {i: maps.astype(np.float64) for i, maps in zip(attention.sample_ids, attention.maps, strict=True)}
        for sample_id, ref in refs.items():
            others = np.mean([maps[i] for i in maps if refs[i] != ref], axis=0)
            means = (maps[sample_id].mean(axis=(0, 1)) - others.mean(axis=(0, 1))).clip(0)
            chosen = np.stack([(maps[sample_id] - others)[head].clip(0) for head in heads])
            for found, expected in ((own, chosen), (mean, means[None])):
                assert found[sample_id] == pytest.approx(
                    ground_maps(expected.astype(np.float32), attention.geometry, GroundingConfig()).box
                )
            seen += 1
    assert seen == len(own) == 30
    before = boxes(finished.folder)
    assert sum(own[i] != before[i] for i in own) > 10, "contrast that changes nothing is none"


def test_the_record_the_explorer_and_the_page_tell_of_it(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, command: Callable[..., Result]
) -> None:
    result = command(*files.arguments(tmp_path / "out", store), "grounding=contrast_others")
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    sentence = "grounding.contrast=others: 0 of 30 expressions have nothing to contrast with."
    assert MetricsRecord.read(folder).notes == (sentence,)
    page = (folder / "report.html").read_text()
    assert sentence in page and "<dt>Contrast</dt><dd><bdi>others</bdi></dd>" in page
    record = ExplorerFile.read(folder)
    assert sum(bool(sample.same_box) for sample in record.samples) > 0.9 * len(record.samples)
    assert "contrasted (grounding.contrast=others)" in (folder / "explorer.html").read_text()
    assert MetricsRecord.read(finished.folder).notes == ()
    pages = [(finished.folder / name).read_text() for name in ("report.html", "explorer.html")]
    assert not any("<dt>Contrast</dt>" in page or "grounding.contrast" in page for page in pages)


def test_where_an_image_has_one_ref_its_maps_stay(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    """The first two expressions are of one ref."""
    config = files.config(tmp_path, store)
    config = replace(config, dataset=replace(config.dataset, limit=2))
    plain, others = run(config), run(replace(config, grounding=OTHERS))
    assert boxes(plain) == boxes(others)
    (note,) = MetricsRecord.read(others).notes
    assert "2 of 2 expressions have nothing to contrast with" in note


def test_the_audit_measures_what_runs_give(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    grid: Any = {"grounding": {"contrast": ["none", "others"], "sinks": ["keep", "border_rows"]},
                 "selection": {"kind": ["fixed", "greedy"]}}  # fmt: skip
    audit = AuditConfig(mode=AuditMode.product, grid=grid, single={})
    config = files.config(tmp_path, store, stage=Stage.audit, audit=audit)
    frame, choices = pd.read_parquet(run(config) / "audit.parquet"), choices_of(config)
    assert len(choices) == len(frame) == 8
    for i, choice in enumerate(choices):
        single = replace(config, stage=Stage.evaluate, grounding=choice.grounding, selection=choice.selection)
        methods = json.loads((run(single) / "metrics.json").read_text())["methods"]
        for metric in METRICS:
            assert frame[metric][i] == methods["localization_heads"][metric]["value"], (frame["changes"][i], metric)
    assert frame["contradicts"].str.contains("grounding.contrast=others").sum() == 4
    assert len(set(frame["res_ciou"])) > 5


def test_each_expressions_own_heads_alone_are_refused(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result]
) -> None:
    asked = ("grounding.contrast=others", "selection=greedy", "engine.maps='top 4'")
    result = command(*files.arguments(tmp_path, tmp_path / "cache"), *asked)
    assert result.code == 1
    assert result.err == (
        "error: grounding.contrast=others needs the same heads' maps of every expression, and selection=greedy with "
        "engine.maps=top 4 keeps each expression's own: set engine.maps=all or selection=fixed.\n"
    )
