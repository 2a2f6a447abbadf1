"""GREC and GRES against plain loops written from their definitions, on random expressions of no object to four; the
readings of public code differ where they must; what the other metrics leave out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.data.masks import around
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import METRIC, OBJECTS, PREDICTIONS, Named
from locheads.evaluation.rows import mask_counts, prediction_row
from locheads.evaluation.several import is_right, matches, overlaps, points_at, union_share
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import Truth, partners
from locheads.types import Box, ImageGroup, Sample

HEIGHT, WIDTH, CASES = 30, 40, 400


def random_box(rng: np.random.Generator) -> Box:
    x0, y0 = rng.integers(0, WIDTH - 8), rng.integers(0, HEIGHT - 8)
    return float(x0), float(y0), float(x0 + rng.integers(4, 9)), float(y0 + rng.integers(4, 9))


def jittered(box: Box, rng: np.random.Generator, scale: float) -> Box:
    x0, y0, x1, y1 = np.array(box) + rng.normal(0, scale, 4)
    return min(x0, x1 - 1), min(y0, y1 - 1), x1, y1


def filled(boxes: list[Box]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[max(int(y0), 0) : int(y1), max(int(x0), 0) : int(x1)] = True
    return mask


def sample(number: int, boxes: list[Box] | None) -> Sample:
    code = {
        "size": [HEIGHT, WIDTH],
        "counts": mask_counts(filled(boxes or [(1, 1, 5, 5)]) if boxes != [] else filled([])),
    }
    objects = None if boxes is None else tuple(boxes)
    return Sample(str(number), str(number), f"thing {number}", around(objects or ()), code, "", boxes=objects)


class Case:
    """A random expression with its answer: boxes by their scores, of which `n` are the answer, and a mask."""

    def __init__(self, number: int, rng: np.random.Generator) -> None:
        self.objects = [random_box(rng) for _ in range(rng.integers(0, 5))]
        kept = [box for box in self.objects if rng.random() < 0.9]
        boxes = [jittered(box, rng, rng.choice([0.1, 0.7, 2])) for box in kept]
        boxes += [random_box(rng) for _ in range(rng.integers(0, 2))]
        self.boxes = [boxes[i] for i in rng.permutation(len(boxes))]
        self.failed = rng.random() < 0.05
        # A later decision may say that none is there although there are candidates, and a mask.
        self.n = 0 if self.failed or rng.random() < 0.15 else len(self.boxes)
        # Another model's mask may be empty though it did not say "none".
        self.mask = filled([] if self.failed or rng.random() < 0.1 else self.boxes)
        self.sample = sample(number, self.objects)

    def row(self, group: ImageGroup) -> dict[str, Any]:
        """As in a file of predictions."""
        if self.failed:
            return prediction_row(group, self.sample, PREDICTIONS, error="it broke")
        found = {
            "candidate_boxes": self.boxes, "candidate_scores": [1.0] * len(self.boxes), "n_answered": self.n,
            "objects_mask": mask_counts(self.mask),
        }  # fmt: skip
        return prediction_row(group, self.sample, PREDICTIONS) | found


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    rng = np.random.default_rng(7)
    return [Case(number, rng) for number in range(CASES)]


@pytest.fixture(scope="module")
def metrics(cases: list[Case]) -> dict[str, float]:
    groups = [ImageGroup(str(i), Path(f"{i}.jpg"), WIDTH, HEIGHT, (case.sample,)) for i, case in enumerate(cases)]
    rows = [case.row(group) for case, group in zip(cases, groups, strict=True)]
    scores = Truth(groups).score(pd.DataFrame(rows))
    return {key: found["value"] for key, found in summarise(scores, EvaluationConfig())[PREDICTIONS].items()}


# The definitions, by plain loops.


def plain_overlap(a: Box, b: Box, generalised: bool) -> float:
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across
    whole = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return across / union - ((whole - union) / whole if generalised else 0.0)


def plain_f1(answered: list[Box], objects: list[Box], generalised: bool) -> float:
    """As the publishers match: the best pair of all first, its box and its object are used up."""
    if not objects:
        return float(not answered)
    left = {(i, j): plain_overlap(a, o, generalised) for i, a in enumerate(answered) for j, o in enumerate(objects)}
    found = 0
    while left:
        (i, j), best = max(left.items(), key=lambda item: item[1])
        if best < 0.5:
            break
        found += 1
        left = {pair: value for pair, value in left.items() if pair[0] != i and pair[1] != j}
    return 2 * found / (2 * found + (len(answered) - found) + (len(objects) - found))


def plain_grec(cases: list[Case], generalised: bool = True) -> float:
    hits = [not c.failed and plain_f1(c.boxes[: c.n], c.objects, generalised) >= 1 for c in cases]
    return sum(hits) / len(cases)


def pixels(case: Case) -> tuple[int, int, int]:
    """(shared, union, those of the objects), pixel by pixel."""
    truth, shared, union, own = filled(case.objects), 0, 0, 0
    for y in range(HEIGHT):
        for x in range(WIDTH):
            shared += bool(case.mask[y, x] and truth[y, x])
            union += bool(case.mask[y, x] or truth[y, x])
            own += bool(truth[y, x])
    return shared, union, own


def plain_gres(cases: list[Case], reading: str) -> tuple[float, float]:
    """(gIoU, cIoU) of "official", "gsva" and "lisa"."""
    ious, above, below = [], 0, 0
    for case in cases:
        shared, union, own = pixels(case)
        says_none = case.n == 0 and not case.failed
        if reading == "lisa":
            shared, union = (0, own) if says_none else (shared, union)
            ious.append(1.0 if union == 0 and not case.failed else shared / max(union, 1))
            above, below = above + shared, below + union
        elif not case.objects:
            ious.append(1.0 if says_none else 0.0)
            below += 0 if says_none else union
        else:
            shared = 0 if says_none and reading == "official" else shared
            ious.append(shared / union)
            above, below = above + shared, below + union
    return sum(ious) / len(ious), above / below


def test_grec(cases: list[Case], metrics: dict[str, float]) -> None:
    assert metrics["grec_pr"] == pytest.approx(plain_grec(cases), abs=1e-9)
    assert metrics["grec_pr_iou"] == pytest.approx(plain_grec(cases, generalised=False), abs=1e-9)
    absent = [c for c in cases if not c.objects]
    targeted = [c for c in cases if c.objects]
    assert len(absent) > 40 and any(c.failed for c in absent)
    right = [c.n == 0 and not c.failed for c in absent]
    assert metrics["n_acc"] == pytest.approx(sum(right) / len(absent), abs=1e-9)
    assert metrics["t_acc"] == pytest.approx(sum(c.n > 0 for c in targeted) / len(targeted), abs=1e-9)
    assert 0.2 < metrics["grec_pr"] < metrics["grec_pr_iou"] < 0.9


@pytest.mark.parametrize(("reading", "suffix"), [("official", ""), ("gsva", "_gsva"), ("lisa", "_lisa")])
def test_gres(cases: list[Case], metrics: dict[str, float], reading: str, suffix: str) -> None:
    giou, ciou = plain_gres(cases, reading)
    assert metrics["gres_giou" + suffix] == pytest.approx(giou, abs=1e-9)
    assert metrics["gres_ciou" + suffix] == pytest.approx(ciou, abs=1e-9)


def test_the_readings_of_gres_differ(metrics: dict[str, float]) -> None:
    assert (
        len({round(metrics[f"gres_{m}{suffix}"], 6) for m in ("giou", "ciou") for suffix in ("", "_gsva", "_lisa")})
        == 6
    )
    assert metrics["gres_giou_gsva"] > metrics["gres_giou"]


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_precision_of_gres(cases: list[Case], metrics: dict[str, float], threshold: float) -> None:
    targeted = [c for c in cases if c.objects]
    hits = [(c.n > 0 or c.failed) and pixels(c)[0] / pixels(c)[1] >= threshold for c in targeted]
    assert metrics[f"gres_pr@{threshold}"] == pytest.approx(sum(hits) / len(targeted), abs=1e-9)


def test_hits_by_the_generalised_iou_are_hits_by_iou_and_not_the_other_way_round() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(2_000):
        box = (10.0, 10.0, 10.0 + rng.integers(20, 200), 10.0 + rng.integers(20, 200))
        other = jittered(box, rng, 0.2 * min(box[2] - 10, box[3] - 10))
        hits.append([is_right(np.array([other]), np.array([box]), generalised) for generalised in (True, False)])
    generalised, plain = np.array(hits).T
    assert not (generalised & ~plain).any()
    # 7.2 % at this jitter, a fifth of the short side.
    assert 0.055 < (generalised != plain).sum() / plain.sum() < 0.09


def boxes(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def test_overlaps_worked_out_by_hand() -> None:
    # Two squares of 4 pixels side by side, one pixel apart: nothing shared, 8 of the 10 around them covered.
    assert overlaps(boxes([[0, 0, 2, 2]]), boxes([[3, 0, 5, 2]]))[0, 0] == pytest.approx(-0.2)
    assert overlaps(boxes([[0, 0, 2, 2]]), boxes([[3, 0, 5, 2]]), generalised=False)[0, 0] == 0
    assert overlaps(boxes([[0, 0, 2, 2]]), boxes([[0, 0, 2, 1]]))[0, 0] == 0.5
    # The greedy pair takes the best of all: of three answers two remain for the other object, and none fits.
    assert matches(np.array([[0.9, 0.6], [0.8, 0.1]])) == 1
    assert matches(np.array([[0.6, 0.1], [0.1, 0.5]])) == 2


def test_expressions_that_name_one_object_or_any() -> None:
    far, near = (30.0, 20.0, 38.0, 28.0), (2.0, 2.0, 10.0, 10.0)
    group = ImageGroup(
        "7", Path("7.jpg"), WIDTH, HEIGHT, tuple(map(sample, range(4), [[near], [near, far], [], [far]]))
    )
    point = (34.0, 24.0)
    rows = [
        prediction_row(group, s, PREDICTIONS, box=far, counts=mask_counts(filled([far])), point=point)
        for s in group.samples
    ]
    scores = Truth([group]).score(pd.DataFrame(rows).assign(method="localization_heads"))
    assert scores[OBJECTS].tolist() == [1, 2, 0, 1]
    found = summarise(scores, EvaluationConfig())["localization_heads"]
    assert found["rec_acc@0.5"]["value"] == 1 / 2  # of the two that name one object
    assert found["pointing"]["value"] == 2 / 3  # of the three that name any
    assert found["res_ciou"]["value"] == (64 + 64) / (128 + 128 + 64)
    assert found["grec_pr"]["value"] == 1 / 4 and found["n_acc"]["value"] == 0
    of_near, of_far = 64 / (WIDTH * HEIGHT), 128 / (WIDTH * HEIGHT)
    assert found["pointing_chance"]["value"] == pytest.approx((2 * of_near + of_far) / 3)
    # Each of the two that mean different objects has the other for a partner; that of both, or of none, has nothing.
    assert partners([group]) == {"0": "3", "3": "0"}
    slices = {
        s["slice"]: s
        for s in summarise_slices(scores, "localization_heads", EvaluationConfig())
        if s["by"] == "objects"
    }
    assert {name: part["n_expressions"] for name, part in slices.items()} == {"none": 1, "one": 2, "two": 1}
    assert "rec_acc@0.5" not in slices["none"]["metrics"] and "rec_acc@0.5" not in slices["two"]["metrics"]


def test_without_several_objects_nothing_changes() -> None:
    group = ImageGroup("7", Path("7.jpg"), WIDTH, HEIGHT, (sample(0, None),))
    scores = Truth([group]).score(pd.DataFrame([prediction_row(group, group.samples[0], PREDICTIONS)]))
    assert OBJECTS not in scores and not {"grec", "n_answered"} & {*scores}
    assert not any(
        key.startswith(("gre", "n_acc", "t_acc")) for key in summarise(scores, EvaluationConfig())[PREDICTIONS]
    )


def test_one_box_is_an_answer_and_no_box_says_none() -> None:
    groups = [
        ImageGroup(str(i), Path("x.jpg"), WIDTH, HEIGHT, (sample(i, own),))
        for i, own in enumerate([[(1.0, 1.0, 5.0, 5.0)], []])
    ]
    one, none = (
        prediction_row(g, g.samples[0], PREDICTIONS, box=box)
        for g, box in zip(groups, [(1.0, 1.0, 5.0, 5.0), None], strict=True)
    )
    scores = Truth(groups).score(pd.DataFrame([one, none]))
    assert scores["n_answered"].tolist() == [1, 0] and scores["grec"].all()
    failed = Truth(groups).score(pd.DataFrame([one, none | {"error": "broken"}]))
    assert failed["n_answered"].tolist() == [1, -1] and failed["grec"].tolist() == [True, False]


def test_points_and_shares() -> None:
    two: list[Box] = [(0.0, 0.0, 2.0, 2.0), (8.0, 8.0, 10.0, 10.0)]
    points = np.array([[1, 1], [9, 9], [np.nan, 1], [1, 1]])
    assert points_at(points, [two, two, two, []]).tolist() == [True, True, False, False]
    # Two boxes of 4 x 4 that share 2 x 4, the second cut by the border: 4 x 4 + 1 x 4.
    assert union_share([(0.0, 0.0, 4.0, 4.0), (2.0, 0.0, 6.0, 4.0)], 5, 4) == 1.0
    assert union_share([(0.0, 0.0, 1.0, 1.0), (3.0, 3.0, 4.0, 4.0)], 5, 4) == 2 / 20
    assert union_share([], 5, 4) == 0


def test_only_the_precisions_of_gres_leave_absent_ones_out() -> None:
    own = {key: METRIC[key].of for key in METRIC if key.startswith(("grec", "gres", "n_acc", "t_acc"))}
    assert {key for key, of in own.items() if of != Named.ANY} == {f"gres_pr@{t}" for t in (0.7, 0.8, 0.9)}
    assert coco.area({"size": [HEIGHT, WIDTH], "counts": sample(0, []).mask["counts"]}) == 0
