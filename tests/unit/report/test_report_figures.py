"""The charts show the records' values at the right place."""

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

from locheads.errors import StoreError
from locheads.records.metrics_file import RHO
from locheads.report import (
    attention_sum_curve,
    figure6_scatter,
    frequency_grid,
    method_intervals,
    read_run,
    sample_panel,
)
from locheads.report.margin import spread
from locheads.report.sample_panel import unit
from locheads.report.theme import DARK, PREDICTED_BOX, TRUE_BOX, to_svg


@pytest.fixture
def record(run_folder):
    return read_run(run_folder)


def texts(axes):
    return [t.get_text() for t in axes.texts if t.get_text()]


def box_lines(axes, colour):
    return [p for p in axes.patches if isinstance(p, Rectangle) and p.get_edgecolor()[:3] == rgb(colour)]


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


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
    heads = dataclasses.replace(record.heads, criterion={})
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
    heads = dataclasses.replace(record.heads, tau=None)
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


def test_panel_lays_the_map_on_the_whole_grid_rectangle(record):
    figure = sample_panel(record, record.gallery[0])
    main, bare, *heads = figure.axes
    image, heat = main.images
    assert tuple(image.get_extent()) == (0, 320, 200, 0)
    # The model padded the image to a square: the map reaches beyond it, and the axes cut that off.
    assert tuple(heat.get_extent()) == (0, 320, 260, -60)
    assert (main.get_xlim(), main.get_ylim()) == ((0, 320), (200, 0))
    assert len(bare.images) == 1
    assert [axes.get_title(loc="left") for axes in heads] == ["L3H1", "L4H6", "L2H5"]
    assert "IoU 0.31" in main.get_title(loc="left")


def test_maps_lie_on_grey_and_the_bare_image_keeps_its_colours(record):
    main, bare = sample_panel(record, record.gallery[0]).axes[:2]
    grey, coloured = main.images[0].get_array(), bare.images[0].get_array()
    assert (np.ptp(grey, axis=2) == 0).all()
    assert np.ptp(coloured.astype(int), axis=2).max() > 50


def test_panel_boxes_differ_in_colour_and_line(record):
    item = record.gallery[0]
    main = sample_panel(record, item).axes[0]
    (truth,), (predicted,) = box_lines(main, TRUE_BOX), box_lines(main, PREDICTED_BOX)
    assert (truth.get_x(), truth.get_y(), truth.get_width(), truth.get_height()) == (
        *item.true_box[:2],
        60,
        50,
    )
    assert predicted.get_xy() == item.box[:2]
    assert (truth.get_linestyle(), predicted.get_linestyle()) == ("--", "-")


def test_panel_of_a_failed_sample(record, run_folder):
    (run_folder / "gallery/2.jpg").write_bytes(b"no image")
    bare = dataclasses.replace(record, maps={})
    figure = sample_panel(bare, bare.gallery[2])
    assert [len(axes.images) for axes in figure.axes] == [0, 0]
    assert len(box_lines(figure.axes[0], TRUE_BOX)) == 1
    assert box_lines(figure.axes[0], PREDICTED_BOX) == []


@pytest.mark.parametrize(
    ("width", "height", "n_heads"), [(30, 900, 3), (900, 30, 3), (64, 64, 1), (64, 48, 8), (64, 48, 20)]
)
def test_panel_axes_stay_inside_the_figure(record, width, height, n_heads):
    item = dataclasses.replace(record.gallery[0], width=width, height=height, heads=("L0H0",) * n_heads)
    maps = {item.sample_id: np.random.default_rng(0).random((1 + n_heads, 4, 4), dtype=np.float32)}
    figure = sample_panel(dataclasses.replace(record, maps=maps), item)
    for axes in figure.axes:
        place = axes.get_position(original=True)
        assert 0 <= place.x0 < place.x1 <= 1
        assert 0 <= place.y0 < place.y1 <= 1
        assert place.width * figure.get_figwidth() > 0.15


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


def test_one_strong_cell_does_not_hide_the_others():
    heat = np.zeros((10, 10))
    heat[:2] = 1.0
    heat[5, 5] = 1000.0
    scaled = unit(heat)
    assert scaled.min() == 0.0
    assert scaled[0].tolist() == [1.0] * 10
    assert scaled[5, 5] == 1.0
    lone = np.where(heat > 1, 1.0, 0.0)
    assert unit(lone).max() == 1.0
    assert unit(np.full((4, 4), 0.3)).tolist() == np.zeros((4, 4)).tolist()
    assert unit(np.array([[np.nan, 1.0], [0.0, np.inf]])).max() == 1.0


def test_threshold_text_leaves_the_curve_free(record):
    flat = dataclasses.replace(record.heads, mean_attention_sum=np.linspace(0.9, 1, 48).reshape(6, 8), tau=0.92)
    axes = attention_sum_curve(dataclasses.replace(record, heads=flat)).axes[0]
    text = next(t for t in axes.texts if "threshold" in t.get_text())
    assert text.get_position()[1] < 0.1
