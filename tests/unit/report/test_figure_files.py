"""Figures as files and from Python: every kind, named by its figure, with the samples' boxes where they belong."""

from dataclasses import replace

import pytest
from matplotlib.patches import Rectangle
from PIL import Image

import locheads
from locheads.errors import ConfigError, StoreError
from locheads.report.__main__ import main
from locheads.report.figure_files import DRAW, FigureKind, run_figures, save_figure
from locheads.report.figures import attention_sum_curve
from locheads.report.run_record import read_run
from locheads.report.sample_figure import qualitative
from locheads.report.theme import PREDICTED_BOX, TRUE_BOX

STARTS = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG"}


def test_a_run_gives_the_figures_whose_records_it_has(run_folder):
    found = run_figures(run_folder)
    assert {"intervals", "frequency", "curve", "scatter", "samples"} <= set(found) <= set(DRAW)
    assert "effects" not in found  # no audit
    (run_folder / "metrics.json").unlink()
    assert "intervals" not in run_figures(run_folder)


def test_nothing_to_draw_is_said(tmp_path):
    (tmp_path / "config.yaml").write_text("stage: attend\n")
    with pytest.raises(StoreError, match="holds nothing to draw: finish the run"):
        run_figures(tmp_path)


def test_the_dark_scheme_has_another_ground(run_folder):
    light, dark = (run_figures(run_folder, scheme)["curve"].get_facecolor() for scheme in ("light", "dark"))
    assert sum(light[:3]) > 2.9 > 0.5 > sum(dark[:3])
    with pytest.raises(ConfigError, match="use one of light, dark"):
        run_figures(run_folder, "grey")


@pytest.mark.parametrize("kind", FigureKind)
def test_every_kind_of_file(run_folder, tmp_path, kind, capsys):
    assert main([str(run_folder), "--figures", str(tmp_path / "figures"), "--format", kind]) == 0
    files = sorted((tmp_path / "figures").iterdir())
    assert [str(file) for file in files] == sorted(capsys.readouterr().out.split())
    assert {file.name for file in files} >= {f"curve.{kind}", f"samples.{kind}"}
    assert all(file.read_bytes().startswith(STARTS[kind]) for file in files)


@pytest.mark.parametrize("kind", FigureKind)
def test_equal_figures_are_equal_files(run_folder, tmp_path, kind):
    record = read_run(run_folder)
    one, two = (save_figure(attention_sum_curve(record), tmp_path / f"{i}.{kind}").read_bytes() for i in range(2))
    assert one == two


def test_an_unknown_ending_is_refused_before_anything_is_written(run_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"curve\.jpg has to end in \.svg, \.pdf or \.png"):
        locheads.save_figure(attention_sum_curve(read_run(run_folder)), tmp_path / "curve.jpg")
    assert not list(tmp_path.glob("curve*"))


def test_the_command_names_a_folder_that_is_no_run(tmp_path, capsys):
    assert main([str(tmp_path / "none"), "--figures", str(tmp_path)]) == 1
    assert "is not a folder: give the run folder" in capsys.readouterr().err


def test_samples_have_a_row_each_and_their_boxes_in_pixels_of_the_image(run_folder):
    record = read_run(run_folder)
    figure, items = qualitative(record), record.gallery[:4]
    columns = 3 + max(len(item.heads) for item in items)
    assert len(figure.axes) == columns * len(items)
    assert [axes.get_title() for axes in figure.axes[:columns]][:2] == ["Boxes", "Sum"]
    for row, item in enumerate(items):
        boxes = [p for p in figure.axes[row * columns].patches if isinstance(p, Rectangle)]
        expected = [(item.true_box, TRUE_BOX)] + ([(item.box, PREDICTED_BOX)] if item.box else [])
        drawn = {(patch.get_edgecolor(), *patch.get_bbox().extents) for patch in boxes}
        for box, colour in expected:
            rgba = tuple(round(int(colour[i : i + 2], 16) / 255, 6) for i in (1, 3, 5))
            assert any(tuple(round(v, 6) for v in edge[:3]) == rgba and tuple(at) == tuple(box) for edge, *at in drawn)


def test_parts_that_were_looked_at_again_are_framed(run_folder):
    record = read_run(run_folder)
    views = ((10, 20, 110, 120), (30, 40, 80, 90))
    looked = replace(record, gallery=(record.gallery[0].model_copy(update={"views": views}), *record.gallery[1:]))

    def frames(of):
        return [tuple(patch.get_bbox().extents) for patch in qualitative(of).axes[0].patches]

    assert frames(looked)[:4] == [views[0], views[0], views[1], views[1]]  # each with its dark edge
    assert frames(looked)[4:] == frames(record)


def test_a_heat_map_fills_the_cells_frame_and_not_the_image(run_folder):
    """The negative control of the panel: a padded image's cells reach beyond it."""
    record = read_run(run_folder)
    item = record.gallery[0]
    x0, y0, x1, y1 = item.cell_box
    heat = qualitative(record).axes[1].images[1]
    assert tuple(heat.get_extent()) == (x0, x1, y1, y0)


def test_samples_without_their_image_are_drawn_on_grey(run_folder):
    record = read_run(run_folder)
    for item in record.gallery:
        (run_folder / item.image).unlink(missing_ok=True)
    picture = qualitative(record).axes[0].images[0]
    assert picture.get_array().shape[:2] == (1, 1)


def test_a_head_set_is_drawn_without_a_run(tmp_path):
    path = locheads.save_figure(locheads.heads_figure(locheads.load_heads("llava_1_5_7b")), tmp_path / "heads.png")
    assert Image.open(path).size[0] > 300
