"""PNG's figures against plain loops: average recall over thresholds, Acc@0.5, and soft IoU through 256 squared."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pycocotools import mask as coco

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import METRIC, PREDICTIONS, measured
from locheads.evaluation.phrase_metrics import resized_mask_iou
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup

AVERAGE_RECALL, ACC = METRIC["png_average_recall"], METRIC["png_acc@0.5"]
SIDE = 16
"""Instead of 256, so that loops over pixels end."""


def code(mask: np.ndarray) -> dict[str, object]:
    made = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": made["counts"].decode()}


def area_below_recall(ious: np.ndarray) -> float:
    """From the definition: at every threshold the share of phrases that reach it."""
    thresholds = np.arange(0, 1, 0.00001)
    area = 0.0
    for here, after in zip(thresholds[:-1].tolist(), thresholds[1:].tolist(), strict=True):
        area += (after - here) * (float((ious >= here).sum()) / len(ious))
    return area


def test_average_recall_is_the_area_below_the_curve_and_nearly_the_mean_iou() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 7, 250):
        ious = np.concatenate([rng.uniform(0, 1, n), [0.0, 1.0, 0.5, 0.00001]])
        above, below = AVERAGE_RECALL.parts({"segment_iou": ious})
        assert above.sum() / below.sum() == pytest.approx(area_below_recall(ious), abs=1e-9)
        assert above.sum() / below.sum() == pytest.approx(ious.mean(), abs=1e-5)
    assert AVERAGE_RECALL.parts({"segment_iou": np.array([1.0, 0.0])})[0] == pytest.approx([0.99999, 0.00001], abs=1e-9)
    # Half of the thresholds would be another figure.
    assert abs(area_below_recall(ious**2) - ious.mean()) > 0.05


def test_a_mask_iou_of_exactly_one_half_is_no_hit() -> None:
    assert ACC.parts({"segment_iou": np.array([0.5, 0.5000001, 0.4])})[0].tolist() == [0, 1, 0]
    assert METRIC["res_pr@0.5"].parts({"intersection": np.array([1]), "union": np.array([2])})[0].tolist() == [1]


def resized(mask: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Linear interpolation between the centres of pixels, one pixel after the other."""

    def beside(i: int, n: int, to: int) -> tuple[int, int, float]:
        at = min(max((i + 0.5) * n / to - 0.5, 0.0), n - 1.0)
        low = int(at)
        return low, min(low + 1, n - 1), at - low

    made = []
    for r in range(height):
        top, bottom, v = beside(r, len(mask), height)
        line = []
        for c in range(width):
            left, right, h = beside(c, len(mask[0]), width)
            upper = mask[top][left] * (1 - h) + mask[top][right] * h
            line.append(upper * (1 - v) + (mask[bottom][left] * (1 - h) + mask[bottom][right] * h) * v)
        made.append(line)
    return made


def soft_iou(one: np.ndarray, other: np.ndarray) -> float:
    p, t = (resized(resized(mask.tolist(), SIDE, SIDE), *mask.shape) for mask in (one, other))
    shared = union = 0.0
    for line_p, line_t in zip(p, t, strict=True):
        for a, b in zip(line_p, line_t, strict=True):
            shared, union = shared + a * b, union + a + b - a * b
    return shared / union


