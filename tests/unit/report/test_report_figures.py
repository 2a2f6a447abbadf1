"""The charts show the records' values at the right place."""

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from locheads.errors import StoreError
from locheads.records.metrics_file import RHO
from locheads.report.figures import attention_sum_curve, figure6_scatter, frequency_grid, method_intervals
from locheads.report.run_record import read_run
from locheads.report.theme import DARK, spread, to_svg


@pytest.fixture
def record(run_folder):
    return read_run(run_folder)


def texts(axes):
    return [t.get_text() for t in axes.texts if t.get_text()]


def test_frequency_grid_outlines_and_ranks_the_chosen_heads(record):
    figure = frequency_grid(record)
    axes = figure.axes[0]
    mesh = next(c for c in axes.collections if isinstance(c, QuadMesh))
    assert mesh.get_array().reshape(6, 8)[3, 1] == pytest.approx(62.0)
    outlined = {(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches if p.get_linewidth() == 2}
    assert outlined == {(1, 3), (6, 4), (5, 2)}
    assert {(t.get_text(), *t.get_position()) for t in axes.texts} == {("1", 1, 3), ("2", 6, 4), ("3", 5, 2)}
    assert "1 = L3H1,   2 = L4H6,   3 = L2H5" in figure.get_supxlabel()
    hatched = [p for p in axes.patches if p.get_hatch()]
    assert [(p.get_y(), p.get_height()) for p in hatched] == [(-0.5, 2)]


def test_no_hatch_without_skipped_layers(record):
    heads = record.heads.model_copy(update={"criterion": {}})
    axes = frequency_grid(dataclasses.replace(record, heads=heads)).axes[0]
    assert [p for p in axes.patches if p.get_hatch()] == []


def test_curve_is_sorted_and_holds_the_admitted_layers_only(record):
    axes = attention_sum_curve(record).axes[0]
    heights = axes.lines[0].get_ydata()
    assert len(heights) == 4 * 8
    assert (np.diff(heights) >= 0).all()
    assert sorted(heights) == sorted(record.heads.mean_attention_sum[2:].ravel())
    reach = int((heights >= 0.1875).sum())
    assert f"threshold τ = 0.188\n{reach} of 32 heads reach it" in texts(axes)
    elbow = next(line for line in axes.lines if line.get_marker() == "D")
    assert elbow.get_xdata() == [32 - reach + 1]
    chosen = next(line for line in axes.lines if line.get_marker() == "o")
    assert list(chosen.get_ydata()) == pytest.approx([0.55, 0.52, 0.49])
    assert list(chosen.get_xdata()) == [32, 31, 30]
    assert {"L3H1", "L4H6", "L2H5"} <= set(texts(axes))


def test_curve_without_threshold(record):
    heads = record.heads.model_copy(update={"tau": None})
    axes = attention_sum_curve(dataclasses.replace(record, heads=heads)).axes[0]
    assert [line for line in axes.lines if line.get_marker() == "D"] == []


def test_scatter_leaves_out_rare_heads_and_names_the_chosen(record):
    axes = figure6_scatter(record).axes[0]
    offsets = axes.collections[0].get_offsets()
    assert len(offsets) == 5
    assert [62.0, 48.0] in offsets.round(6).tolist()
    assert axes.get_title(loc="left") == f"Spearman {RHO}\u00a0=\u00a00.81, p\u00a0=\u00a00.012, 5 heads"
    assert texts(axes) == ["L3H1", "L4H6", "L2H5"]


def test_scatter_without_points_says_so(record):
    empty = record.metrics.figure6.model_copy(update={"points": (), "spearman": None})
    metrics = record.metrics.model_copy(update={"figure6": empty})
    axes = figure6_scatter(dataclasses.replace(record, metrics=metrics)).axes[0]
    assert texts(axes) == ["No head was chosen by 1 % of the samples."]
    assert axes.get_title(loc="left") == "Spearman correlation not defined: too few heads"


def test_intervals_have_a_row_per_method(record):
    axes = method_intervals(record).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [
        "Localization heads",
        "Best heads by IoU *",
        "Mean of all heads",
        "Random heads",
        "Centre box",
    ]
    assert [50.1, 56.0] in [[round(x, 6) for x in line.get_xdata()] for line in axes.lines]


def test_missing_records_are_store_errors(record):
    nothing = dataclasses.replace(record, heads=None, metrics=None)
    for draw in (frequency_grid, attention_sum_curve, figure6_scatter, method_intervals):
        with pytest.raises(StoreError, match=r"finish the run with stage="):
            draw(nothing)


def test_svg_is_the_same_each_time_and_differs_by_theme(record):
    assert to_svg(frequency_grid(record)) == to_svg(frequency_grid(record))
    assert to_svg(frequency_grid(record)) != to_svg(frequency_grid(record, DARK))


def test_spread_keeps_order_gap_and_room():
    placed = spread(np.array([0.9, 0.91, 0.1, 0.905]), 0.1, 0.0, 1.0)
    assert placed.argsort().tolist() == [2, 0, 3, 1]
    assert np.diff(np.sort(placed)).min() >= 0.1 - 1e-12
    assert placed[2] == pytest.approx(0.1)
    assert placed.max() <= 1.0
    crowded = spread(np.full(21, 0.5), 0.2, 0.0, 1.0)
    np.testing.assert_allclose(np.sort(crowded), np.linspace(0, 1, 21))


def test_threshold_text_leaves_the_curve_free(record):
    sums = np.linspace(0.9, 1, 48).reshape(6, 8)
    flat = record.heads.model_copy(update={"mean_attention_sum": sums, "tau": 0.92})
    axes = attention_sum_curve(dataclasses.replace(record, heads=flat)).axes[0]
    text = next(t for t in axes.texts if "threshold" in t.get_text())
    assert text.get_position()[1] < 0.1
