"""Ref-Adv-s as its code reads it: the released predictions' own IoUs and hits, and accuracies by a plain loop."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from locheads.data.checks import official_counts
from locheads.data.config import BoxFormat, DatasetConfig, PredictionsConfig
from locheads.data.hub import HubDataSet
from locheads.data.prediction_files import read_predictions
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import PREDICTIONS
from locheads.evaluation.slices import facts
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import score_answers
from locheads.types import ImageGroup

CONF = Path(__file__).parents[3] / "conf"
RELEASED = Path(__file__).parents[4] / "shared" / "data" / "tasks" / "ref_adv_s" / "sample.jsonl"
WIDTH, HEIGHT = 640, 640
BINS = {"2-3": "2 to 3", "4-6": "4 to 6", ">=7": "7 and more"}


def row(number: int, record: dict[str, Any]) -> dict[str, Any]:
    """A row of the parquet file, for a line of predictions about it."""
    stream = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (number % 256, 0, 0)).save(stream, "PNG")
    keys = ("file_name", "normal_caption", "image_source", "human_authored", "use_negation")
    about = {key: record[key] for key in keys} | {"width": WIDTH, "height": HEIGHT}
    # The column may hold text of a list.
    distractors = json.dumps([f"object {i}" for i in range(record["distractor_count"])])
    image = {"bytes": stream.getvalue(), "path": record["file_name"]}
    return about | {"image": image, "solution": record["gt_bbox_xyxy"], "distractors": distractors}


def prediction(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A line about a row; now and then without a box."""
    x0, y0 = rng.integers(0, 300, 2).tolist()
    truth = [float(x0), float(y0), x0 + 20.0 + rng.integers(200), y0 + 20.0 + rng.integers(200)]
    moved = np.array(truth).reshape(2, 2) + rng.normal(0, rng.choice([1, 5, 30]), (2, 2))
    box = np.sort(moved, axis=0).ravel().tolist() if rng.random() > 0.1 else []
    return {
        "row_idx": number, "file_name": f"{number:012d}.jpg", "normal_caption": f"thing {number}",
        "image_source": "coco_val2017", "human_authored": True, "use_negation": bool(rng.integers(2)),
        "distractor_count": int(rng.integers(2, 10)), "gt_bbox_xyxy": truth, "pred_box_xyxy_first": box,
    }  # fmt: skip


def read(folder: Path, lines: list[dict[str, Any]]) -> list[ImageGroup]:
    """The split of the parquet file, through the reader of dataset=ref_adv_s."""
    by_row = {line["row_idx"]: line for line in lines}
    other = prediction(max(by_row) + 1, np.random.default_rng(0)) | {"file_name": "other.jpg"}
    rows = [row(i, by_row.get(i, other)) for i in range(max(by_row) + 1)]
    for i, each in enumerate(rows):  # the rows between the given ones
        each["file_name"] = each["file_name"] if i in by_row else f"other_{i}.jpg"
    (folder / "copy").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "copy" / "train-00000-of-00001.parquet")
    declared = yaml.safe_load((CONF / "dataset" / "ref_adv_s.yaml").read_text())
    keys = ("hub", "columns", "split_names", "box_format", "notes")
    config = DatasetConfig(folder=str(folder / "copy"), **{key: declared[key] for key in keys})
    return HubDataSet(config, folder / "cache").read("test")


def score(folder: Path, lines: list[dict[str, Any]], groups: list[ImageGroup]) -> pd.DataFrame:
    """Scores of the lines' samples, as experiments/slices/README.md reads the file."""
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    form = PredictionsConfig(box_format=BoxFormat.xyxy, id="row_idx", box="pred_box_xyxy_first")
    sizes = {sample.sample_id: (group.width, group.height) for group in groups for sample in group.samples}
    answers = read_predictions(path, form, sizes, "the split")
    scores = pd.concat([scored for _, scored in score_answers(answers, groups, "absent")])
    return scores.set_index("sample_id", drop=False).loc[[str(line["row_idx"]) for line in lines]]


def iou(one: list[float], other: list[float]) -> float:
    """Of two xyxy boxes; 0 for none."""
    if not other:
        return 0.0
    sides = [max(0.0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    shared = sides[0] * sides[1]
    return shared / (areas[0] + areas[1] - shared)


def test_released_predictions_come_out_to_the_digit(tmp_path: Path) -> None:
    if not RELEASED.is_file():
        pytest.skip(f"{RELEASED} is not there: the shared test data is needed")
    lines = [json.loads(line) for line in RELEASED.read_text().splitlines()]
    groups = read(tmp_path, lines)
    scores = score(tmp_path, lines, groups)
    assert len(lines) == 5
    assert scores["box_iou"].tolist() == [line["first_iou"] for line in lines]
    assert (
        (scores["box_iou"] >= 0.5).tolist()
        == [line["first_hit"] for line in lines]
        == [False, True, False, True, False]
    )
    assert scores["distractors"].tolist() == [line["distractor_count"] for line in lines]
    told = [line["use_negation"] for line in lines]
    assert scores["negation"].tolist() == told
    # The words alone tell the same.
    samples = {s.sample_id: s for group in groups for s in group.samples}
    words = [{**vars(samples[str(line["row_idx"])]), "negation": None} for line in lines]
    assert [facts(type(samples["0"])(**each), 1)[-1] for each in words] == told
    # Another truth is another figure.
    lines[1]["gt_bbox_xyxy"][0] += 1
    (tmp_path / "again").mkdir()
    assert score(tmp_path, lines, read(tmp_path / "again", lines))["box_iou"].iloc[1] != lines[1]["first_iou"]


def test_accuracies_and_bins_agree_with_a_plain_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    lines = [prediction(i, rng) for i in range(300)]
    scores = score(tmp_path, lines, read(tmp_path, lines))
    failed = [not line["pred_box_xyxy_first"] for line in lines]
    assert (~scores["answered"]).tolist() == failed and 15 < sum(failed) < 60
    ious = [iou(line["gt_bbox_xyxy"], line["pred_box_xyxy_first"]) for line in lines]
    metrics = summarise(scores, EvaluationConfig())[PREDICTIONS]
    for threshold in (0.5, 0.75, 0.9):
        accuracy = sum(each >= threshold for each in ious) / len(lines)
        assert metrics[f"rec_acc@{threshold}"]["value"] == pytest.approx(accuracy, abs=1e-9)
        assert 0.1 < accuracy < 0.9
    slices = {(s["by"], s["slice"]): s for s in summarise_slices(scores, PREDICTIONS, EvaluationConfig())}
    low = {"2-3": 2, "4-6": 4, ">=7": 7}
    for name, own in BINS.items():
        high = {"2-3": 3, "4-6": 6}.get(name, 99)
        hits = [i >= 0.5 for i, line in zip(ious, lines, strict=True) if low[name] <= line["distractor_count"] <= high]
        found = slices["distractors", own]
        assert (found["n_expressions"], found["metrics"]["rec_acc@0.5"]["value"]) == (
            len(hits), pytest.approx(sum(hits) / len(hits), abs=1e-9)
        )  # fmt: skip
    negated = [i >= 0.5 for i, line in zip(ious, lines, strict=True) if line["use_negation"]]
    assert slices["negation", "with"]["metrics"]["rec_acc@0.5"]["value"] == pytest.approx(np.mean(negated), abs=1e-9)


def test_the_published_count() -> None:
    assert official_counts("ref_adv_s/hub") == {"test": (1142, None, 1142)}
