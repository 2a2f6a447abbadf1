"""From the configuration to a complete run folder, whose numbers are recomputed here by other code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from pycocotools import mask as coco
from running import Finished, TinyFiles

from locheads.config import Config, Stage
from locheads.discovery.config import CriterionConfig, SelectionConfig, SelectionKind

METHODS = {"localization_heads", "best_rec_heads", "best_iou_heads", "mean_of_all_heads", "random_heads", "centre_box"}
RECORDS = {
    "attend": {"timing.json"},
    "discover": {"timing.json", "heads.json"},
    "ground": {"timing.json", "heads.json", "predictions.parquet", "baselines.parquet"},
}
RECORDS["evaluate"] = RECORDS["ground"] | {
    *("scores.parquet", "metrics.json", "gallery.json", "gallery.npz", "gallery", "steps.npz", "explorer.json"),
    "explorer",
}
RECORDS["report"] = RECORDS["evaluate"] | {"report.html", "explorer.html", "dossier"}
ALWAYS = {"receipt.json", "provenance.json", "status.json", "samples.json"}

STAGES = list(Stage)[: list(Stage).index(Stage.report) + 1]
"""Those of a run; what follows stands alone."""


@pytest.fixture(scope="module")
def predictions(finished: Finished) -> pd.DataFrame:
    own = pd.read_parquet(finished.folder / "predictions.parquet")
    baselines = pd.read_parquet(finished.folder / "baselines.parquet")
    return pd.concat([own, baselines], ignore_index=True)


@pytest.fixture(scope="module")
def scores(finished: Finished) -> pd.DataFrame:
    return pd.read_parquet(finished.folder / "scores.parquet")


@pytest.fixture(scope="module")
def metrics(finished: Finished) -> dict[str, Any]:
    return json.loads((finished.folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def truth(files: TinyFiles) -> dict[str, dict[str, Any]]:
    """Sample id of the val split -> its annotation."""
    instances = json.loads((files.folder / "instances.json").read_text())
    annotations = {each["id"]: each for each in instances["annotations"]}
    sizes = {each["id"]: (each["height"], each["width"]) for each in instances["images"]}
    return {
        str(sent_id): annotations[ref["ann_id"]] | {"size": sizes[ref["image_id"]]}
        for ref in tiny.read_refs(files.folder)
        if ref["split"] == "val"
        for sent_id in ref["sent_ids"]
    }


def test_the_run_folder_holds_every_file(finished: Finished) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names == RECORDS["report"] | ALWAYS | {"config.yaml", "overrides.yaml", "run.log"}


def test_no_temporary_file_stays(finished: Finished) -> None:
    assert not [path for path in finished.folder.parents[1].rglob(".*")]


def test_the_command_ends_with_the_table_and_the_report(finished: Finished) -> None:
    assert "Localization heads" in finished.out
    assert "Centre box" in finished.out
    assert str(finished.folder / "report.html") in finished.out
    assert "…" not in finished.out


def test_config_is_resolved_and_overrides_are_kept(finished: Finished, files: TinyFiles) -> None:
    text = (finished.folder / "config.yaml").read_text()
    assert "${" not in text
    config = yaml.safe_load(text)
    assert config["model"]["id"] == str(files.model)
    assert config["criterion"]["score"] == "s_img_entropy"
    assert config["paths"]["cache"] == str(finished.cache)
    assert yaml.safe_load((finished.folder / "overrides.yaml").read_text()) == finished.arguments


def test_provenance_names_code_machine_model_and_data(finished: Finished) -> None:
    record = json.loads((finished.folder / "provenance.json").read_text())
    assert {"commit", "dirty", "argv", "versions", "hardware", "digest", "model", "dataset", "seeds"} <= set(record)
    assert record["model"]["layers"] == tiny.LAYERS
    assert record["model"]["heads"] == tiny.HEADS
    assert len(record["dataset"]["annotations_sha256"]) == 64
    assert record["seconds"] > 0
    assert record["digest"] == json.loads((finished.folder / "heads.json").read_text())["digest"]


def test_status_says_that_all_stages_are_done(finished: Finished) -> None:
    status = json.loads((finished.folder / "status.json").read_text())
    assert status["state"] == "done"
    assert status["error"] is None
    assert {name: stage["state"] for name, stage in status["stages"].items()} == dict.fromkeys(map(str, STAGES), "done")


def test_gallery_holds_maps_and_images_of_its_samples(finished: Finished) -> None:
    items = json.loads((finished.folder / "gallery.json").read_text())
    assert len(items) == 3
    with np.load(finished.folder / "gallery.npz", allow_pickle=False) as maps:
        for item in items:
            assert maps[item["sample_id"]].shape == (1 + 3, tiny.SIDE // tiny.PATCH, tiny.SIDE // tiny.PATCH)
            assert (finished.folder / item["picture"]).is_file()


def test_report_shows_the_numbers_and_needs_no_network(finished: Finished, metrics: dict[str, Any]) -> None:
    page = (finished.folder / "report.html").read_text()
    value = metrics["methods"]["localization_heads"]["res_ciou"]["value"]
    assert f"{100 * value:.1f}" in page
    assert 'src="http' not in page
    assert tiny.EXPRESSIONS[0][0] in page


def test_log_has_no_error(finished: Finished) -> None:
    log = (finished.folder / "run.log").read_text()
    assert "Loading" in log
    assert "ERROR" not in log


def test_every_expression_of_the_split_has_one_row(finished: Finished, truth: dict[str, Any]) -> None:
    own = pd.read_parquet(finished.folder / "predictions.parquet")
    assert sorted(own["sample_id"]) == sorted(truth)
    assert set(own["method"]) == {"localization_heads"}


def test_all_methods_see_the_same_samples(predictions: pd.DataFrame, truth: dict[str, Any]) -> None:
    rows = predictions.groupby("method")["sample_id"].agg(lambda ids: sorted(ids))
    assert set(rows.index) == METHODS
    for method, ids in rows.items():
        assert ids == sorted([*truth] * (2 if method == "random_heads" else 1)), method


def test_scores_follow_from_predictions_and_truth(
    predictions: pd.DataFrame, scores: pd.DataFrame, truth: dict[str, Any]
) -> None:
    keys = ["method", "draw", "sample_id"]
    rows = predictions.merge(scores, on=keys, validate="one_to_one")
    assert len(rows) == len(predictions)
    for row in rows.to_dict("records"):
        annotation = truth[row["sample_id"]]
        assert row["box_iou"] == pytest.approx(_box_iou([row[k] for k in ("x0", "y0", "x1", "y1")], annotation["bbox"]))
        predicted = _decode({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]}, annotation)
        true = _decode(annotation["segmentation"], annotation)
        assert row["intersection"] == (predicted & true).sum()
        assert row["union"] == (predicted | true).sum()


def test_metrics_follow_from_scores(scores: pd.DataFrame, metrics: dict[str, Any]) -> None:
    assert set(metrics["methods"]) == METHODS
    for method, rows in scores.groupby("method"):
        ratio = rows["intersection"] / rows["union"]
        expected = {
            "rec_acc@0.25": (rows["box_iou"] >= 0.25).mean(),
            "rec_acc@0.5": (rows["box_iou"] >= 0.5).mean(),
            "rec_acc@0.75": (rows["box_iou"] >= 0.75).mean(),
            "rec_acc@0.9": (rows["box_iou"] >= 0.9).mean(),
            "rec_mean_iou": rows["box_iou"].mean(),
            "res_ciou": rows["intersection"].sum() / rows["union"].sum(),
            "res_miou": ratio.mean(),
            **{f"res_pr@{t / 10}": (ratio >= t / 10).mean() for t in range(5, 10)},
        }
        if method != "centre_box":
            expected["pointing"] = rows["pointed"].mean()
            peaks = rows[["peak_x", "peak_y"]].to_numpy()
            low, high = rows[["true_x0", "true_y0"]].to_numpy(), rows[["true_x1", "true_y1"]].to_numpy()
            away = np.linalg.norm(peaks - np.clip(peaks, low, high), axis=1)
            diagonal = np.linalg.norm(rows[["image_width", "image_height"]].to_numpy(), axis=1)
            expected["pointing_5pct"] = (away <= 0.05 * diagonal).mean()
            expected["pointing_swapped"] = rows["swapped"].mean()  # leaves out expressions without a partner
            expected["pointing_chance"] = rows["chance"].mean()
            expected |= {name: rows[name].mean() for name in ("map_energy", "map_kld", "map_sim", "map_nss")}
        found = metrics["methods"][method]
        assert {name: estimate["value"] for name, estimate in found.items()} == pytest.approx(expected)
        assert all(e["low"] <= e["value"] <= e["high"] for e in found.values())


def test_slices_follow_from_scores_and_instances(
    scores: pd.DataFrame, metrics: dict[str, Any], truth: dict[str, Any]
) -> None:
    own = scores[scores["method"] == "localization_heads"].set_index("sample_id")
    assert set(own["distractors"]) == {1}  # two squares in every image
    shares = {key: each["area"] / (each["size"][0] * each["size"][1]) for key, each in truth.items()}
    assert own["area_share"].to_dict() == pytest.approx(shares)
    found = {(each["by"], each["slice"]): each for each in metrics["slices"]}
    # EXPRESSIONS: three of the five name a side.
    assert found["spatial", "with"]["n_expressions"] == 18
    assert found["spatial", "without"]["metrics"]["rec_mean_iou"]["value"] == own[~own["spatial"]]["box_iou"].mean()
    assert found["distractors", "1"]["n_expressions"] == found["distractors", "1"]["n_images"] * 5 == 30
    assert found["negation", "without"]["n_expressions"] == 30
    assert not {"review"} & {by for by, _ in found}  # nobody reviewed them


def test_predictions_are_free_of_the_truth(predictions: pd.DataFrame) -> None:
    assert not [name for name in predictions.columns if name.startswith(("map_", "true_"))]


def test_counts_of_the_split(metrics: dict[str, Any], scores: pd.DataFrame) -> None:
    assert (metrics["split"], metrics["n_images"], metrics["n_expressions"]) == ("val", 6, 30)
    assert metrics["n_failed"] == 0
    own = scores[scores["method"] == "localization_heads"]
    assert metrics["n_empty"] == (~own["answered"]).sum()


def test_localization_heads_are_the_most_frequent(finished: Finished, predictions: pd.DataFrame) -> None:
    record = json.loads((finished.folder / "heads.json").read_text())
    frequency = np.array(record["frequency_mean"])
    best = np.argsort(-frequency, axis=None, kind="stable")[:3]
    names = [f"L{i // tiny.HEADS}H{i % tiny.HEADS}" for i in best]
    assert [f"L{head['layer']}H{head['head']}" for head in record["heads"]] == names
    assert set(predictions[predictions["method"] == "localization_heads"]["heads"]) == {" ".join(names)}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_ends_the_run_there(
    stage: Stage, files: TinyFiles, store: Path, run: Callable[[Config], Path], no_model: None
) -> None:
    folder = run(files.config(store.parent, store, stage=stage))
    assert {path.name for path in folder.iterdir()} == RECORDS[stage] | ALWAYS
    status = json.loads((folder / "status.json").read_text())
    assert list(status["stages"]) == STAGES[: STAGES.index(stage) + 1]
    assert status["state"] == "done"


def test_greedy_grounds_each_sample_with_its_own_heads(
    files: TinyFiles, store: Path, run: Callable[[Config], Path]
) -> None:
    greedy = SelectionConfig(SelectionKind.greedy)
    folder = run(files.config(store.parent, store, selection=greedy, criterion=CriterionConfig(candidates=3)))
    heads = pd.read_parquet(folder / "predictions.parquet")["heads"]
    assert heads.nunique() > 1
    assert set(heads.str.split().map(len)) == {3}


def _box_iou(box: list[float], xywh: list[float]) -> float:
    if any(np.isnan(box)):
        return 0.0
    x, y, width, height = xywh
    across = max(0.0, min(box[2], x + width) - max(box[0], x))
    down = max(0.0, min(box[3], y + height) - max(box[1], y))
    area = (box[2] - box[0]) * (box[3] - box[1])
    return across * down / (area + width * height - across * down)


def _decode(segmentation: Any, annotation: dict[str, Any]) -> np.ndarray:
    height, width = annotation["size"]
    if isinstance(segmentation, list):
        return coco.decode(coco.merge(coco.frPyObjects(segmentation, height, width))).astype(bool)
    if segmentation["counts"] is None or isinstance(segmentation["counts"], float):
        return np.zeros((height, width), dtype=bool)
    if isinstance(segmentation["counts"], list):
        return coco.decode(coco.frPyObjects(segmentation, height, width)).astype(bool)
    return coco.decode(segmentation).astype(bool)
