"""Clicks on screens: the point lies in the element's box, its edges included; by kind, against a plain loop."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from locheads.data.masks import box_mask
from locheads.data.prediction_files import Answer
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import METRICS, POINTS, PREDICTIONS, Place, shown, told
from locheads.evaluation.metrics import inside, touching
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import score_answers
from locheads.types import Box, ImageGroup, Sample

WIDTH, HEIGHT = 1920, 1080
CASES = 400


def sample(number: int, box: Box, element: str = "text", platform: str = "web", *, screen: bool = True) -> Sample:
    kinds = (element, f"{platform} {element}") if screen else ()
    mask = box_mask(box, WIDTH, HEIGHT, "here")
    return Sample(str(number), str(number), "press it", box, mask, element, kinds=kinds, screen=screen)


def cases() -> Iterator[tuple[Sample, tuple[float, float] | None]]:
    """Whole pixels, so that many points lie on an edge or a corner; now and then nothing was answered."""
    rng = np.random.default_rng(8)
    for number in range(CASES):
        x0, y0 = rng.integers(0, 1000, 2).tolist()
        box = (float(x0), float(y0), x0 + float(rng.integers(1, 60)), y0 + float(rng.integers(1, 60)))
        at = [box[2 * rng.integers(2) + i] + float(rng.choice([-1, 0, 0, 0, 1])) for i in range(2)]
        kind = str(rng.choice(["text", "icon"])), str(rng.choice(["mobile", "desktop", "web"]))
        yield sample(number, box, *kind), (at[0], at[1]) if rng.random() > 0.1 else None


def score(pairs: list[tuple[Sample, Answer]], method: str) -> pd.DataFrame:
    groups = [ImageGroup(s.sample_id, Path(f"{s.sample_id}.png"), WIDTH, HEIGHT, (s,)) for s, _ in pairs]
    return pd.concat([scored for _, scored in score_answers([a for _, a in pairs], groups, "absent", method)])


def test_points_agree_with_a_plain_loop_and_not_with_open_edges() -> None:
    pairs = list(cases())
    hits: dict[str, list[bool]] = {}
    for one, point in pairs:
        x0, y0, x1, y1 = one.box
        hit = point is not None and x0 <= point[0] <= x1 and y0 <= point[1] <= y1
        for key in ("all", *one.kinds):
            hits.setdefault(key, []).append(hit)
    scores = score([(one, Answer(one.sample_id, None, None, point=point)) for one, point in pairs], POINTS)
    found = summarise(scores, EvaluationConfig())[POINTS]
    assert found["click_acc"]["value"] == pytest.approx(np.mean(hits["all"]), abs=1e-9)
    assert "click_acc_centre" not in found  # a point is no box
    # 0.4 of them lie on an edge that the pointing game leaves out.
    assert found["pointing"]["value"] < found["click_acc"]["value"] - 0.2
    by_kind = {s["slice"]: s for s in summarise_slices(scores, POINTS, EvaluationConfig()) if s["by"] == "kind"}
    assert list(by_kind) == [
        "icon",
        "text",
        *(f"{p} {e}" for p in ("desktop", "mobile", "web") for e in ("icon", "text")),
    ]
    for key, part in by_kind.items():
        assert part["n_expressions"] == len(hits[key])
        assert part["metrics"]["click_acc"]["value"] == pytest.approx(np.mean(hits[key]), abs=1e-9)


def test_a_box_clicks_at_its_centre() -> None:
    boxes: list[tuple[Box | None, bool]] = [((0, 0, 200, 200), True), ((0, 0, 199, 200), False), (None, False)]
    pairs = [(sample(i, (100, 100, 120, 130)), Answer(str(i), box, None)) for i, (box, _) in enumerate(boxes)]
    scores = score(pairs, PREDICTIONS)
    assert scores["clicked_centre"].tolist() == [hit for _, hit in boxes]
    found = summarise(scores, EvaluationConfig())[PREDICTIONS]
    assert found["click_acc_centre"]["value"] == pytest.approx(1 / 3) and "click_acc" not in found


def test_the_edges() -> None:
    box = [10.0, 20.0, 30.0, 40.0]
    points = [[10, 20], [30, 40], [30, 20], [20, 40.001], [9.999, 30], [np.nan, 30]]
    assert touching(points, [box] * 6).tolist() == [True, True, True, False, False, False]
    assert inside(points, [box] * 6).tolist() == [True, False, False, False, False, False]


def test_only_screens_have_clicks_and_only_their_tables_show_them() -> None:
    pairs = [(sample(0, (1, 1, 5, 5), screen=False), Answer("0", (1, 1, 5, 5), None))]
    scores = score(pairs, PREDICTIONS)
    assert not {"clicked", "clicked_centre", "kinds"} & {*scores.columns}
    assert "kind" not in {s["by"] for s in summarise_slices(scores, PREDICTIONS, EvaluationConfig())}
    page = shown(Place.PAGE)
    common = {metric.key for metric in METRICS if not metric.of_some_data}
    assert {*told(page, {"rec_acc@0.5"})} == {*told(page, ())} == {*page} & common
    assert {*told(page, {"rec_acc@0.5", "click_acc"})} == {*page} & common | {"click_acc"}
    assert {*told(page, {"click_acc"})} == {"click_acc"}