def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle, and the same moved and changed a little."""
    height, width = rng.integers(10, 34, 2)
    masks = np.zeros((2, height, width))
    y, x = rng.integers(0, height - 6), rng.integers(0, width - 6)
    masks[0, y : y + 6, x : x + 6] = 1
    masks[1, y + rng.integers(0, 4) : y + 7, max(0, x - rng.integers(0, 4)) : x + 5] = 1
    return masks[0], masks[1]


def test_resized_masks_agree_with_a_plain_loop_and_with_torch() -> None:
    rng = np.random.default_rng(1)
    differs = 0
    for _ in range(200):
        one, other = blobs(rng)
        found = resized_mask_iou(code(one), code(other), SIDE)
        assert found == pytest.approx(soft_iou(one, other), abs=1e-9)
        stack = torch.tensor(np.stack([one, other]))[None]
        back = torch.nn.functional.interpolate(torch.nn.functional.interpolate(stack, (SIDE, SIDE), mode="bilinear"),
                                               one.shape, mode="bilinear")[0]  # fmt: skip
        shared = float((back[0] * back[1]).sum())
        assert found == pytest.approx(shared / (float(back.sum()) - shared), abs=1e-9)
        hard = np.logical_and(one, other).sum() / np.logical_or(one, other).sum()
        differs += abs(found - hard) > 0.01
    assert differs > 150
    assert resized_mask_iou(code(np.zeros((9, 9))), code(np.zeros((9, 9))), SIDE) == 0


@pytest.fixture
def scored(group: ImageGroup) -> Callable[..., pd.DataFrame]:
    """Scores of 300 random masks as phrases of a panoptic data set; every tenth fails."""

    def make(side: int | None, panoptic: bool = True) -> pd.DataFrame:
        rng = np.random.default_rng(2)
        samples, rows = [], []
        for i in range(300):
            truth, answer = (np.zeros((40, 80), bool) for _ in range(2))
            y, x = rng.integers(0, 20, 2)
            truth[y : y + 15, x : x + 15] = True
            answer[y + rng.integers(0, 8) : y + 15, x : x + rng.integers(8, 20)] = True
            kinds = (("things", "stuff")[i % 2], ("plurals", "singulars")[i % 3 > 0])
            samples.append(replace(group.samples[0], sample_id=str(i), mask=code(truth), panoptic=panoptic,
                                   mask_side=side, kinds=kinds if panoptic else ()))  # fmt: skip
            rows.append({"method": PREDICTIONS, "draw": 0, "sample_id": str(i), "image_id": "p", "x0": 0.0, "y0": 0.0,
                         "x1": 9.0, "y1": 9.0, "peak_x": None, "peak_y": None, "mask_height": 40, "mask_width": 80,
                         "mask_counts": code(answer)["counts"] if i % 10 else None, "error": None})  # fmt: skip
        return Truth([replace(group, samples=tuple(samples))]).score(pd.DataFrame(rows))

    return make


def test_a_whole_split_and_its_slices_agree_with_plain_loops(scored: Callable[..., pd.DataFrame]) -> None:
    scores = scored(None)
    ious = (scores["intersection"] / scores["union"]).to_numpy()
    np.testing.assert_allclose(scores["segment_iou"], ious, rtol=0, atol=1e-12)
    assert (ious[::10] == 0).all() and (np.delete(ious, np.arange(0, 300, 10)) > 0).all()
    found = summarise(scores, EvaluationConfig())[PREDICTIONS]
    assert found["png_average_recall"]["value"] == pytest.approx(area_below_recall(ious), abs=1e-9)
    assert found["png_acc@0.5"]["value"] == pytest.approx(sum(iou > 0.5 for iou in ious) / 300, abs=1e-9)
    members = {"things": [i for i in range(300) if i % 2 == 0], "stuff": [i for i in range(300) if i % 2],
               "plurals": [*range(0, 300, 3)], "singulars": [i for i in range(300) if i % 3]}  # fmt: skip
    slices = {s["slice"]: s for s in summarise_slices(scores, PREDICTIONS, EvaluationConfig()) if s["by"] == "kind"}
    assert set(slices) == set(members)
    for name, own in members.items():
        value = slices[name]["metrics"]["png_average_recall"]["value"]
        assert value == pytest.approx(ious[own].mean(), abs=1e-5) and slices[name]["n_expressions"] == len(own)


def test_the_original_reading_is_another_figure_where_masks_are_small(scored: Callable[..., pd.DataFrame]) -> None:
    plain, original = scored(None)["segment_iou"], scored(32)["segment_iou"]
    assert 0.001 < (plain - original).abs().mean() < 0.2 and (original[::10] == 0).all()
    assert abs(AVERAGE_RECALL.parts({"segment_iou": plain})[0].mean() - original.mean()) > 1e-4


def test_other_data_sets_have_none_of_it(scored: Callable[..., pd.DataFrame]) -> None:
    columns = scored(None, panoptic=False).columns
    assert not {"segment_iou", "best_box_iou", "kinds"} & set(columns)
    assert not {"png_average_recall", "phrase_r@1"} & {metric.key for metric in measured(PREDICTIONS, columns)}
