"""What is behind the demo's page: the images, what it answers, and one question asked once."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from locheads.api import Grounder
from locheads.demo import app
from locheads.demo.__main__ import main
from locheads.demo.app import SIDE, DemoGrounder, example
from locheads.demo.found import ZOOM, Asked, after_second_look, one_object, several_objects
from locheads.errors import DataError
from locheads.geometry import stretched
from locheads.grounding.config import GroundingConfig
from locheads.grounding.zoom import Look
from locheads.pocket.render import render
from locheads.pocket.scenes import sample_small_scene
from locheads.report.draw_sample import MASK_COLOUR
from locheads.report.theme import PREDICTED_BOX
from locheads.types import HeadIndex

HEADS = HeadIndex(1, 2), HeadIndex(3, 0)
FIRST = "L1H2 + L3H0: box from (0, 0) to (40, 20) in pixels; the mask covers 25 %."


class FakeGrounder(Grounder):
    """Heads that look at the top left quarter of all that they see; counts how often it is asked."""

    def __init__(self, heads=HEADS, quarter=0.05):
        self.heads, self._quarter, self.asked = heads, quarter, []

    def _maps(self, image, expressions):
        self.asked += [(text, image.size) for text in expressions]
        maps = np.full((len(expressions), len(self.heads), 8, 8), 0.001)
        maps[..., :4, :4] = self._quarter
        return maps, stretched(*image.size, 8, 8)


@pytest.fixture
def image():
    return Image.new("RGB", (80, 40), (200, 100, 50))


def test_answer_has_box_mask_fused_map_and_single_heads(image):
    answer = DemoGrounder(FakeGrounder())(image, "it", sigma=0)
    assert answer.text.splitlines()[0] == FIRST
    assert [name for _, name in answer.heads] == ["L1H2", "L3H0"]
    assert all(one.size == (80, 40) for one in (answer.fused, answer.mask, *(drawn for drawn, _ in answer.heads)))
    # Heat where the heads look; the mask's green there, grey elsewhere.
    warm, cold = (np.asarray(answer.heads[0][0])[y, x].astype(int) for y, x in ((8, 16), (32, 64)))
    assert np.ptp(warm) > 50 and np.ptp(cold) <= 1
    inside, outside = (np.asarray(answer.mask)[y, x].astype(int) for y, x in ((8, 16), (32, 64)))
    np.testing.assert_allclose(inside, 0.6 * np.array([200, 100, 50]) + 0.4 * np.array(MASK_COLOUR), atol=1)
    assert np.ptp(outside) == 0


def test_the_model_is_asked_once_per_question(image):
    grounder = FakeGrounder()
    answers = DemoGrounder(grounder)
    first, second = answers(image, "it", sigma=0), answers(image, "it", sigma=2)
    assert grounder.asked == [("it", (80, 40))]
    assert first.text != second.text
    answers(image, "another", sigma=0)
    answers(Image.new("RGB", (80, 40)), "another", sigma=0)
    answers(Image.new("RGB", (40, 80)), "another", sigma=0)
    assert len(grounder.asked) == 4


@pytest.mark.parametrize(("shown", "expression", "said"), [(None, "it", "upload one"), (True, "  ", "type what to")])
def test_nothing_to_ask_is_one_sentence(image, shown, expression, said):
    with pytest.raises(DataError, match=said):
        DemoGrounder(FakeGrounder())(image if shown else None, expression, 1.0)


@pytest.mark.parametrize("asked", Asked)
def test_a_constant_map_has_no_box(image, asked):
    grounder = FakeGrounder((HeadIndex(0, 0),), quarter=0.001)
    answer = DemoGrounder(grounder)(image, "it", 1.0, asked)
    assert "there is no box" in answer.text and len(grounder.asked) == 1
    assert ("asked once" in answer.text) == (asked == Asked.second_look)
    assert np.ptp(np.asarray(answer.mask).astype(int), axis=2).max() == 0


def test_the_scores_of_absence_are_said_without_a_verdict(image):
    """Worked by hand: each head's map sums to 16 x 0.05 + 48 x 0.001 = 0.848, its mean over its maximum is 0.265."""
    said = DemoGrounder(FakeGrounder())(image, "it", sigma=0).text.splitlines()[1]
    assert said.startswith("Absence from 0 to 1 (1: nothing speaks for an object): peak 0.265, entropy ")
    assert "mass 0.152" in said and said.endswith("agreement 0.000, scatter 0.000.")
    # Of a flat map all but the weight speaks for absence.
    flat = DemoGrounder(FakeGrounder(quarter=0.001))(image, "it", sigma=0).text
    assert "peak 1.000, entropy 1.000, mass 0.936" in flat


