"""The evidence study's verdicts, on numbers chosen so that each aim is once met and once missed."""

import copy
from pathlib import Path

import pytest

from locheads.evaluation.metric_table import METHODS
from locheads.pocket.training.evidence import _agreement, _aims, _likeness, _table5_row, render
from locheads.records.heads_file import HeadsFile
from locheads.records.metrics_file import MetricsRecord
from locheads.report.sweep_table import SweepRow

GOOD = {
    "localization_heads": {"rec_acc@0.5": 0.8, "pointing": 0.9, "pointing_swapped": 0.05, "pointing_chance": 0.1},
    "best_rec_heads": {"rec_acc@0.5": 0.85},
    "mean_of_all_heads": {"rec_acc@0.5": 0.6},
    "random_heads": {"rec_acc@0.5": 0.5},
    "centre_box": {"rec_acc@0.5": 0.1},
}
ANSWERS = {"all": {"value": 0.95, "low": 0.94, "high": 0.96, "n": 100}}


def metrics(methods):
    estimates = {
        name: {metric: {"value": v, "low": v - 0.03, "high": v + 0.03} for metric, v in values.items()}
        for name, values in methods.items()
    }
    counts = {"split": "val", "n_expressions": 9, "n_images": 3, "n_failed": 0, "n_empty": 0}
    return {**counts, "methods": estimates, "heads": ["L2H1"], "best_rec_heads": ["L3H1"], "figure6": None}


def verdicts(methods, answers=ANSWERS):
    return [aim.holds for aim in _aims(MetricsRecord.parse(metrics(methods)), answers)]


def test_all_aims_hold():
    assert verdicts(GOOD) == [True] * 8


@pytest.mark.parametrize(
    ("method", "metric", "value", "missed"),
    [
        ("localization_heads", "rec_acc@0.5", 0.49, {1, 3, 5}),  # too low, no clear lead, far from the ceiling
        ("random_heads", "rec_acc@0.5", 0.75, {2}),
        ("mean_of_all_heads", "rec_acc@0.5", 0.75, {3}),
        ("centre_box", "rec_acc@0.5", 0.75, {4}),
        ("best_rec_heads", "rec_acc@0.5", 0.96, {5}),
        ("localization_heads", "pointing", 0.79, {6}),
        ("localization_heads", "pointing_swapped", 0.2, {7}),
    ],
)
def test_a_missed_aim_is_named(method, metric, value, missed):
    methods = copy.deepcopy(GOOD)
    methods[method][metric] = value
    found = {i for i, holds in enumerate(verdicts(methods)) if not holds}
    assert found == missed | ({2} if value == 0.49 else set())


def test_wrong_answers_are_a_missed_aim():
    assert verdicts(GOOD, {"all": ANSWERS["all"] | {"value": 0.89}})[0] is False


def test_trials_agree_whatever_the_order():
    for last, holds in ((("L3H1", "L2H1"), True), (("L2H1", "L4H1"), False)):
        heads = HeadsFile.model_construct(k=2, top_per_trial=(("L2H1", "L3H1"), last))
        assert _agreement(heads).holds == holds


def likeness(sums=((0.1, 0.2), (0.9, 0.25)), tau=0.24, rho=0.8, mean=0.3, alone=(0.2, 0.7)):
    methods = GOOD | {"mean_of_all_heads": {"rec_acc@0.5": mean}}
    figure6 = {"spearman": rho, "p_value": 0.001, "n_heads": 9, "points": []}
    found = MetricsRecord.parse({**metrics(methods), "figure6": figure6})
    heads = HeadsFile.model_construct(mean_attention_sum=sums, tau=tau)
    runs = [SweepRow({"criterion": "s_img_entropy", "selection": "fixed"}, Path("x"), found, "")]
    for criterion, value in zip(("s_img", "entropy"), alone, strict=True):
        other = MetricsRecord.parse(metrics({"localization_heads": {"rec_acc@0.5": value}}))
        runs += [SweepRow({"criterion": criterion, "selection": "fixed"}, Path("x"), other, "")]
        runs += [SweepRow({"criterion": criterion, "selection": "greedy"}, Path("x"), None, "disk full")]
    return [aim.holds for aim in _likeness(found, heads, runs)]


def test_what_is_like_in_real_lvlms_and_what_is_not():
    assert likeness() == [True] * 6
    assert likeness(mean=0.41).index(False) == 0
    assert likeness(sums=((0.1, 0.9), (0.9, 0.9))).index(False) == 1
    assert likeness(tau=0.05).index(False) == likeness(tau=0.6).index(False) == likeness(tau=None).index(False) == 2
    assert likeness(rho=0.69).index(False) == likeness(rho=None).index(False) == 3
    assert likeness(alone=(0.8, 0.7)).index(False) == 4 and likeness(alone=(0.2, 0.9)).index(False) == 5


def test_a_failed_run_is_a_row_of_the_table_with_its_reason():
    row = _table5_row(SweepRow({"criterion": "s_img", "selection": "greedy"}, Path("x"), None, "disk full"))
    text = render(
        {
            "aims": [], "answers": ANSWERS, "methods": {name: {"a": "1"} for name in METHODS}, "table5": [row],
            "figure6": "", "heads": ["L2H1"], "best_rec_heads": [], "best_iou_heads": [],
            "n_images": 1, "n_expressions": 1, "chance": "10.0",
            "made_from": {"weights": "w" * 64, "annotations": "a" * 64}, "command": "python run.py", "commit": None,
            "started": "now", "hardware": {"processor": "p", "cores": 2},
        }
    )  # fmt: skip
    assert "| s_img | greedy | disk full |  |  |  |  |  |" in text
    assert "| all | 100 | 95.0 [94.0, 96.0] |" in text and "commit unknown" in text
