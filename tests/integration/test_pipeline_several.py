"""Runs on expressions of several objects, one and none: what discovery sees, what is stored, counted and drawn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from running import Finished, Result, TinyFiles

from locheads.data.config import DatasetConfig
from locheads.data.grefcoco import GrefDataSet
from locheads.evaluation.rows import OF_CANDIDATES
from locheads.pipeline import inputs
from locheads.pocket.counts import COUNTS
from locheads.pocket.dataset import IMAGES, TABLES
from locheads.types import Sample

SMALL = replace(COUNTS, splits={"train": (6, (3, 4)), "val": (4, (3, 4))}, digest="")


@pytest.fixture(scope="module")
def patch() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "COUNTS", SMALL)
        yield patch


@pytest.fixture
def arguments(files: TinyFiles, tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    own = [a for a in files.arguments(tmp_path / "out", tmp_path / "cache") if not a.startswith("dataset.")]
    # Of the few heads of a model with random weights, the elbow may leave none.
    return [*own, "dataset=pocket_counts", "criterion.tau=0", "heads.k=1", f"hydra.run.dir={tmp_path}/run"]


@pytest.fixture
def samples(tmp_path: Path) -> Callable[[str], dict[str, Sample]]:
    """Of a split, by id; once the data are made."""

    def read(split: str) -> dict[str, Sample]:
        root = tmp_path / "cache" / SMALL.folder
        folders = {"folder": str(root / TABLES), "images": str(root / IMAGES)}
        data = GrefDataSet(DatasetConfig(**folders, refs=SMALL.refs.name), tmp_path / "tables")
        return {sample.sample_id: sample for group in data.read(split) for sample in group.samples}

    return read


def test_a_whole_run(
    arguments: list[str], tmp_path: Path, command: Callable[..., Result], samples: Callable[[str], dict[str, Sample]]
) -> None:
    result, folder = command(*arguments, "grounding.stand_out_share=0.2"), tmp_path / "run"
    assert result.code == 0, result.err
    assert "GREC" in result.out and "Objects that are named" in result.out
    drawn = json.loads((folder / "samples.json").read_text())
    train, val = samples("train"), samples("val")
    used = {i for trial in drawn["trials"] for i in trial["samples"]} | {i.partition("~")[0] for i in drawn["judged"]}
    assert used and not any(train[i].absent for i in used) and any(s.absent for s in train.values())

    rows = pd.read_parquet(folder / "predictions.parquet")
    for row in rows.to_dict("records"):
        scores = row["candidate_scores"].tolist()
        assert scores[0] == 1 and scores == sorted(scores, reverse=True)
        assert row["n_answered"] == sum(score >= 0.2 for score in scores) >= 1
        assert [row[key] for key in ("x0", "y0", "x1", "y1")] in [box.tolist() for box in row["candidate_boxes"]]
    others = pd.read_parquet(folder / "baselines.parquet")
    assert others.loc[others["method"] != "centre_box", "n_answered"].notna().all()

    metrics = json.loads((folder / "metrics.json").read_text())
    own, counts = metrics["methods"]["localization_heads"], [len(val[i].objects) for i in rows["sample_id"]]
    assert (own["n_acc"]["value"], own["t_acc"]["value"]) == (0, 1)  # a map always answers
    assert 0 < own["gres_ciou"]["value"] < own["res_ciou"]["value"]  # false masks count in one of the two
    note = f"Of {len(counts)} expressions {counts.count(0)} name no object, {counts.count(1)} one and "
    assert metrics["notes"][-1].startswith(note)
    scored = pd.read_parquet(folder / "scores.parquet")
    heads = scored[scored["method"] == "localization_heads"]
    assert own["rec_acc@0.5"]["value"] == pytest.approx((heads["box_iou"][heads["n_objects"] == 1] >= 0.5).mean())
    assert "GRES gIoU" in (folder / "report.html").read_text()

    shown = [
        *json.loads((folder / "gallery.json").read_text()),
        *json.loads((folder / "explorer.json").read_text())["samples"],
    ]
    answered = dict(zip(rows["sample_id"], rows["n_answered"], strict=True))
    for item in shown:
        assert [tuple(box) for box in item["true_boxes"]] == list(val[item["sample_id"]].boxes or ())
        assert len(item["boxes"]) == answered[item["sample_id"]]

    _the_same_boxes_from_a_file_score_the_same(rows, own, arguments, tmp_path, command)
    audit = command(
        *arguments, "stage=audit", "audit.mode=one_at_a_time", "audit.workers=1", f"hydra.run.dir={tmp_path}/audit"
    )
    assert audit.code == 0, audit.err


def _the_same_boxes_from_a_file_score_the_same(
    rows: pd.DataFrame, own: dict, arguments: list[str], tmp_path: Path, command: Callable[..., Result]
) -> None:
    """The run's own candidates, lowest first, with their scores and the mask of those that are the answer."""
    lines = [
        {"id": row["sample_id"], "box": [box.tolist() for box in row["candidate_boxes"]][::-1],
         "scores": row["candidate_scores"].tolist()[::-1],
         "mask": {"size": [row["mask_height"], row["mask_width"]], "counts": row["objects_mask"]}}
        for row in rows.to_dict("records")
    ]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = [f"predictions={tmp_path}/own.jsonl", "predictions_format=xyxy", "predictions_format.min_score=0.2"]
    result = command(*arguments, *said, "stage=evaluate", f"hydra.run.dir={tmp_path}/own")
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "own" / "metrics.json").read_text())
    found = metrics["methods"]["predictions"]
    same = [key for key in own if key.startswith(("gre", "n_acc", "t_acc"))]
    assert len(same) > 8
    for key in same:
        assert found[key] == pytest.approx(own[key], abs=1e-12), key
    n, answers = sum(map(len, rows["candidate_scores"])), int(rows["n_answered"].sum())
    assert n > answers
    assert any(note.startswith(f"Of {n} boxes with scores the {answers} of at least 0.2") for note in metrics["notes"])
    both = command("stage=compare", f"runs=[{tmp_path}/run,{tmp_path}/own]", f"paths.outputs={tmp_path}/compared")
    assert both.code == 0, both.err
    assert "GREC" in both.out


