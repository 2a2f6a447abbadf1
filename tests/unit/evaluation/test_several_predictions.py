"""Files of several boxes per expression, or none, against the official rules in plain loops."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.data.config import BoxFormat, PredictionsConfig
from locheads.data.prediction_files import Answer, read_predictions
from locheads.errors import DataError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import PREDICTIONS
from locheads.evaluation.summarise import summarise
from locheads.evaluation.truth import score_answers
from locheads.types import Box, ImageGroup, Sample

WIDTH, HEIGHT = 40, 30
SIZES = {str(i): (WIDTH, HEIGHT) for i in range(240)}
XYXY = PredictionsConfig(box_format=BoxFormat.xyxy)
Line = dict[str, object]


def box(rng: np.random.Generator) -> list[int]:
    x, y, w, h = rng.integers(0, (28, 18, 12, 12)).tolist()
    return [x, y, x + w + 1, y + h + 1]


def pixels(boxes: list[list[int]]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 1
    return mask


def case(i: int) -> tuple[Sample, Line]:
    """An expression of no to three objects, and an answer that jitters, drops and adds boxes."""
    rng = np.random.default_rng(i)
    objects = [box(rng) for _ in range(rng.integers(0, 4))]
    answers = [(np.array(own) + rng.integers(-1, 2, 4) * (rng.random() < 0.4)).tolist() for own in objects]
    answers = [own for own in answers if own[0] < own[2] and own[1] < own[3] and rng.random() < 0.9]
    answers += [box(rng)] * (rng.random() < 0.25)
    scores = [round(float(rng.uniform(0.7, 1) if rng.random() < 0.8 else rng.uniform(0, 0.7)), 2) for _ in answers]
    code = coco.encode(pixels(objects))
    code["counts"] = code["counts"].decode()
    whole = (0.0, 0.0, 0.0, 0.0) if not objects else tuple(map(float, np.array(objects)[0]))
    sample = Sample(str(i), str(i), "it", whole, code, "", boxes=tuple(tuple(map(float, own)) for own in objects))
    return sample, {"id": str(i), "box": answers, "scores": scores}


CASES = [case(i) for i in range(240)]
GROUPS = [ImageGroup(str(i), Path("none.png"), WIDTH, HEIGHT, tuple(s for s, _ in CASES[i : i + 4]))
          for i in range(0, 240, 4)]  # fmt: skip


def giou(a: Box, b: Box) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])  # noqa: E731
    union = area(a) + area(b) - shared
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union - (around - union) / around


def official(answered: list[Box], objects: list[Box]) -> bool:
    """F1 = 1: greedy matching by the generalised IoU, from 0.5 on."""
    if not objects:
        return not answered
    free_a, free_b, hits = [*answered], [*objects], 0
    while free_a and free_b:
        value, i, j = max((giou(a, b), -i, -j) for i, a in enumerate(free_a) for j, b in enumerate(free_b))
        if value < 0.5:
            break
        del free_a[-i], free_b[-j]
        hits += 1
    return 2 * hits == len(answered) + len(objects)


def by_loop(lines: list[Line], least: float) -> dict[str, float]:
    """GREC and GRES of official code, from lines and truth."""
    right, ious, none, some = [], [], [], []
    for (sample, _), line in zip(CASES, lines, strict=True):
        scores = line.get("scores", [1.0] * len(line["box"]))
        answered = [own for own, score in zip(line["box"], scores, strict=True) if score >= least]
        objects = [*sample.boxes]
        right.append(official(answered, objects))
        (some if objects else none).append(bool(answered))
        mine, true = (
            pixels(np.clip(answered, 0, (WIDTH, HEIGHT) * 2).tolist() if answered else []),
            coco.decode(sample.mask),
        )
        iou = (mine & true).sum() / max((mine | true).sum(), 1)
        ious.append(float(not answered) if not objects else float(iou) * bool(answered))
    return {"grec_pr": np.mean(right), "gres_giou": np.mean(ious), "n_acc": 1 - np.mean(none), "t_acc": np.mean(some)}


def read(folder: Path, lines: list[Line], form: PredictionsConfig = XYXY) -> list[Answer]:
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(read_predictions(folder / "p.jsonl", form, SIZES, "the split"))


def figures(answers: list[Answer]) -> dict[str, float]:
    scores = pd.concat([scored for _, scored in score_answers(answers, GROUPS, "absent")], ignore_index=True)
    found = summarise(scores, EvaluationConfig())[PREDICTIONS]
    return {name: found[name]["value"] for name in ("grec_pr", "gres_giou", "n_acc", "t_acc")}


@pytest.mark.parametrize("least", [0.7, 0.9])
def test_the_figures_are_those_of_the_official_rules_in_a_loop(least: float, tmp_path: Path) -> None:
    lines = [line for _, line in CASES]
    form = PredictionsConfig(box_format=BoxFormat.xyxy, min_score=least)
    found = figures(read(tmp_path, lines, form))
    assert found == pytest.approx(by_loop(lines, least), abs=1e-12)
    # Negative controls: the answers of the neighbours, and another threshold, give other figures.
    swapped = [{**line, "id": str(i)} for i, line in enumerate([*lines[1:], lines[0]])]
    assert figures(read(tmp_path, swapped, form))["grec_pr"] < found["grec_pr"] - 0.1
    assert abs(by_loop(lines, 0.0)["grec_pr"] - found["grec_pr"]) > 0.05
    assert 0.2 < found["grec_pr"] < 0.95 and 0.2 < found["n_acc"] < 1 and 0.2 < found["t_acc"] < 1


def test_without_scores_every_box_is_an_answer(tmp_path: Path) -> None:
    lines = [{"id": line["id"], "box": line["box"] or None} for _, line in CASES]
    loop = by_loop([{**line, "box": line["box"] or []} for line in lines], 0.0)
    assert figures(read(tmp_path, lines)) == pytest.approx(loop, abs=1e-12)


def test_a_csv_and_words_give_the_same_boxes(tmp_path: Path) -> None:
    boxes = [[1, 2, 11, 12], [3, 4, 9, 9]]
    line = {"id": "1", "box": boxes, "scores": [0.2, 0.9]}
    (expected,) = read(tmp_path, [line])
    assert expected.box == (3.0, 4.0, 9.0, 9.0) and expected.all.n_answered == 1
    assert expected.all.boxes == ((3.0, 4.0, 9.0, 9.0), (1.0, 2.0, 11.0, 12.0)) and expected.all.scores == (0.9, 0.2)
    assert expected.written.several
    table = 'id,box,scores\n1,"[[1, 2, 11, 12], [3, 4, 9, 9]]","[0.2, 0.9]"\n2,"[5, 6, 7, 8]",0.8\n3,,\n'
    (tmp_path / "p.csv").write_text(table)
    answers = list(read_predictions(tmp_path / "p.csv", XYXY, SIZES, "the split"))
    assert answers[0].all == expected.all
    assert [(a.all.boxes, a.all.n_answered) for a in answers[1:]] == [(((5.0, 6.0, 7.0, 8.0),), 1), ((), 0)]
    (words,) = read(tmp_path, [{"id": "1", "box": 'Two: {"bbox_2d": [1, 2, 11, 12]}, {"bbox_2d": [3, 4, 9, 9]}'}])
    assert words.all.boxes == tuple(tuple(map(float, own)) for own in boxes) and words.box == words.all.boxes[0]
    (none,) = read(tmp_path, [{"id": "1", "box": "There is none."}])
    assert (none.box, none.all.boxes, none.all.n_answered) == (None, (), 0)


def test_the_answer_of_a_single_object_is_the_best_box_whatever_its_score(tmp_path: Path) -> None:
    sample, _ = CASES[0]
    single = Sample("0", "0", "it", (3.0, 4.0, 9.0, 9.0), sample.mask, "")
    group = ImageGroup("0", Path("none.png"), WIDTH, HEIGHT, (single,))
    answers = read(tmp_path, [{"id": "0", "box": [[1, 2, 11, 12], [3, 4, 9, 9]], "scores": [0.1, 0.3]}])
    ((rows, scores),) = score_answers(answers, [group], "absent")
    assert scores["box_iou"].tolist() == [1.0] and "n_answered" not in rows[0]


BAD = {
    "fewer scores": ({"scores": [0.5]}, "has 2 boxes and the scores [0.5]: give every box a finite number of its own"),
    "no scores": ({"scores": None}, "has 2 boxes and the scores None"),
    "a word as score": ({"scores": [0.5, "high"]}, "has 2 boxes and the scores"),
    "NaN as score": ({"scores": [0.5, float("nan")]}, "has 2 boxes and the scores"),
    "three numbers": ({"box": [[1, 2, 3, 4], [1, 2, 3]]}, "has the box [1, 2, 3], which is not four finite numbers"),
    "nested too deep": ({"box": [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5]]]}, "which is not four finite numbers"),
    "no scores key": ({"scores": ...}, "has box, but the lines before have box and scores: give every line the same"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_line_is_named(case: str, tmp_path: Path) -> None:
    changes, sentence = BAD[case]
    good = {"id": "1", "box": [[1, 2, 3, 4], [5, 6, 7, 8]], "scores": [0.5, 0.7]}
    bad = {key: value for key, value in {**good, "id": "2", **changes}.items() if value is not ...}
    with pytest.raises(DataError) as caught:
        read(tmp_path, [good, bad])
    assert f"{tmp_path / 'p.jsonl'}, line 2 " in str(caught.value) and sentence in str(caught.value)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_scores_that_are_something_else_can_be_left_out(tmp_path: Path) -> None:
    form = PredictionsConfig(box_format=BoxFormat.xyxy, scores="")
    (answer,) = read(tmp_path, [{"id": "1", "box": [[1, 2, 3, 4], [5, 6, 7, 8]], "scores": "high"}], form)
    assert answer.all.n_answered == 2 and answer.all.scores is None
