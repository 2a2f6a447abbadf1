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
from locheads.data.config import DatasetConfig
from locheads.errors import DataError
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.ground_maps import ground_maps
from locheads.models import load
from locheads.models.engine import EngineConfig
from locheads.pipeline import attention_pass, stages
from locheads.pipeline.attend_stage import expected_cost, passes
from locheads.pipeline.audit_stage import choices_of
from locheads.pipeline.inputs import open_dataset
from locheads.pipeline.prepare import prepare
from locheads.pipeline.setup import Setup
from locheads.records.explorer_file import ExplorerFile
from locheads.records.metrics_file import MetricsRecord
from locheads.store.attention_store import count
from locheads.types import Failure

Run = Callable[[Config], Path]
OTHERS, PROBED = (GroundingConfig(contrast=how) for how in (Contrast.others, Contrast.probes))


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
    """Without the model: a filled store suffices."""
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


def test_probes_are_asked_once_answer_nothing_and_count_nowhere(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, setups: list[Setup]
) -> None:
    config = files.config(tmp_path, store, grounding=PROBED)
    folder, (setup,) = run(config), setups
    probed = setup.inputs.probed
    # Six evaluated images, and all of the eight on which the best set is searched.
    assert len(probed) == 14 and len(setup.store.missing(probed)) == 0
    asked = {sample.expression for group in probed for sample in group.samples}
    assert len(asked) == 4 and "the object on the left" in asked
    own, seen = boxes(folder), 0
    heads = [(int(name[1]), int(name[3])) for name in json.loads((folder / "metrics.json").read_text())["heads"]]
    for group, probes in zip(setup.inputs.evaluated, probed, strict=False):
        (of_probes,), (attention,) = setup.store.read([probes]), setup.store.read([group])
        background = of_probes.maps.astype(np.float64).mean(axis=0)
        for sample_id, maps in zip(attention.sample_ids, attention.maps, strict=True):
            chosen = np.stack([(maps - background)[head].clip(0) for head in heads]).astype(np.float32)
            expected = ground_maps(chosen, attention.geometry, GroundingConfig()).box
            assert own[sample_id] == pytest.approx(expected)
            seen += 1
    metrics = MetricsRecord.read(folder)
    assert seen == len(own) == metrics.n_expressions == 30
    assert metrics.n_failed == 0
    assert metrics.notes == ("grounding.contrast=probes: 0 of 30 expressions have nothing to contrast with.",)
    written = b"".join(file.read_bytes() for file in folder.rglob("*") if file.suffix in (".json", ".parquet"))
    assert b"object on the left" not in written.replace(b"the blue object on the", b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_lvlm", None)  # all is stored
        assert boxes(run(config)) == own
        plain = run(replace(config, grounding=GroundingConfig()))
    assert setups[-1].inputs.probed == []
    assert sum(own[i] != box for i, box in boxes(plain).items()) > 10


def test_a_probe_that_cannot_be_asked_fails_no_sample(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_pass, "fill", lambda s, groups, *_: [
        Failure(sample.sample_id, group.image_id, "it is too long") for group in groups for sample in group.samples
        if "~" in sample.sample_id
    ])  # fmt: skip
    folder = run(files.config(tmp_path, store, grounding=PROBED))
    metrics = MetricsRecord.read(folder)
    assert (metrics.n_failed, metrics.n_expressions) == (0, 30)
    assert "30 of 30 expressions have nothing to contrast with" in metrics.notes[0]
    assert boxes(folder) == boxes(run(files.config(tmp_path, store)))


def test_a_sample_with_the_id_of_a_probe_is_refused(files: TinyFiles, tmp_path: Path, run: Run) -> None:
    lines = [{"image": name, "expression": "the cup", "box": [0, 0, 9, 9], "id": own} for name, own in (
        ("COCO_train2014_000000000200.jpg", "1"), ("COCO_train2014_000000000201.jpg", "200~the object on the left")
    )]  # fmt: skip
    found = [{"image": "COCO_train2014_000000000100.jpg", "expression": "the cup", "box": [0, 0, 9, 9]}]
    for split, rows in (("val", lines), ("train", found)):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DatasetConfig(reader="jsonl", folder=str(tmp_path), images=str(files.images), refs="{split}.jsonl",
                         box_format="xywh", guard=[])  # fmt: skip
    image_id = open_dataset(data, files.config(tmp_path).paths).read("val")[0].image_id
    lines[1]["id"] = f"{image_id}~the object on the left"
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    with pytest.raises(DataError, match=r"the object on the left' of the data set is that of a probe, .*: rename it."):
        run(files.config(tmp_path, dataset=data, grounding=PROBED))


def test_what_the_shards_will_read_counts_the_probes(files: TinyFiles, store: Path, tmp_path: Path) -> None:
    config = files.config(tmp_path, store, stage=Stage.attend)
    both = [prepare(replace(config, grounding=g), tmp_path, {}) for g in (GroundingConfig(), PROBED)]
    samples = [count(work.groups) for setup in both for work in passes(setup)]
    assert samples[1] == samples[0] + 4 * 14
    tokens = [sum(map(expected_cost(setup).of, passes(setup)[0].groups)) for setup in both]
    # Every probe is a suffix of some eight tokens; no image is read twice.
    assert 4 * 14 * 5 < tokens[1] - tokens[0] < 4 * 14 * 10


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
    grid: Any = {"grounding": {"contrast": ["none", "others", "probes"], "sinks": ["keep", "border_rows"]},
                 "selection": {"kind": ["fixed", "greedy"]}}  # fmt: skip
    audit = AuditConfig(mode=AuditMode.product, grid=grid, single={})
    config = files.config(tmp_path, store, stage=Stage.audit, audit=audit)
    frame, choices = pd.read_parquet(run(config) / "audit.parquet"), choices_of(config)
    assert len(choices) == len(frame) == 12
    for i, choice in enumerate(choices):
        single = replace(config, stage=Stage.evaluate, grounding=choice.grounding, selection=choice.selection)
        methods = json.loads((run(single) / "metrics.json").read_text())["methods"]
        for metric in METRICS:
            assert frame[metric][i] == methods["localization_heads"][metric]["value"], (frame["changes"][i], metric)
    assert frame["contradicts"].str.contains("grounding.contrast=others").sum() == 4
    assert frame["contradicts"].str.contains("grounding.contrast=").sum() == 8
    assert len(set(frame["res_ciou"])) > 5


@pytest.mark.parametrize("grounding", [OTHERS, PROBED], ids=["others", "probes"])
def test_few_maps_suffice(grounding: GroundingConfig, files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    """Another batch may round the last bit of a map otherwise, and a cell on the threshold with it."""
    few = EngineConfig(device="cpu", threads=1, maps="top 4")
    whole = run(files.config(tmp_path, store, grounding=grounding))
    compact = run(files.config(tmp_path / "compact", engine=few, grounding=grounding))
    for file, method in (("predictions.parquet", "localization_heads"), ("baselines.parquet", "mean_of_all_heads")):
        one, other = boxes(whole, file, method), boxes(compact, file, method)
        assert sum(other[i] == pytest.approx(box) for i, box in one.items()) >= 28
    assert MetricsRecord.read(whole).notes == MetricsRecord.read(compact).notes


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
