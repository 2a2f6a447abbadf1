"""What is behind the demo's page: the images, one question asked once, and which model --model means."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from locheads.api import Grounder
from locheads.demo import app
from locheads.demo.__main__ import main
from locheads.demo.app import SIDE, DemoGrounder, example
from locheads.errors import DataError
from locheads.geometry import stretched
from locheads.report.draw_sample import MASK_COLOUR
from locheads.types import HeadIndex


class FakeGrounder:
    """Two heads that look at the top left quarter, and counts how often it is asked."""

    heads = (HeadIndex(1, 2), HeadIndex(3, 0))

    def __init__(self):
        self.asked = []

    def maps(self, image, expression):
        self.asked.append(expression)
        maps = np.full((2, 8, 8), 0.001)
        maps[:, :4, :4] = 0.05
        return maps, stretched(*image.size, 8, 8)


@pytest.fixture
def image():
    return Image.new("RGB", (80, 40), (200, 100, 50))


def test_answer_has_box_mask_fused_map_and_single_heads(image):
    answer = DemoGrounder(FakeGrounder())(image, "it", sigma=0)
    assert answer.text == "L1H2 + L3H0: box from (0, 0) to (40, 20) in pixels; the mask covers 25 %."
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
    assert grounder.asked == ["it"]
    assert first.text != second.text
    answers(image, "another", sigma=0)
    answers(Image.new("RGB", (80, 40)), "another", sigma=0)
    answers(Image.new("RGB", (40, 80)), "another", sigma=0)
    assert len(grounder.asked) == 4


@pytest.mark.parametrize(("shown", "expression", "said"), [(None, "it", "upload one"), (True, "  ", "type what to")])
def test_nothing_to_ask_is_one_sentence(image, shown, expression, said):
    with pytest.raises(DataError, match=said):
        DemoGrounder(FakeGrounder())(image if shown else None, expression, 1.0)


def test_a_constant_map_has_no_box(image):
    grounder = SimpleNamespace(
        heads=(HeadIndex(0, 0),), maps=lambda *_: (np.full((1, 4, 4), 0.1), stretched(80, 40, 4, 4))
    )
    assert "there is no box" in DemoGrounder(grounder)(image, "it", 1.0).text


def test_a_large_image_is_shown_smaller():
    answer = DemoGrounder(FakeGrounder())(Image.new("RGB", (1600, 800)), "it", sigma=0)
    assert all(one.size == (SIDE, SIDE // 2) for one in (answer.fused, answer.mask, answer.heads[0][0]))


def test_example_is_one_of_the_pocket_models_own_world():
    answer = DemoGrounder(Grounder())(*example(), sigma=1.0)
    assert len(answer.heads) == 3


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="Gradio is installed")
def test_without_gradio_the_command_is_named(capsys):
    assert main([]) == 1
    assert capsys.readouterr().err == f"error: {app.MISSING}\n"
    assert "make install EXTRAS=demo" in app.MISSING


def test_page_offers_what_the_answer_has(image):
    pytest.importorskip("gradio", reason="Gradio is not installed (extra `demo`)")
    grounder = FakeGrounder()
    page = app.build(DemoGrounder(grounder), "title", (image, "it"))
    (ask,) = {function.fn for function in page.fns.values()}
    text, fused, mask, heads = ask(image, "it", 1.0)
    assert text.startswith("L1H2 + L3H0") and fused.size == mask.size == (80, 40) and len(heads) == 2
    labels = [block.label for block in page.blocks.values() if getattr(block, "label", None)]
    assert {"Image", "Expression", "Answer", "Mask", "Single heads"} <= set(labels)
    import gradio

    with pytest.raises(gradio.Error, match="type what to look for"):
        ask(image, "", 1.0)
