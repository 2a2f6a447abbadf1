"""One row per expression and method, whatever goes wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.evaluation.map_metrics import MAP_METRICS, OF_NOTHING
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.predict import Row, predict
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.types import Attention, HeadIndex, ImageGroup

PLAIN = GroundingConfig(sigma=0.0)
PLAN = HeadPlan(
    fixed=(HeadIndex(1, 0), HeadIndex(0, 0)),
    greedy=None,
    best_iou=(HeadIndex(1, 0),),
    random=((HeadIndex(0, 1),), (HeadIndex(1, 1),)),
)
ROWS_PER_SAMPLE = [
    ("localization_heads", 0),
    ("best_iou_heads", 0),
    ("mean_of_all_heads", 0),
    ("random_heads", 0),
    ("random_heads", 1),
    ("centre_box", 0),
]


def box(row: Row) -> tuple:
    return row["x0"], row["y0"], row["x1"], row["y1"]


def table(rows: list[Row]) -> dict[tuple[str, str, int], Row]:
    found = {(row["sample_id"], row["method"], row["draw"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_every_sample_has_one_row_per_method_and_draw(attention: Attention, group: ImageGroup) -> None:
    rows = list(predict(group, [attention], PLAN, PLAIN, {}))
    assert [(row["sample_id"], row["method"], row["draw"]) for row in rows] == [
        (sample_id, *method) for sample_id in ("left", "right") for method in ROWS_PER_SAMPLE
    ]
    assert {row["error"] for row in rows} == {None}


def test_samples_that_are_stored_apart_get_the_rows_of_those_stored_together(
    attention: Attention, group: ImageGroup
) -> None:
    apart = [
        replace(attention, sample_ids=(sample_id,), maps=attention.maps[[i]], sums=None)
        for i, sample_id in enumerate(attention.sample_ids)
    ]
    together = list(predict(group, [attention], PLAN, PLAIN, {}))
    assert list(predict(group, apart, PLAN, PLAIN, {})) == together
    swapped = [replace(one, maps=other.maps) for one, other in zip(apart, apart[::-1], strict=True)]
    assert list(predict(group, swapped, PLAN, PLAIN, {})) != together


def test_a_row_holds_the_answer(attention: Attention, group: ImageGroup) -> None:
    row = table(list(predict(group, [attention], PLAN, PLAIN, {})))["left", "localization_heads", 0]
    assert (row["image_id"], row["ref_id"], row["expression"]) == ("p", "ref of left", "the left")
    assert row["heads"] == "L1H0 L0H0"
    assert box(row) == (10, 10, 30, 30)
    # The strongest cell (.2 + .3) is the first of the left half: row 3, column 1, whose middle is pixel (15, 15).
    assert (row["peak_x"], row["peak_y"]) == (15, 15)
    mask = coco.decode({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]})
    expected = np.zeros((40, 80), dtype=np.uint8)
    expected[10:30, 10:30] = 1
    np.testing.assert_array_equal(mask, expected)


def test_an_answer_without_a_box_is_empty_and_no_error(attention: Attention, group: ImageGroup) -> None:
    rows = table(list(predict(group, [attention], PLAN, PLAIN, {})))
    constant = rows["left", "random_heads", 1]
    assert box(constant) == (None,) * 4
    assert (constant["peak_x"], constant["peak_y"], constant["error"]) == (None, None, None)
    bar = rows["left", "random_heads", 0]  # looks at padding only
    assert box(bar) == (None,) * 4
    assert (bar["peak_x"], bar["peak_y"]) == (35, -15)
    for row in (constant, bar):
        code = {"size": [40, 80], "counts": row["mask_counts"]}
        assert coco.area(code) == 0


@pytest.mark.parametrize("attended", [True, False])
def test_a_failed_sample_has_an_empty_row_with_its_reason_for_every_method(
    attention: Attention, group: ImageGroup, attended: bool
) -> None:
    rest = replace(attention, sample_ids=("right",), maps=attention.maps[1:], sums=attention.sums[1:])
    failures = {"left": "p.jpg is no image.", "of another image": "whatever"}
    rows = list(predict(group, [rest] if attended else [], PLAN, PLAIN, failures))
    failed = [row for row in rows if row["sample_id"] == "left"]
    assert [(row["method"], row["draw"]) for row in failed] == ROWS_PER_SAMPLE
    assert {row["error"] for row in failed} == {"p.jpg is no image."}
    assert {row["mask_counts"] for row in failed} == {None}
    assert {box(row) for row in failed} == {(None,) * 4}
    assert len(rows) == 2 * len(ROWS_PER_SAMPLE)
    other = {row["error"] for row in rows if row["sample_id"] == "right"}
    assert other == ({None} if attended else {"the attention store lost it while the run was going on"})


def test_a_broken_map_fails_the_methods_that_use_it_and_no_other(attention: Attention, group: ImageGroup) -> None:
    maps = attention.maps.copy()
    maps[0, 0, 0, 5, 5] = np.nan
    rows = table(list(predict(group, [replace(attention, maps=maps)], PLAN, PLAIN, {})))
    failed = {key for key, row in rows.items() if row["error"] is not None}
    assert failed == {("left", "localization_heads", 0), ("left", "mean_of_all_heads", 0)}
    assert rows["left", "localization_heads", 0]["error"] == "an attention map holds NaN or infinity"
    assert rows["left", "localization_heads", 0]["heads"] == "L1H0 L0H0"
    assert box(rows["left", "best_iou_heads", 0]) == (10, 10, 30, 30)


def test_a_sample_without_greedy_heads_fails_by_that_method_only(attention: Attention, group: ImageGroup) -> None:
    plan = replace(PLAN, greedy={"left": [], "right": [HeadIndex(1, 0)]})
    rows = table(list(predict(group, [attention], plan, PLAIN, {})))
    failed = {key: row["error"] for key, row in rows.items() if row["error"] is not None}
    assert failed == {("left", "localization_heads", 0): "no head is eligible for this sample"}
    assert rows["right", "localization_heads", 0]["heads"] == "L1H0"


def test_maps_are_measured_on_their_own_object(attention: Attention, group: ImageGroup) -> None:
    rows = table(list(predict(group, [attention], PLAN, PLAIN, {})))
    # L1H0 looks exactly at the object, with the same weight in each of its cells.
    exact = {name: rows["left", "best_iou_heads", 0][name] for name in MAP_METRICS}
    assert exact == pytest.approx({"map_energy": 1, "map_kld": 0, "map_sim": 1, "map_nss": np.sqrt(15)}, abs=1e-6)
    # L1H0 + L0H0: the left half of the object has .5, the right half .2.
    fused = rows["right", "localization_heads", 0]
    assert fused["map_sim"] == pytest.approx(0.5 + 0.4 / 1.4)
    assert fused["map_energy"] == pytest.approx(1)
    on_the_bar, nowhere = rows["left", "random_heads", 0], rows["left", "random_heads", 1]
    assert (on_the_bar["map_energy"], on_the_bar["map_sim"]) == (0, 0)
    assert nowhere["map_energy"] == pytest.approx(4 / 64)
    assert {rows["left", "centre_box", 0][name] for name in MAP_METRICS} == {None}


def test_failed_maps_are_scored_as_nothing_and_boxes_without_a_map_not_at_all(group: ImageGroup) -> None:
    rows = pd.DataFrame(predict(group, [], PLAN, PLAIN, {}))
    scores = Truth([group]).score(rows).set_index("method")[list(MAP_METRICS)]
    assert scores.loc["centre_box"].isna().all(axis=None)
    for method in ("localization_heads", "random_heads"):
        assert scores.loc[method].drop_duplicates().to_dict("records") == [OF_NOTHING]
