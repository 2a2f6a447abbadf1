"""predictions=FILE: another model's answers through the run's own scoring, without a model."""

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from running import Finished, Result, TinyFiles

from locheads.pipeline import stages

Scored = Callable[..., tuple[Result, Path]]


@pytest.fixture
def scored(files: TinyFiles, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Scored:
    """Scores these lines -> (what the user sees, run folder); naming or loading a model is an error."""
    monkeypatch.setattr(stages, "prepare", lambda *_: pytest.fail("a run was prepared"))
    runs = iter(range(9))

    def start(lines: list[dict[str, Any]], *overrides: str) -> tuple[Result, Path]:
        (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        out = tmp_path / f"out_{next(runs)}"
        arguments = files.arguments(out, tmp_path / "cache")
        file = f"predictions={tmp_path / 'p.jsonl'}"
        result = command(*arguments, "stage=evaluate", "model.id=/no/such/model", file, *overrides)
        (folder,) = (out / "default").iterdir()
        return result, folder

    return start


@pytest.fixture(scope="module")
def answers(finished: Finished) -> pd.DataFrame:
    """The heads' own answers, as somebody else could have written them down."""
    return pd.read_parquet(finished.folder / "predictions.parquet")


def _line(row: dict[str, Any], mask: bool = True) -> dict[str, Any]:
    box = [row[key] for key in ("x0", "y0", "x1", "y1")]
    line = {"id": row["sample_id"], "box": None if np.isnan(box).any() else box}
    return line | (
        {"mask": {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]}} if mask else {}
    )


def test_the_same_answers_score_the_same(scored: Scored, finished: Finished, answers: pd.DataFrame) -> None:
    lines = [_line(row) for row in answers.to_dict("records")]
    result, folder = scored(lines[::-1], "predictions_format=xyxy")
    assert result.code == 0, result.err
    found, of_run = (pd.read_parquet(each / "scores.parquet") for each in (folder, finished.folder))
    own = of_run[of_run["method"] == "localization_heads"].set_index("sample_id")
    columns = ["box_iou", "intersection", "union", "area_share", "distractors", "n_words", "true_x0"]
    pd.testing.assert_frame_equal(found.set_index("sample_id").loc[own.index, columns], own[columns])
    metrics, expected = (json.loads((each / "metrics.json").read_text()) for each in (folder, finished.folder))
    for name, estimate in metrics["methods"]["predictions"].items():
        assert estimate == pytest.approx(expected["methods"]["localization_heads"][name]), name
    assert not [name for name in metrics["methods"]["predictions"] if name.startswith(("map_", "pointing"))]
    assert (metrics["n_missing"], metrics["n_failed"], metrics["notes"]) == (0, 0, [])
    assert sum(metrics["boxes"]["without"].values()) == metrics["n_empty"]
    assert metrics["slices"][0]["n_expressions"] > 0
    written = pd.read_parquet(folder / "predictions.parquet")
    assert list(written.columns.sort_values()) == list(answers.columns.sort_values())


def test_reviewed_expressions_are_scored_apart(
    scored: Scored, answers: pd.DataFrame, files: TinyFiles, tmp_path: Path
) -> None:
    lines = [_line(row) for row in answers.to_dict("records")]
    folders = [scored(lines, "predictions_format=xyxy")[1]]
    review = tiny.write_review(files.folder, tmp_path, "larger")
    folders.append(scored(lines, "predictions_format=xyxy", review)[1])
    without, found = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
    assert "review" not in {part["by"] for part in without["slices"]}
    assert found["methods"] == without["methods"]
    parts = {part["slice"]: part for part in found["slices"] if part["by"] == "review"}
    assert {name: part["n_expressions"] for name, part in parts.items()} == {"clean": 24, "faulty": 6}
    scores = pd.read_parquet(folders[1] / "scores.parquet").set_index("sample_id")
    texts = answers.set_index("sample_id")["expression"].loc[scores.index]
    faulty = scores["box_iou"][texts.str.contains("larger")]
    assert parts["faulty"]["metrics"]["rec_mean_iou"]["value"] == pytest.approx(faulty.mean())
    digests = [json.loads((folder / "provenance.json").read_text())["digest"] for folder in folders]
    assert digests[0] != digests[1]


def test_the_run_folder_and_the_page(scored: Scored, answers: pd.DataFrame) -> None:
    result, folder = scored([_line(row, mask=False) for row in answers.to_dict("records")], "predictions_format=xyxy")
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "overrides.yaml", "run.log", "provenance.json", "status.json", "samples.json",
        "predictions.parquet", "scores.parquet", "metrics.json", "report.html", "dossier",
        "receipt.json",
    }  # fmt: skip
    assert "Predictions of a file" in result.out
    page = (folder / "report.html").read_text()
    assert "p.jsonl" in page and "not complete" not in page and "heads.json" not in page
    record = json.loads((folder / "provenance.json").read_text())
    assert record["predictions"]["format"]["box_format"] == "xyxy"
    assert len(record["predictions"]["sha256"]) == len(record["dataset"]["annotations_sha256"]) == 64


