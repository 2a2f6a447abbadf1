"""Real images and expressions through the pipeline: the 63-image slice, whose figures mean nothing here."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from running import ROOT, Result

sys.path.append(str(ROOT / "tests" / "unit" / "segmenters"))
from sam_parts import tiny_sam

SLICE = Path(__file__).parents[3] / "shared" / "data" / "coco_slice"


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    if not SLICE.is_dir():
        pytest.skip(f"{SLICE} is not there: the shared test data is needed")
    return json.loads((SLICE / "annotations.json").read_text())


def _write(path: Path, records: list[dict[str, Any]], key: str = "image_id") -> None:
    lines = []
    for record in records:
        mask = {"mask": record["segmentation"]} if record.get("segmentation") else {}
        lines.append({"id": record[key], "image": record["file_name"], "expression": record["expression"],
                      "box": record["bbox"]} | mask)  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _arguments(tmp_path: Path) -> list[str]:
    return [
        "dataset=own_jsonl", f"dataset.folder={tmp_path}", f"dataset.images={SLICE / 'images'}",
        f"paths.outputs={tmp_path / 'out'}", "evaluation.resamples=50", "evaluation.random_draws=2",
        "discovery.n_samples=20", "discovery.trials=1", "engine.threads=1", "engine.device=cpu",
    ]  # fmt: skip


def test_all_63_images_are_attended_and_evaluated(
    records: list[dict[str, Any]], tmp_path: Path, command: Callable[..., Result]
) -> None:
    assert len(records) == 63
    _write(tmp_path / "train.jsonl", records[:20])
    _write(tmp_path / "val.jsonl", records[20:])
    result = command(*_arguments(tmp_path), "stage=evaluate", "evaluation.gallery=2")
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    scores = pd.read_parquet(folder / "scores.parquet")
    own = scores[scores["method"] == "localization_heads"]
    assert set(own["sample_id"]) == {str(record["image_id"]) for record in records[20:]}
    assert own["error"].isna().all()
    assert json.loads((folder / "heads.json").read_text())["n_samples"] == 20
    # Whatever the heads answer, the centre box is known.
    centre = scores[scores["method"] == "centre_box"].set_index("sample_id")
    for record in records[20:]:
        assert centre.loc[str(record["image_id"]), "box_iou"] == pytest.approx(_centre_iou(record), abs=1e-9)


def test_sam_masks_real_images(records: list[dict[str, Any]], tmp_path: Path, command: Callable[..., Result]) -> None:
    """The whole of RES, with a SAM of random weights: its masks mean nothing, the path is what is tested."""
    _write(tmp_path / "train.jsonl", records[:20])
    _write(tmp_path / "val.jsonl", records[20:30])
    sam = ("segmenter=sam_hf", f"segmenter.checkpoint={tiny_sam(tmp_path / 'sam')}")
    found = {}
    for name, segmenter in {"plain": (), "sam": sam}.items():
        more = ("stage=evaluate", "evaluation.gallery=2", f"hydra.run.dir={tmp_path / 'out' / name}", *segmenter)
        result = command(*_arguments(tmp_path), *more)
        assert result.code == 0, result.err
        found[name] = pd.read_parquet(tmp_path / "out" / name / "predictions.parquet").set_index("sample_id")
    assert len(found["sam"]) == 10 and found["sam"]["error"].isna().all()
    assert found["sam"]["mask_score"].notna().all()
    assert (found["sam"]["mask_counts"] != found["plain"]["mask_counts"]).all()
    for record in records[20:30]:
        row = found["sam"].loc[str(record["image_id"])]
        assert (row["mask_height"], row["mask_width"]) == (record["height"], record["width"])


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_the_truth_as_prediction(
    kind: str, records: list[dict[str, Any]], tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    _write(tmp_path / "val.jsonl", records)
    _write(tmp_path / "train.jsonl", records[:1])
    with_mask = [record for record in records if record.get("segmentation")]
    assert len(with_mask) == 42
    answers = [{"id": r["image_id"]} | ({"mask": r["segmentation"]} if kind == "mask" else {"box": r["bbox"]})
               for r in (with_mask if kind == "mask" else records)]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    file = f"predictions={tmp_path / 'p.jsonl'}"
    result = command(*_arguments(tmp_path), "stage=evaluate", file, "predictions_format=xywh")
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    scores = pd.read_parquet(folder / "scores.parquet").set_index("sample_id")
    ids = [str(record["image_id"]) for record in with_mask]
    iou = scores["intersection"] / scores["union"]
    if kind == "mask":
        assert (iou[ids] == 1).all()
        assert (iou.drop(ids) == 0).all() and json.loads((folder / "metrics.json").read_text())["n_missing"] == 21
        # COCO's boxes are those of the polygons, to a pixel.
        assert (scores.loc[ids, "box_iou"] > 0.9).all()
    else:
        assert scores["box_iou"].to_numpy() == pytest.approx(1, abs=1e-9)
        assert (iou.drop(ids) == 1).all()  # a box stands for the true mask, too, where there is none
        # A box holds its object and more; no object of the slice fills its box.
        assert (scores.loc[ids, "intersection"] >= 0.98 * _areas(scores, with_mask)).all()
        assert 0.2 < iou[ids].mean() < 0.9
        assert (iou[ids] < 1).all()


def _areas(scores: pd.DataFrame, records: list[dict[str, Any]]) -> pd.Series:
    pixels = {str(r["image_id"]): r["width"] * r["height"] for r in records}
    return scores.loc[list(pixels), "area_share"] * pd.Series(pixels)


def _centre_iou(record: dict[str, Any]) -> float:
    x, y, w, h = record["bbox"]
    width, height = record["width"], record["height"]
    across = max(0, min(x + w, 0.75 * width) - max(x, 0.25 * width))
    down = max(0, min(y + h, 0.75 * height) - max(y, 0.25 * height))
    return across * down / (w * h + width * height / 4 - across * down)
