"""The heads that each method uses, and what grounding with them gives."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco

from locheads.data.masks import box_code
from locheads.evaluation.methods import HeadPlan, centre_box, heads_maps, methods_of, random_heads, take
from locheads.evaluation.predict import direct_row
from locheads.grounding.config import GroundingConfig
from locheads.types import Attention, Box, HeadIndex, ImageGroup

PLAIN = GroundingConfig(sigma=0.0)
A, B, C = HeadIndex(0, 1), HeadIndex(1, 0), HeadIndex(1, 1)
ELIGIBLE = [[False, True, True], [True, False, True]]


def test_random_heads_are_the_same_for_the_same_seed_and_others_for_another(discovery) -> None:
    found = discovery(np.zeros((8, 8)).tolist())
    first = random_heads(found.eligible, 3, 10, seed=0)
    assert random_heads(found.eligible, 3, 10, seed=0) == first
    assert random_heads(found.eligible, 3, 10, seed=1) != first
    assert random_heads(found.eligible, 3, 4, seed=0) == first[:4]  # more draws do not change the earlier ones
    assert len(set(first)) > 5


def test_random_heads_are_eligible_and_distinct_within_a_draw(discovery) -> None:
    found = discovery(np.zeros((2, 3)).tolist(), ELIGIBLE)
    draws = random_heads(found.eligible, 3, 50, seed=4)
    admitted = {HeadIndex(0, 1), HeadIndex(0, 2), HeadIndex(1, 0), HeadIndex(1, 2)}
    assert {head for heads in draws for head in heads} == admitted
    assert {len(set(heads)) for heads in draws} == {3}
    assert all(list(heads) == sorted(heads) for heads in draws)


def test_random_heads_takes_all_where_fewer_are_eligible(discovery) -> None:
    found = discovery(np.zeros((2, 3)).tolist(), ELIGIBLE)
    everything = (HeadIndex(0, 1), HeadIndex(0, 2), HeadIndex(1, 0), HeadIndex(1, 2))
    assert random_heads(found.eligible, 9, 2, seed=0) == (everything, everything)


def test_methods_of_a_sample_name_the_heads_of_each() -> None:
    plan = HeadPlan(fixed=(A, B), greedy=None, best_iou=(C,), random=((A,), (B,)), best_rec=(B, A))
    assert methods_of(plan, "any") == [
        ("localization_heads", 0, (A, B)),
        ("best_rec_heads", 0, (B, A)),
        ("best_iou_heads", 0, (C,)),
        ("mean_of_all_heads", 0, None),
        ("random_heads", 0, (A,)),
        ("random_heads", 1, (B,)),
    ]


def test_greedy_selection_gives_each_sample_its_own_heads_and_an_unknown_one_none() -> None:
    plan = HeadPlan(fixed=(A, B), greedy={"s": [C, A]}, best_iou=(C,), random=())
    assert plan.heads("s") == (C, A)
    assert plan.heads("other") == ()


def test_maps_to_ground_are_those_of_the_heads_with_zeros_for_a_set_that_has_fewer(attention: Attention) -> None:
    maps, sinks, errors = heads_maps([(attention, 1, (B, A)), (attention, 0, (C,)), (attention, 0, None)], (8, 8))
    np.testing.assert_array_equal(maps[0], [attention.maps[1, 1, 0], attention.maps[1, 0, 1]])
    np.testing.assert_array_equal(maps[1], [attention.maps[0, C.layer, C.head], np.zeros((8, 8))])
    np.testing.assert_allclose(maps[2, 0], attention.maps[0].mean(axis=(0, 1)), rtol=0, atol=1e-7)
    assert maps[2, 1].sum() == 0
    assert sinks is None and errors == [None] * 3


def test_take_keeps_the_order_of_the_heads(attention: Attention) -> None:
    maps = take(attention, 0, [B, A])
    np.testing.assert_array_equal(maps, [attention.maps[0, 1, 0], attention.maps[0, 0, 1]])


def test_what_cannot_be_grounded_is_zeros_and_a_reason(attention: Attention) -> None:
    broken = attention.maps.copy()
    broken[0, 1, 0, 0, 0] = np.nan
    attention = replace(attention, maps=broken)
    maps, _, errors = heads_maps([(attention, 0, (B,)), (attention, 0, ()), (attention, 1, (B,))], (8, 8))
    assert errors == ["an attention map holds NaN or infinity", "no head is eligible for this sample", None]
    assert maps[:2].sum() == 0 < maps[2].sum()


def test_the_centre_box_is_the_middle_half_of_both_sides(group: ImageGroup) -> None:
    assert centre_box(group) == (20, 10, 60, 30)


@pytest.mark.parametrize(
    "box", [(3.5, 4.4, 20.1, 25.0), (-2.0, -0.5, 90.0, 41.0), (10.0, 10.0, 30.0, 30.0), (-9, -9, -1, -1)]
)
def test_a_box_is_the_same_pixels_as_truth_and_as_prediction(group: ImageGroup, box: Box) -> None:
    truth = box_code(box, group.width, group.height)
    expected = np.zeros((40, 80), dtype=bool) if truth is None else coco.decode(truth).astype(bool)
    counts = direct_row(group, group.samples[0], box)["mask_counts"]
    found = coco.decode({"size": [group.height, group.width], "counts": counts})
    np.testing.assert_array_equal(found.astype(bool), expected)
