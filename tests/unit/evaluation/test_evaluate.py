"""Scores and their summary on a table worked by hand; failures and empty answers count as misses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.map_metrics import OF_NOTHING
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.metric_table import measured
from locheads.evaluation.predict import predict
from locheads.evaluation.summarise import summarise
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

CONFIG = EvaluationConfig()
OWN, CENTRE = "localization_heads", "centre_box"


@pytest.fixture
def groups(sample: Callable[..., Sample]) -> list[ImageGroup]:
    """Two images of 20 x 10 pixels with objects of 40, 10 and 16 pixels."""
    first = (sample("a", (0, 0, 10, 4), 20, 10), sample("b", (10, 5, 20, 6), 20, 10))
    second = (sample("c", (4, 4, 8, 8), 20, 10),)
    return [ImageGroup("p", Path("p"), 20, 10, first), ImageGroup("q", Path("q"), 20, 10, second)]


def row(sample_id: str, box: tuple | None, *, method: str = OWN, peak: tuple | None = None, **more: Any) -> dict:
    """A prediction whose mask fills its box; None answers nothing."""
    counts = None
    if box is not None:
        mask = np.zeros((10, 20), dtype=np.uint8, order="F")
        mask[box[1] : box[3], box[0] : box[2]] = 1
        counts = coco.encode(mask)["counts"].decode()
    x0, y0, x1, y1 = box or (None,) * 4
    peak_x, peak_y = peak or (None, None)
    return {
        "method": method, "draw": 0, "sample_id": sample_id, "image_id": "q" if sample_id == "c" else "p",
        "x0": x0, "y0": y0, "x1": x1, "y1": y1, "peak_x": peak_x, "peak_y": peak_y,
        "mask_counts": counts, "mask_height": 10, "mask_width": 20, "error": None, **more,
    }  # fmt: skip


@pytest.fixture
def predictions() -> pd.DataFrame:
    """a: right half of the object (IoU .5), pointing at its middle; b: failed; c: exact, pointing elsewhere."""
    return pd.DataFrame(
        [
            row("a", (5, 0, 10, 4), peak=(5.0, 2.0)),
            row("b", None, error="no image"),
            row("c", (4, 4, 8, 8), peak=(8.0, 8.0)),  # the box ends before its x1 and y1
            row("a", (0, 0, 20, 10), method=CENTRE),
            row("b", (0, 0, 20, 10), method=CENTRE),
            row("c", (0, 0, 20, 10), method=CENTRE),
        ]
    )


def test_scores_by_hand(predictions: pd.DataFrame, groups: list[ImageGroup]) -> None:
    scores = Truth(groups).score(predictions)
    np.testing.assert_allclose(scores["box_iou"], [0.5, 0, 1, 0.2, 0.05, 0.08], rtol=0, atol=1e-12)
    assert scores["intersection"].tolist() == [20, 0, 16, 40, 10, 16]
    assert scores["union"].tolist() == [40, 10, 16, 200, 200, 200]  # of the failed one: the object's own area
    assert scores["answered"].tolist() == [True, False, True, True, True, True]
    assert scores["pointed"].tolist() == [True, False, False, False, False, False]
    assert scores[["true_x0", "true_y0", "true_x1", "true_y1"]].iloc[1].tolist() == [10, 5, 20, 6]
    assert scores[["peak_x", "peak_y"]].iloc[[0, 2]].to_numpy().tolist() == [[5, 2], [8, 8]]
    assert scores["peak_x"].isna().tolist() == [False, True, False, True, True, True]
    assert set(zip(scores["image_width"], scores["image_height"], strict=True)) == {(20, 10)}
    assert scores["error"].isna().tolist() == [True, False, True, True, True, True]
    assert scores["error"][1] == "no image"
    pd.testing.assert_index_equal(scores.index, predictions.index)


def test_an_empty_mask_counts_like_no_mask(groups: list[ImageGroup]) -> None:
    scores = Truth(groups).score(pd.DataFrame([row("a", (3, 3, 3, 3)), row("a", None)]))
    assert scores[["intersection", "union"]].to_numpy().tolist() == [[0, 40], [0, 40]]
    assert scores["box_iou"].tolist() == [0, 0]


def test_a_table_of_failures_only_scores_zero(groups: list[ImageGroup]) -> None:
    scores = Truth(groups).score(pd.DataFrame([row(i, None, error="x") for i in "abc"]))
    metrics = summarise(scores, CONFIG)[OWN]
    values = {name: metric["value"] for name, metric in metrics.items() if name not in ("pointing_chance", "map_kld")}
    assert values == dict.fromkeys(values, 0.0)
    assert metrics["map_kld"]["value"] == pytest.approx(52 * np.log(2))  # 0 would be perfect
    assert scores["union"].tolist() == [40, 10, 16]


def test_the_summary_counts_every_row(predictions: pd.DataFrame, groups: list[ImageGroup]) -> None:
    metrics = summarise(Truth(groups).score(predictions), CONFIG)
    own = {name: metric["value"] for name, metric in metrics[OWN].items()}
    assert own == pytest.approx(
        {
            "rec_acc@0.25": 2 / 3,
            "rec_acc@0.5": 2 / 3,  # an IoU of exactly .5 is a hit
            "rec_acc@0.75": 1 / 3,
            "rec_acc@0.9": 1 / 3,
            "rec_mean_iou": 1.5 / 3,
            "res_ciou": 36 / 66,
            "res_miou": 1.5 / 3,
            "pointing": 1 / 3,
            "pointing_5pct": 2 / 3,  # of c the peak is the corner itself
            "pointing_swapped": 0,
            "pointing_chance": 66 / 600,
            "res_pr@0.5": 2 / 3,  # so is a mask IoU of exactly .5
            **dict.fromkeys(["res_pr@0.6", "res_pr@0.7", "res_pr@0.8", "res_pr@0.9"], 1 / 3),
            **OF_NOTHING,  # the table holds no map
        },
        abs=1e-12,
    )
    centre = {name: metric["value"] for name, metric in metrics[CENTRE].items()}
    assert centre["res_ciou"] == pytest.approx(66 / 600, abs=1e-12)
    assert centre["rec_mean_iou"] == pytest.approx(0.33 / 3, abs=1e-12)
    assert "pointing" not in centre  # it has no map


def test_methods_come_in_the_order_of_the_tables(predictions: pd.DataFrame, groups: list[ImageGroup]) -> None:
    scores = Truth(groups).score(predictions.iloc[::-1])
    assert list(summarise(scores, CONFIG)) == [OWN, CENTRE]


def test_random_draws_are_averaged(groups: list[ImageGroup]) -> None:
    rows = [
        row("c", box, method="random_heads", draw=draw)
        for draw, box in enumerate([(4, 4, 8, 8), (0, 0, 1, 1), None, (4, 4, 8, 6)])
    ]
    metrics = summarise(Truth(groups).score(pd.DataFrame(rows)), CONFIG)["random_heads"]
    assert metrics["rec_acc@0.5"]["value"] == 0.5
    assert metrics["rec_mean_iou"]["value"] == pytest.approx(1.5 / 4, abs=1e-12)


def test_intervals_hold_the_value_whatever_the_order_of_the_rows(
    predictions: pd.DataFrame, groups: list[ImageGroup]
) -> None:
    scores = Truth(groups).score(predictions)
    first = summarise(scores, CONFIG)
    again = summarise(scores.iloc[::-1], CONFIG)[OWN]
    for name, metric in first[OWN].items():
        assert again[name] == pytest.approx(metric), name
    for name, metric in first[OWN].items():
        if name != "pointing_swapped":  # one image only: nothing is known
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert first[OWN]["pointing_swapped"] == {"value": 0.0, "low": 0.0, "high": 1.0}


def test_predictions_of_a_planted_head_score_full_marks_and_others_do_not(
    attention: Attention, group: ImageGroup
) -> None:
    plan = HeadPlan((HeadIndex(1, 0),), None, (HeadIndex(0, 0),), ((HeadIndex(0, 1),),))
    frame = pd.DataFrame(predict(group, [attention], plan, GroundingConfig(sigma=0.0), {}))
    metrics = summarise(Truth([group]).score(frame), CONFIG)
    values = {method: metric["res_ciou"]["value"] for method, metric in metrics.items()}
    # The centre box (20, 10, 60, 30) meets 200 pixels of the left object and 100 of the right one.
    assert values == pytest.approx(
        {
            OWN: 1.0,
            "best_iou_heads": 0.5,
            "mean_of_all_heads": 1.0,
            "random_heads": 0.0,
            CENTRE: 300 / (1000 + 1100),
        },
        abs=1e-12,
    )
    assert metrics[OWN]["rec_acc@0.75"]["value"] == 1.0
    assert metrics[OWN]["pointing"]["value"] == 1.0


def test_ratios_count_the_threshold_itself_and_failures() -> None:
    rows = pd.DataFrame({"box_iou": [0.5, 1.0, 0.0], "intersection": [90, 0, 0], "union": [100, 10, 0]})
    found = {m.key: np.divide(*map(np.sum, m.parts(rows))) for m in measured("centre_box", rows.columns)}
    assert found["rec_acc@0.5"] == pytest.approx(2 / 3) and found["rec_acc@0.75"] == pytest.approx(1 / 3)
    assert found["rec_mean_iou"] == pytest.approx(0.5)
    assert found["res_ciou"] == pytest.approx(90 / 110) and found["res_miou"] == pytest.approx(0.3)
    assert found["res_pr@0.9"] == pytest.approx(1 / 3)
