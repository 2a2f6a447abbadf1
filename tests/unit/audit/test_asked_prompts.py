"""The audit's figures of prompts, against loops over pixels and samples."""

import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco
from test_measure import BASE, HEADS, scene

from locheads.audit.asked_prompts import SHARES, asked_prompts, measure_prompts, prompt_records
from locheads.audit.choice_grid import Change
from locheads.audit.config import AuditConfig
from locheads.audit.effects import AuditPlan, head_key
from locheads.errors import ConfigError
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.predict import predict
from locheads.segmenters.config import Negatives, PointRule, PromptKind, SegmenterConfig
from locheads.segmenters.prompting import inner_points, prompt_of
from locheads.types import Sample

INNER = {"prompt": PromptKind.box_point, "points": PointRule.inner}
CHANGES = [
    Change("segmenter.prompt", {"prompt": PromptKind.points}),
    Change("segmenter.points", INNER | {"negatives": Negatives.lowest}),
    Change("segmenter.depth", INNER | {"depth": 0.75}),
    Change("segmenter.points", {"prompt": PromptKind.points, "points": PointRule.high}),
    Change("segmenter.margin", {"margin": 0.3}),
    Change("segmenter.margin", {"margin": 0.0}),  # the run's own
]
ASKED = asked_prompts(SegmenterConfig(), [CHANGES])


def by_loop(row: dict, sample: Sample, config: SegmenterConfig) -> dict[str, float]:
    """SHARES of one answer from their definitions, pixel by pixel."""
    points, box = config.prompt != PromptKind.box, config.prompt != PromptKind.points
    names = ["points_inside"] * points + ["points_beside"] * (config.negatives == Negatives.lowest)
    names += ["box_covers", "asked_box_iou"] * box
    if row["x0"] is None:
        return dict.fromkeys(names, 0.0)
    height, width = row["mask_height"], row["mask_width"]
    mask = coco.decode({"size": [height, width], "counts": row["mask_counts"]}).astype(bool)
    peak = None if row["peak_x"] is None else (row["peak_x"], row["peak_y"])
    prompt = prompt_of(
        config, tuple(row[k] for k in ("x0", "y0", "x1", "y1")), (width, height), peak, mask, row["fused"]
    )
    true = coco.decode(sample.mask).tolist()
    hit = lambda at: true[min(math.floor(at[1]), height - 1)][min(math.floor(at[0]), width - 1)]  # noqa: E731
    x0, y0, x1, y1 = prompt.box
    a0, b0, a1, b1 = sample.box
    covered = sum(true[y][x] for y in range(height) for x in range(width) if x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1)
    shared = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
    found = {
        "points_inside": sum(map(hit, prompt.points)) / max(len(prompt.points), 1),
        "points_beside": sum(1 - hit(at) for at in prompt.negatives) / max(len(prompt.negatives), 1),
        "box_covers": covered / sum(map(sum, true)),
        "asked_box_iou": shared / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared),
    }
    return {name: found[name] for name in names}


def test_every_sum_is_that_of_a_loop(tmp_path: Path) -> None:
    scenes = [scene(number, tmp_path) for number in range(12)]
    groups = [group for group, _ in scenes]
    plan = AuditPlan((BASE,), {head_key(BASE): HEADS}, {}, {})
    sums = measure_prompts(groups, [attention for _, attention in scenes], plan, {}, ASKED)
    heads = HeadPlan(HEADS, None, HEADS, ())
    expected = np.zeros_like(sums)
    for image, (group, attention) in enumerate(scenes):
        rows = {row["sample_id"]: row for row in predict(group, [attention], heads, BASE.grounding, {}, with_maps=True)
                if row["method"] == "localization_heads"}  # fmt: skip
        for sample in group.samples:
            for number, asked in enumerate(ASKED):
                for name, value in by_loop(rows[sample.sample_id], sample, asked.config).items():
                    expected[number, image, SHARES.index(name)] += value, 1
    np.testing.assert_allclose(sums, expected, atol=1e-9)
    assert sums[1, :, 0, 1].sum() == 48 and (sums[1, :, 2] == 0).all()  # points alone: no box
    # Negative control: the truth of another image gives other figures.
    assert np.abs(sums[:, 1:] - expected[:, :-1]).max() > 0.1
    assert len({round(float(sums[i, :, 0, 0].sum()), 6) for i in (1, 2, 3, 4)}) == 4  # each rule has its own


def test_the_runs_own_prompt_comes_first_and_none_comes_twice() -> None:
    assert [(a.option, a.value) for a in ASKED][:2] == [("", ""), ("segmenter.prompt", "points")]
    assert len(ASKED) == len(CHANGES)  # a margin of 0 is what the run asks
    with pytest.raises(ConfigError, match=r"segmenter\.points=inner is for prompts with points"):
        asked_prompts(SegmenterConfig(), [[Change("segmenter.points", {"points": PointRule.inner})]])


def test_records_hold_what_is_asked_and_differences_where_something_differs() -> None:
    sums = np.ones((len(ASKED), 8, 4, 2))
    sums[5, :4, 2, 0] = 0.5  # the box with a margin covers less
    records = prompt_records(ASKED, sums, 0.95)
    assert set(records[0]["metrics"]) == {"box_covers", "asked_box_iou"}
    assert set(records[1]["metrics"]) == {"points_inside"}
    changed = records[5]["metrics"]["box_covers"]
    assert changed["value"] == 0.75 and changed["difference"]["value"] == -0.25
    assert changed["difference"]["low"] < -0.25 < changed["difference"]["high"]
    assert "difference" not in records[5]["metrics"]["asked_box_iou"]


@pytest.mark.parametrize("prompts", [{"choice": ["score"]}, {"points": [{"prompt": "points", "rounds": 2}]}])
def test_what_only_a_segmenter_shows_is_refused(prompts: dict) -> None:
    with pytest.raises(ConfigError, match=r"audit\.prompts holds (choice|rounds), which is not measured without a seg"):
        AuditConfig(prompts=prompts)


def test_deep_points_keep_from_the_border() -> None:
    bar = np.zeros((11, 40), bool)
    bar[1:10, 1:39] = True  # up to five pixels from the outside
    for share in (0.0, 0.5, 0.8, 1.0):
        points = inner_points(bar, 12, share)
        depth = [min(x - 0.5, 39.5 - x, y - 0.5, 10.5 - y) for x, y in points]  # of the centre to the first one outside
        assert points and min(depth) >= share * 5
    assert min(min(x - 0.5, 39.5 - x, y - 0.5, 10.5 - y) for x, y in inner_points(bar, 40)) < 0.5 * 5