def test_samples_that_the_file_lacks_are_misses(scored: Scored, answers: pd.DataFrame) -> None:
    lines = [_line(row, mask=False) for row in answers.to_dict("records")][:21]
    lines[0]["box"] = None
    result, folder = scored(lines, "predictions_format=xyxy")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["n_expressions"], metrics["n_missing"], metrics["n_failed"]) == (30, 9, 9)
    scores = pd.read_parquet(folder / "scores.parquet")
    assert metrics["methods"]["predictions"]["rec_mean_iou"]["value"] == pytest.approx(
        scores["box_iou"][:21].sum() / 30
    )
    assert metrics["n_empty"] == (~scores["answered"][:21]).sum() >= 1
    assert set(scores["error"][21:]) == {"p.jsonl has no prediction for it"}
    assert (scores["union"][21:] > 0).all()
    assert "9 failed (9 of them not in the file)" in " ".join(result.out.split())
    assert "lacks 9 samples" in (folder / "run.log").read_text()


def test_a_limit_leaves_out_what_the_file_says_of_the_rest(scored: Scored, answers: pd.DataFrame) -> None:
    lines = [_line(row, mask=False) for row in answers.to_dict("records")]
    _, folder = scored(lines, "predictions_format=xyxy", "dataset.limit=10")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["n_expressions"], metrics["n_missing"], metrics["n_not_evaluated"]) == (10, 0, 20)


def test_a_format_that_cannot_be_right_is_said(scored: Scored, finished: Finished) -> None:
    truth = pd.read_parquet(finished.folder / "scores.parquet").drop_duplicates("sample_id")
    boxes = truth[["true_x0", "true_y0", "true_x1", "true_y1"]].to_numpy().tolist()
    lines = [{"id": key, "box": box} for key, box in zip(truth["sample_id"], boxes, strict=True)]
    _, folder = scored(lines, "predictions_format=xyxy_relative")
    outside, fit = json.loads((folder / "metrics.json").read_text())["notes"]
    assert "boxes leave the declared range: is predictions_format.box_format=xyxy_relative how they are" in outside
    assert "Read with predictions_format.box_format=xyxy the boxes would have a mean IoU of" in fit
    page = html.unescape((folder / "report.html").read_text())
    for note in (outside, fit):
        assert note in page and note in (folder / "run.log").read_text()
    _, folder = scored([line | {"box": [0.1, 0.1, 0.2, 0.2]} for line in lines], "predictions_format=xyxy")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["boxes"]["n_specks"] == metrics["boxes"]["n_shares"] == 30
    assert [note.split(" of ")[0] for note in metrics["notes"]] == ["30", "30"]