def test_a_file_of_predictions(
    arguments: list[str], tmp_path: Path, command: Callable[..., Result], samples: Callable[[str], dict[str, Sample]]
) -> None:
    assert command(*arguments, "stage=check").code == 0
    val = samples("val")
    lines = [{"id": i, "box": list(s.boxes[0]) if s.boxes else None} for i, s in val.items()]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = [f"predictions={tmp_path}/answers.jsonl", "predictions_format=xyxy", "stage=evaluate"]
    result = command(*arguments, *said, f"hydra.run.dir={tmp_path}/scored")
    assert result.code == 0, result.err
    own = json.loads((tmp_path / "scored" / "metrics.json").read_text())["methods"]["predictions"]
    counts = np.array([len(s.objects) for s in val.values()])
    assert own["grec_pr"]["value"] == pytest.approx((counts <= 1).mean())  # one box does not do for several
    assert own["n_acc"]["value"] == own["t_acc"]["value"] == own["rec_acc@0.5"]["value"] == 1
    lines = [{"id": i, "box": [list(box) for box in s.boxes]} for i, s in val.items()]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = command(*arguments, *said, f"hydra.run.dir={tmp_path}/all")
    assert result.code == 0, result.err
    own = json.loads((tmp_path / "all" / "metrics.json").read_text())["methods"]["predictions"]
    assert own["grec_pr"]["value"] == own["n_acc"]["value"] == own["t_acc"]["value"] == 1
    (tmp_path / "answers.jsonl").write_text(json.dumps({**lines[0], "box": [[1, 2, 3, 4], [5, 6]]}))
    result = command(*arguments, *said, f"hydra.run.dir={tmp_path}/bad")
    assert result.code == 1 and "answers.jsonl, line 1 has the box [5, 6], which is not four finite" in result.err


def test_other_runs_have_nothing_of_it(finished: Finished) -> None:
    rows = pd.read_parquet(finished.folder / "predictions.parquet")
    assert not {*OF_CANDIDATES.names} & {*rows.columns}
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert not any(key.startswith(("gre", "n_acc")) for key in metrics["methods"]["localization_heads"])
    assert json.loads((finished.folder / "gallery.json").read_text())[0].get("true_boxes") is None