def first_look(strengths):
    """Of one head, on 8 x 8 cells of 10 x 5 pixels: 2 x 2 cells at the top left, 2 x 3 near the bottom right, one cell
    at the top right."""
    maps = np.zeros((1, 8, 8))
    maps[0, 0:2, 0:2], maps[0, 5:7, 5:8], maps[0, 0, 7] = strengths
    return Look.first(maps, stretched(80, 40, 8, 8), GroundingConfig(sigma=0))


def test_several_objects_have_a_box_each_and_one_mask():
    look = first_look((1.0, 0.5, 0.5))
    found = several_objects(look)
    assert found.boxes == ((0, 0, 20, 10), (50, 25, 80, 35))
    expected = np.zeros((40, 80), dtype=bool)
    expected[0:10, 0:20] = expected[25:35, 50:80] = True
    np.testing.assert_array_equal(found.mask, expected)
    assert found.text == (
        "2 of 3 candidates stand out; boxes in pixels, scores as shares of the best: (0, 0) to (20, 10), 1.00; "
        "(50, 25) to (80, 35), 0.75; the mask covers 16 %."
    )
    # One object answers with the larger hull alone, and one that is too weak does not stand out.
    assert one_object(look, 80, 40).boxes == ((50, 25, 80, 35),)
    weak = several_objects(first_look((1.0, 0.2, 0.5)))
    assert weak.boxes == ((0, 0, 20, 10),) and weak.text.startswith("1 of 3 candidates stands out")


def test_every_box_is_drawn(image):
    found = several_objects(first_look((1.0, 0.5, 0.0)))
    colour = ImageColor.getrgb(PREDICTED_BOX)
    drawn = np.asarray(app.drawn(image, found))
    assert all(tuple(drawn[y, x]) == colour for x, y in ((10, 10), (20, 5), (50, 30), (65, 25)))
    one = np.asarray(app.drawn(image, replace(found, boxes=found.boxes[:1])))
    assert tuple(one[10, 10]) == colour and tuple(one[30, 50]) != colour


def test_a_second_look_sees_the_part_around_the_first_answer(image):
    """Worked by hand: 1.5 times the box of 40 x 20 pixels is a square of 60 about (20, 10), which the image's height
    and corner make (0, 0) to (60, 40); the top left quarter of that is the answer."""
    grounder = FakeGrounder()
    answer = DemoGrounder(grounder)(image, "it", 0, Asked.second_look)
    assert grounder.asked == [("it", (80, 40)), ("it", (60, 40))]
    assert answer.text.splitlines()[0] == (
        "L1H2 + L3H0: box from (0, 0) to (30, 20) in pixels; the mask covers 19 %. The model was asked twice: its "
        "first look answered (0, 0) to (40, 20), its second saw (0, 0) to (60, 40), the thin frame."
    )
    assert [name for _, name in answer.heads] == ["L1H2", "L3H0", "L1H2, second look", "L3H0, second look"]
    # The frame is there, and only there where there was a second look.
    once = DemoGrounder(grounder)(image, "it", 0)
    white = [(np.asarray(one.fused)[:, 57:63].min(axis=2) == 255).any() for one in (answer, once)]
    assert white == [True, False]


