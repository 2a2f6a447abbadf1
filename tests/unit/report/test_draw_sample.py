"""A sample's tiles and panels: every layer lies where it belongs, in the colours that tell them apart."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from locheads.geometry import Preprocess, square_geometry
from locheads.report.draw_sample import GAP, MASK_COLOUR, PANEL, TITLE, Tile, sample_panel, steps_panel, unit
from locheads.report.run_record import read_run
from locheads.report.theme import LOOKED_AT, PREDICTED_BOX, TRUE_BOX

RED = (200, 60, 40)


@pytest.fixture
def record(run_folder):
    return read_run(run_folder)


def pixels(tile):
    return np.asarray(tile.image).astype(int)


def inked(drawn, colour, at_most=40):
    """Where an array [y, x, 3] has about this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(np.asarray(drawn).astype(int) - rgb).max(axis=2) <= at_most


def test_heat_lies_where_the_cell_is_whatever_the_preprocessing():
    for how in (Preprocess.pad, Preprocess.center_crop, Preprocess.squash):
        geometry = square_geometry(1600, 800, 112, 8, how)
        heat = np.zeros((8, 8))
        heat[5, 2] = 1.0
        image = Image.new("RGB", (1600, 800), RED)
        frame = tuple(geometry.to_pixels(np.array([0, 0, 8, 8])).tolist())
        drawn = pixels(Tile(image, image.size, (960, 960), grey=True).heat(heat, frame))
        assert drawn.shape[:2] == (480, 960)
        ys, xs = np.nonzero(np.ptp(drawn, axis=2) > 40)
        x0, y0, x1, y1 = geometry.to_pixels(np.array([2, 5, 3, 6])) * 0.6
        assert abs(xs.mean() - (x0 + x1) / 2) < 0.15 * (x1 - x0)
        assert abs(ys.mean() - (y0 + y1) / 2) < 0.15 * (y1 - y0)


def test_heat_lies_on_grey_and_a_bare_image_keeps_its_colours():
    image = Image.new("RGB", (80, 40), RED)
    nothing = np.zeros((4, 4))
    assert np.ptp(pixels(Tile(image, (80, 40), (80, 80), grey=True).heat(nothing, (0, 0, 80, 40))), axis=2).max() == 0
    assert (pixels(Tile(image, (80, 40), (80, 80))) == RED).all()
    assert len(np.unique(pixels(Tile(None, (80, 40), (80, 80))).reshape(-1, 3), axis=0)) == 1


def test_a_cell_takes_the_pixels_whose_centres_lie_in_it():
    drawn = pixels(Tile(None, (60, 30), (60, 60)).cells(np.eye(3, dtype=int), (0.0, 0.0, 60.0, 30.0)))
    blank = drawn[0, 59]
    expected = np.kron(np.eye(3), np.ones((10, 20))).astype(bool)
    np.testing.assert_array_equal((drawn != blank).any(axis=2), expected)


def test_boxes_differ_in_colour_and_line_and_are_scaled_with_the_image():
    tile = Tile(None, (1600, 800), (960, 960)).box((200.0, 100.0, 1000.0, 700.0), PREDICTED_BOX)
    ys, xs = np.nonzero(inked(tile.image, PREDICTED_BOX))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (120, 60, 600, 420)
    solid = inked(tile.image, PREDICTED_BOX)[60, 120:600]
    dashed = inked(Tile(None, (960, 480), (960, 960)).box((120, 60, 600, 420), TRUE_BOX, dashed=True).image, TRUE_BOX)
    assert solid.all()
    assert 0.4 < dashed[60, 120:600].mean() < 0.6
    bare = Tile(None, (960, 480), (960, 960))
    assert (pixels(bare) == pixels(Tile(None, (960, 480), (960, 960)).box(None, TRUE_BOX))).all()


@pytest.mark.parametrize("box", [(-1e30, 0.0, 1e30, 20.0), (30.0, 30.0, 5.0, 5.0), (5.0, 5.0, 5.0, 5.0)])
def test_boxes_that_no_grounding_gives_are_drawn_without_an_error(box):
    assert inked(Tile(None, (40, 40), (40, 40)).box(box, PREDICTED_BOX).image, PREDICTED_BOX).any()