def test_points_are_scored_by_pointing_alone(
    scored: Scored, finished: Finished, command: Callable[..., Result], tmp_path: Path
) -> None:
    """Half of them in the middle of the true box, the others in a corner of the image or nowhere."""
    truth = pd.read_parquet(finished.folder / "scores.parquet").drop_duplicates("sample_id").to_dict("records")
    lines: list[dict[str, Any]] = []
    for i, row in enumerate(truth):
        middle = [(row["true_x0"] + row["true_x1"]) / 2, (row["true_y0"] + row["true_y1"]) / 2]
        lines.append({"id": row["sample_id"], "point": (middle, [0, 0], middle, None)[i % 4]})
    result, folder = scored(lines, "predictions_format=molmo", "predictions_format.point_format=xy")
    assert result.code == 0, result.err
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["methods"]["points"]) == {"pointing", "pointing_5pct", "pointing_chance"}
    right = sum(i % 2 == 0 or (i % 4 == 1 and r["true_x0"] <= 0 and r["true_y0"] <= 0) for i, r in enumerate(truth))
    assert metrics["methods"]["points"]["pointing"]["value"] == pytest.approx(right / 30)
    assert metrics["n_empty"] == 7 and metrics["boxes"]["without"] == {"answer nothing": 7}
    assert "Points of a file" in result.out and "Points of a file" in (folder / "report.html").read_text()
    compared = command("stage=compare", f"runs=[{finished.folder},{folder}]", f"paths.outputs={tmp_path / 'compared'}")
    assert compared.code == 0, compared.err
    (path,) = (tmp_path / "compared").rglob("compare.json")
    assert list(json.loads(path.read_text())["metrics"]) == ["pointing", "pointing_5pct"]


def test_it_is_compared_like_any_run(
    scored: Scored, finished: Finished, answers: pd.DataFrame, command: Callable[..., Result], tmp_path: Path
) -> None:
    _, folder = scored([_line(row) for row in answers.to_dict("records")], "predictions_format=xyxy")
    result = command("stage=compare", f"runs=[{finished.folder},{folder}]", f"paths.outputs={tmp_path / 'compared'}")
    assert result.code == 0, result.err
    (path,) = (tmp_path / "compared").rglob("compare.json")
    record = json.loads(path.read_text())
    assert [record[run]["method"] for run in "ab"] == ["localization_heads", "predictions"]
    # A file has no map to point with.
    assert list(record["metrics"]) == ["rec_acc@0.5", "rec_mean_iou", "res_ciou", "res_miou"]
    assert {found["difference"] for found in record["metrics"].values()} == {0}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((), "has a box, but how it is written is not stated: choose predictions_format=FORMAT, one of xywh,"),
        (("predictions_format=xyhw",), "There is no predictions_format=xyhw. Did you mean xywh?"),
        (("predictions_format=xyxy", "predictions_format.id=name"), "set predictions_format.id to where the ids are"),
        (
            ("predictions_format=xyxy", "predictions_format.frame=input"),
            "needs the input's size: set predictions_format.",
        ),
        (("predictions_format=qwen2_5_vl", "predictions_format.multiple=0"), "multiple must be at least 1, not 0"),
        (("predictions=/no/such.jsonl",), "predictions=/no/such.jsonl is no file"),
        (("stage=ground",), "is scored by stage=evaluate or stage=report, not by stage=ground"),
        (("predictions_format=xyxy", "dataset.split=train"), "which the split train of pocket does not hold"),
    ],
)
def test_mistakes_are_one_sentence(
    overrides: tuple[str, ...], sentence: str, files: TinyFiles, tmp_path: Path, command: Callable[..., Result],
    no_model: None,
) -> None:  # fmt: skip
    (tmp_path / "p.jsonl").write_text('{"id": 20000, "box": [1, 2, 3, 4]}\n')
    arguments = files.arguments(tmp_path / "out", tmp_path / "cache")
    result = command(*arguments, "stage=evaluate", f"predictions={tmp_path / 'p.jsonl'}", *overrides)
    assert result.code == 1
    assert sentence in result.err
    assert result.err.count("\n") == 1 and "Traceback" not in result.out + result.err