def test_a_second_look_is_one_more_question_per_smoothing(image):
    grounder = FakeGrounder()
    answers = DemoGrounder(grounder)
    for asked, sigma, times in [
        (Asked.second_look, 0, 2),
        (Asked.second_look, 0, 2),
        (Asked.several, 0, 2),
        (Asked.one, 1, 2),
        (Asked.second_look, 1, 3),
        (Asked.second_look, 0, 3),
    ]:
        answers(image, "it", sigma, asked)
        assert len(grounder.asked) == times
    # Nothing is kept for another question, whose first look is the same.
    answers(image, "another", 0, Asked.second_look)
    assert [text for text, _ in grounder.asked[3:]] == ["another", "another"]


def test_a_large_image_is_shown_smaller():
    answer = DemoGrounder(FakeGrounder())(Image.new("RGB", (1600, 800)), "it", sigma=0)
    assert all(one.size == (SIDE, SIDE // 2) for one in (answer.fused, answer.mask, answer.heads[0][0]))


@pytest.fixture(scope="module")
def pocket():
    return Grounder()


def test_example_is_one_of_the_pocket_models_own_world(pocket):
    answer = DemoGrounder(pocket)(*example(), sigma=1.0)
    assert len(answer.heads) == 3


def test_the_pocket_model_tells_two_objects_of_a_colour_apart(pocket):
    scene = sample_small_scene(5)
    image, colours = Image.fromarray(render(scene)), [item.colour for item in scene.objects]
    for colour, count in (("yellow", 2), ("red", 1)):
        assert colours.count(colour) == count
        answer = DemoGrounder(pocket)(image, f"the {colour} object", 1.0, Asked.several)
        assert answer.text.split(": ")[1].startswith(f"{count} of ")


def test_the_second_look_is_that_of_the_library(pocket):
    image, text = example()
    maps, geometry = pocket.maps(image, text)
    looks = pocket.looks(image, text, Look.first(maps, geometry, GroundingConfig()), ZOOM)
    found, once = after_second_look(looks, *image.size), one_object(looks[0], *image.size)
    zooming, single = Grounder(zoom=ZOOM)(image, text), pocket(image, text)
    assert found.boxes == (zooming.box,) and once.boxes == (single.box,) and zooming.box != single.box
    np.testing.assert_array_equal(found.mask, zooming.mask)
    x0, y0, x1, y1 = found.window
    assert 0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height
    assert (x1 - x0, y1 - y0) == looks[1].stack.mask().shape[::-1] != image.size


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="Gradio is installed")
def test_without_gradio_the_command_is_named(capsys):
    assert main([]) == 1
    assert capsys.readouterr().err == f"error: {app.MISSING}\n"
    assert "make install EXTRAS=demo" in app.MISSING


def test_page_offers_what_the_answer_has(image):
    gradio = pytest.importorskip("gradio", reason="Gradio is not installed (extra `demo`)")
    grounder = FakeGrounder()
    page = app.build(DemoGrounder(grounder), "title", (image, "it"))
    (ask,) = {function.fn for function in page.fns.values()}
    text, fused, mask, heads = ask(image, "it", "one object", 1.0)
    assert text.startswith("L1H2 + L3H0") and fused.size == mask.size == (80, 40) and len(heads) == 2
    labels = [block.label for block in page.blocks.values() if getattr(block, "label", None)]
    assert {"Image", "Expression", "Answer with", "Answer", "Mask", "Single heads"} <= set(labels)
    (choice,) = (block for block in page.blocks.values() if isinstance(block, gradio.Radio))
    assert choice.value == "one object"
    answers = [ask(image, "it", value, 1.0)[0] for _, value in choice.choices]
    assert [("stand" in one, "twice" in one) for one in answers] == [(False, False), (True, False), (False, True)]
    with pytest.raises(gradio.Error, match="type what to look for"):
        ask(image, "", "one object", 1.0)