def test_a_mask_is_green_inside_and_dark_grey_outside():
    mask = np.zeros((40, 80), dtype=bool)
    mask[:20, :40] = True
    image = Image.new("RGB", (80, 40), RED)
    drawn = pixels(Tile(image, (80, 40), (80, 80)).mask(mask))
    np.testing.assert_allclose(drawn[8, 16], 0.6 * np.array(RED) + 0.4 * np.array(MASK_COLOUR), atol=1)
    assert np.ptp(drawn[32, 64]) == 0 and drawn[32, 64].max() < 100
    assert np.ptp(pixels(Tile(image, (80, 40), (80, 80)).mask(np.zeros((0, 0), dtype=bool))), axis=2).max() == 0


def test_the_panel_holds_the_fused_map_with_both_boxes_the_image_and_each_heads_map(record):
    item = record.gallery[0]
    panel = np.asarray(sample_panel(record, item)).astype(int)
    assert abs(panel.shape[1] - PANEL) <= 1
    dark = panel[-1, -1]
    columns = np.flatnonzero((panel[TITLE + 5] != dark).any(axis=1))
    main_width = int(np.flatnonzero(np.diff(columns) > 1)[0]) + 1
    scale = main_width / item.width
    for box, colour in ((item.true_box, TRUE_BOX), (item.box, PREDICTED_BOX)):
        ys, xs = np.nonzero(inked(panel[TITLE:, GAP : GAP + main_width], colour, 3))
        assert (xs.min() / scale, ys.min() / scale) == pytest.approx(box[:2], abs=4)
        assert (xs.max() / scale, ys.max() / scale) == pytest.approx(box[2:], abs=4)
    assert not inked(panel[:, GAP + main_width :], PREDICTED_BOX, 5).any(), "the small images have no boxes"


def test_parts_that_were_looked_at_again_are_thin_frames(record):
    item = record.gallery[0].model_copy(update={"views": ((40, 20, 280, 180),), "box": None, "true_box": None})
    size = item.width, item.height
    framed, bare = Tile(None, size, size).boxes(item), Tile(None, size, size)
    changed = (pixels(framed) != pixels(bare)).any(axis=2)
    ys, xs = np.nonzero(changed)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (39, 19, 281, 181)
    assert not changed[30:170, 50:270].any(), "it is no area"
    white = inked(framed.image, LOOKED_AT, 3)
    assert 0.4 < white[20, 40:280].mean() < 0.6 and 0.4 < white[20:180, 40].mean() < 0.6
    boxed = Tile(None, size, size).box(item.views[0], LOOKED_AT, dashed=True)
    assert white.sum() < inked(boxed.image, LOOKED_AT, 3).sum(), "thinner than a box"
    without = item.model_copy(update={"views": ()})
    assert (pixels(Tile(None, size, size).boxes(without)) == pixels(bare)).all()


def test_the_panel_of_a_failed_sample_shows_the_true_box_on_plain_grey(record, run_folder):
    (run_folder / "gallery/2.jpg").write_bytes(b"no image")
    bare = dataclasses.replace(record, maps={})
    panel = sample_panel(bare, bare.gallery[2])
    assert inked(panel, TRUE_BOX).any() and not inked(panel, PREDICTED_BOX).any()
    assert steps_panel(bare, bare.gallery[2]) is None


@pytest.mark.parametrize(
    ("width", "height", "n_heads"), [(30, 900, 3), (900, 30, 3), (64, 64, 1), (64, 48, 8), (64, 48, 20)]
)
def test_every_image_of_the_panel_has_room(record, width, height, n_heads):
    item = record.gallery[0].model_copy(update={"width": width, "height": height, "heads": ("L0H0",) * n_heads})
    maps = {item.sample_id: np.random.default_rng(0).random((1 + n_heads, 4, 4), dtype=np.float32)}
    panel = sample_panel(dataclasses.replace(record, maps=maps), item)
    assert 100 < panel.width <= PANEL + 1 and 100 < panel.height < 800


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
