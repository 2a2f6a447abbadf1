"""The verdict claims what the intervals show, and no more."""

import dataclasses

import pytest

from locheads.records.metrics_file import RHO, Estimate
from locheads.report.run_record import read_run
from locheads.report.verdict import compare, verdict


@pytest.fixture
def judged(run_folder, metrics_json, edit_json):
    """judged(localization_heads=(value, low, high), ...) -> the verdict on that run."""

    def judge(**changes):
        values = {
            "localization_heads": (0.50, 0.45, 0.55),
            "best_iou_heads": (0.60, 0.56, 0.64),
            "mean_of_all_heads": (0.30, 0.25, 0.35),
            "random_heads": (0.20, 0.15, 0.25),
            "centre_box": (0.10, 0.05, 0.15),
        }
        edit_json(run_folder / "metrics.json", methods=metrics_json({**values, **changes})["methods"])
        return verdict(read_run(run_folder))

    return judge


@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        ((0.1, 0.0, 0.39), "above"),
        ((0.1, 0.0, 0.4), "open"),
        ((0.9, 0.6, 1.0), "open"),
        ((0.9, 0.61, 1.0), "below"),
    ],
)
def test_compare_needs_disjoint_intervals(other, outcome):
    assert compare(Estimate(0.5, 0.4, 0.6), Estimate(*other)) == outcome


def test_above_all(judged):
    result = judged()
    assert result.tone == "good"
    assert "beat every baseline that uses no ground truth, on boxes and masks" in result.headline
    assert result.points[0] == (
        "REC Acc@0.5 is 50.0 [45.0, 55.0] %. That is above mean of all heads (30.0 [25.0, 35.0]), random "
        "heads (20.0 [15.0, 25.0]) and centre box (10.0 [5.0, 15.0]): the intervals do not overlap."
    )
    assert "reach together REC Acc@0.5 60.0 [56.0, 64.0] %, above ours; 2 of the 3" in result.points[2]


def test_overlap_is_not_a_win(judged):
    result = judged(mean_of_all_heads=(0.42, 0.37, 0.47))
    assert result.tone == "mixed"
    assert result.headline == (
        "The localization heads beat random heads and centre box in this run, but not mean of all heads."
    )
    expected = "No difference is shown from mean of all heads (42.0 [37.0, 47.0]): the intervals overlap."
    assert expected in result.points[0]


def test_above_none(judged):
    result = judged(localization_heads=(0.12, 0.05, 0.18), centre_box=(0.3, 0.25, 0.36))
    assert result.tone == "bad"
    assert "beat none of the baselines" in result.headline
    assert "That is below mean of all heads" in result.points[0]


def test_no_baselines_and_no_metrics(run_folder, metrics_json, edit_json):
    record = read_run(run_folder)
    assert verdict(dataclasses.replace(record, metrics=None)).tone == "none"
    edit_json(run_folder / "metrics.json", methods=metrics_json({"localization_heads": (0.5, 0.4, 0.6)})["methods"])
    assert verdict(read_run(run_folder)).headline == "This run has no baselines to compare with."


@pytest.mark.parametrize(
    ("spearman", "p_value", "said"),
    [
        (0.81, 0.0001, f"selected more often localize better (Spearman {RHO} = 0.81, p < 0.001, 5 heads)"),
        (-0.81, 0.01, "selected more often localize worse"),
        (0.81, 0.2, "is not settled by this run"),
        (0.81, None, "is not settled by this run"),
        (None, None, "cannot be checked here"),
    ],
)
def test_figure6_sentence(run_folder, edit_json, spearman, p_value, said):
    figure6 = {"spearman": spearman, "p_value": p_value, "n_heads": 5, "points": []}
    edit_json(run_folder / "metrics.json", figure6=figure6)
    sentences = " ".join(verdict(read_run(run_folder)).points).replace("\u00a0", " ")
    assert said in sentences


def test_misses_and_few_images_are_told(run_folder, edit_json):
    assert "2 failed and 5 got no box" in " ".join(verdict(read_run(run_folder)).points)
    edit_json(run_folder / "metrics.json", n_failed=0, n_empty=0, n_images=12)
    points = " ".join(verdict(read_run(run_folder)).points)
    assert "All 400 expressions were processed and got a box." in points
    assert "With only 12 images the intervals themselves are rough." in points


def test_what_is_known_of_the_data_stands_among_the_points(run_folder, edit_json):
    before = verdict(read_run(run_folder)).points
    edit_json(run_folder / "provenance.json", dataset={"notes": ["2 samples have no mask: their box stands for it."]})
    assert set(verdict(read_run(run_folder)).points) - set(before) == {
        "Data: 2 samples have no mask: their box stands for it."
    }
    edit_json(run_folder / "provenance.json", dataset={"notes": 3})
    assert verdict(read_run(run_folder)).points == before
