"""How well each head covers the object, against a count of pixels; the best of them; the paper's Fig. 6."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco
from scipy.stats import spearmanr

from locheads.evaluation.best_heads import best_heads_by_iou, figure6, head_iou
from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.fuse import binarise
from locheads.types import Attention, HeadIndex, ImageGroup, Sample


def test_iou_of_every_head_by_hand(attention: Attention, group: ImageGroup) -> None:
    # L0H0 finds half of the object and nothing else, L0H1 only padding, L1H0 all of it; L1H1 is constant.
    np.testing.assert_allclose(head_iou([attention], [group]), [[0.5, 0], [1, 0]], rtol=0, atol=1e-12)


def test_the_mean_runs_over_samples_of_all_images(attention: Attention, group: ImageGroup) -> None:
    one = replace(attention, sample_ids=("left",), maps=attention.maps[:1], sums=attention.sums[:1])
    swapped = replace(attention, maps=attention.maps[::-1])  # both look at the other object: IoU 0
    found = head_iou([one, swapped], [group])
    np.testing.assert_allclose(found, [[0.5 / 3, 0], [1 / 3, 0]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", [Preprocess.pad, Preprocess.squash])
@pytest.mark.parametrize("size", [(36, 24), (24, 36)])
def test_iou_equals_a_count_of_pixels_where_cells_are_whole_pixels(how: Preprocess, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(width)
    geometry = square_geometry(width, height, 192, 12, how)
    truth = rng.random((height, width)) > 0.6
    encoded = coco.encode(np.asfortranarray(truth, dtype=np.uint8))
    sample = Sample("s", "r", "x", (0, 0, 1, 1), encoded, "thing")
    maps = rng.random((1, 3, 2, 12, 12)).astype(np.float32)
    attention = Attention("p", ("s",), maps, maps.sum(axis=(-2, -1)), geometry)
    found = head_iou([attention], [ImageGroup("p", Path("p"), width, height, (sample,))])
    for layer in range(3):
        for head in range(2):
            shown = geometry.upsample(binarise(maps[0, layer, head]))
            assert found[layer, head] == pytest.approx((shown & truth).sum() / (shown | truth).sum(), abs=1e-12)


def test_what_a_crop_hides_of_the_object_counts_in_the_union() -> None:
    # The crop shows the middle 24 of 36 pixels; the object is the left 18, of which it shows 12.
    geometry = square_geometry(36, 24, 24, 12, Preprocess.center_crop)
    truth = np.zeros((24, 36), dtype=np.uint8, order="F")
    truth[:, :18] = 1
    maps = np.zeros((1, 1, 1, 12, 12), dtype=np.float32)
    maps[..., :6] = 1.0
    attention = Attention("p", ("s",), maps, maps.sum(axis=(-2, -1)), geometry)
    sample = Sample("s", "r", "x", (0, 0, 18, 24), coco.encode(truth), "thing")
    found = head_iou([attention], [ImageGroup("p", Path("p"), 36, 24, (sample,))])
    assert found[0, 0] == pytest.approx(12 / 18, abs=1e-12)


def test_without_any_sample_there_is_no_iou(group: ImageGroup) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        head_iou([], [group])


def test_the_best_by_iou_take_the_best_head_and_break_ties_by_layer_and_head(
    attention: Attention, group: ImageGroup
) -> None:
    iou = head_iou([attention], [group])
    assert best_heads_by_iou(iou, 1) == [HeadIndex(1, 0)]
    assert best_heads_by_iou(iou, 4) == [HeadIndex(1, 0), HeadIndex(0, 0), HeadIndex(0, 1), HeadIndex(1, 1)]


@pytest.mark.parametrize(
    ("frequency", "iou", "spearman"),
    [
        ([[0.9, 0.5], [0.3, 0.1]], [[0.8, 0.4], [0.2, 0.1]], 1.0),
        ([[0.9, 0.5], [0.3, 0.1]], [[0.1, 0.2], [0.4, 0.8]], -1.0),
        # Ranks 4 3 2 1 and 3 4 2 1: 1 - 6 * (1 + 1) / (4 * 15).
        ([[0.9, 0.5], [0.3, 0.1]], [[0.4, 0.8], [0.2, 0.1]], 0.8),
        # The head below 1 % would spoil it, and does not count.
        ([[0.9, 0.5], [0.3, 0.0099]], [[0.8, 0.4], [0.2, 0.9]], 1.0),
        ([[0.9, 0.5], [0.3, 0.01]], [[0.8, 0.4], [0.2, 0.9]], -0.2),
    ],
    ids=["monotone", "reversed", "one swap", "rare head left out", "head of exactly 1 % kept"],
)
def test_figure6_correlates_frequency_with_iou(discovery, frequency: list, iou: list, spearman: float) -> None:
    found = figure6(discovery(frequency), np.array(iou))
    assert found["spearman"] == pytest.approx(spearman, abs=1e-12)
    assert found["n_heads"] == len(found["points"]) == sum(f >= 0.01 for row in frequency for f in row)


def test_figure6_lists_its_points_the_most_frequent_first(discovery) -> None:
    found = figure6(discovery([[0.2, 0.0], [0.7, 0.4]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert found["points"] == [
        {"layer": 1, "head": 0, "frequency": 0.7, "iou": 0.3},
        {"layer": 1, "head": 1, "frequency": 0.4, "iou": 0.4},
        {"layer": 0, "head": 0, "frequency": 0.2, "iou": 0.1},
    ]


def test_the_p_value_of_figure6_is_small_for_many_agreeing_heads_only(discovery) -> None:
    frequency, iou = np.linspace(0.9, 0.1, 12).reshape(3, 4), np.linspace(0.8, 0.2, 12).reshape(3, 4)
    noise = np.random.default_rng(0).permutation(iou.ravel()).reshape(3, 4)
    assert figure6(discovery(frequency.tolist()), iou)["p_value"] < 0.001
    assert figure6(discovery(frequency.tolist()), noise)["p_value"] > 0.05


@pytest.mark.parametrize("n", [3, 4, 20, 200])
def test_figure6_equals_scipy_with_ties_and_without(discovery, n: int) -> None:
    random = np.random.default_rng(n)
    for decimals in (1, 6):
        frequency = np.round(random.uniform(0.1, 1, n), decimals)
        iou = np.round(frequency + random.normal(0, 0.3, n), decimals)
        frequency[0], iou[1] = 1.25, 2.5  # never constant
        expected = spearmanr(frequency, iou)
        found = figure6(discovery([frequency.tolist()]), iou[None])
        np.testing.assert_allclose((found["spearman"], found["p_value"]), tuple(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("frequency", "iou"),
    [
        ([[0.9, 0.5], [0.0, 0.0]], [[0.1, 0.2], [0.3, 0.4]]),
        ([[0.0, 0.0], [0.0, 0.0]], [[0.1, 0.2], [0.3, 0.4]]),
        ([[0.5, 0.5], [0.5, 0.5]], [[0.1, 0.2], [0.3, 0.4]]),
        ([[0.9, 0.5], [0.4, 0.3]], [[0.0, 0.0], [0.0, 0.0]]),
    ],
    ids=["two heads", "no head", "equal frequencies", "equal IoUs"],
)
def test_figure6_claims_nothing_where_there_is_nothing_to_correlate(discovery, frequency: list, iou: list) -> None:
    found = figure6(discovery(frequency), np.array(iou))
    assert (found["spearman"], found["p_value"]) == (None, None)
