"""Answers in words become boxes by the declared convention, and by no other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locheads.data.box_text import frame_in, read_answer
from locheads.data.config import AnswerFormat, BoxFormat, Frame
from locheads.data.coordinate_frames import BoxFault, padded_square, whole_image
from locheads.geometry import Geometry, Preprocess, square_geometry, stretched

WIDE = square_geometry(200, 100, 336, 24, Preprocess.pad)
"""An image of 200 x 100 pixels between two bars of 50."""
BOX = (20.0, 10.0, 100.0, 60.0)


def parse(text: str, form: str, frame: Frame = Frame.image, geometry: Geometry = WIDE, cell: int | None = None):
    return read_answer(text, AnswerFormat(form), frame_in(geometry, frame, cell), geometry.width, geometry.height).box


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("[20, 10, 100, 60]", "xyxy"),
        ("The box is (20 10 100 60).", "xyxy"),
        ('```json\n[{"bbox_2d": [20, 10, 100, 60], "label": "cup"}]\n```', "xyxy"),
        ("20, 10, 100, 60", "xyxy"),
        ("<box>(20,10),(100,60)</box>", "xyxy"),
        ("[20, 10, 80, 50]", "xywh"),
        ("It is at [0.1, 0.1, 0.5, 0.6]", "xyxy_relative"),
        ("[.1,.1,.4,.5]", "xywh_relative"),
        ("<box>[[100, 100, 500, 600]]</box>", "xyxy_1000"),
        ("{<100><100>} is no box, [100, 100, 400, 500] is", "xywh_1000"),
        ("<loc0102><loc0102><loc0614><loc0512> cup", "loc"),
    ],
)
def test_one_box_in_every_form(text: str, form: str) -> None:
    found = parse(text, form)
    assert found is not None
    # Location tokens are whole 1024ths.
    np.testing.assert_allclose(found, BOX, atol=0.2 if form == "loc" else 1e-9)


@pytest.mark.parametrize(
    "text",
    ["white striped red circle", "", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "between 10 and 20, then 30 to 40",
     "[nan, 1, 2, 3]", "[30, 10, 20, 40]", "[300, 10, 400, 40]", "[1e999, 0, 1e999, 5]", "bbox_2d = 4"],
)  # fmt: skip
def test_an_answer_without_a_box_of_the_image_has_none(text: str) -> None:
    assert parse(text, "xyxy") is None
    assert parse(text, "loc") is None


def test_the_convention_is_never_guessed() -> None:
    """The same words are other boxes, or none, by other conventions."""
    text = "[0.1, 0.1, 0.5, 0.6]"
    assert parse(text, "xyxy") == (0.1, 0.1, 0.5, 0.6)
    assert parse(text, "xyxy_relative") == pytest.approx(BOX)
    assert parse(text, "xyxy_1000") == pytest.approx((0.02, 0.01, 0.1, 0.06))
    assert parse(text, "loc") is None
    assert parse("<loc0102><loc0102><loc0512><loc0614>", "xyxy") is None


HALF = (139.0, 168.0, 315.0, 354.0)
"""On an image of 640 x 480."""
IMAGE = whole_image(640, 480)
WRITTEN: dict[str, list[str]] = {
    "xyxy": [
        "[139, 168, 315, 354]", "[[139, 168, 315, 354]]", "(139 168 315 354)", "{139, 168, 315, 354}",
        "<139,168,315,354>",
        "<box>139 168 315 354</box>", "[[139, 168], [315, 354]]", "[[[139, 168], [315, 354]]]", "(139,168),(315,354)",
        "<|box_start|>(139,168),(315,354)<|box_end|>", "from (139, 168) to (315, 354)", "(139, 168) and (315, 354)",
        "Its top-left corner is (139, 168), its bottom-right corner (315, 354).",
        "The upper-right corner lies at (315, 168) and the lower-left one at (139, 354).",
        "左上角(139,168)，右下角(315,354)。", "【139，168，315，354】", "（１３９，１６８），（３１５，３５４）",  # noqa: RUF001
        '{"x1": 139, "y1": 168, "x2": 315, "y2": 354}', '{"x_min": 139, "y_min": 168, "x_max": 315, "y_max": 354}',
        "{'ymin': 168, 'xmin': 139, 'ymax': 354, 'xmax': 315}", "x=139, y=168, width=176, height=186",
        "The box: 139, 168, 315, 354.", "**Answer:** [139, 168, 315, 354]", "\\boxed{[139, 168, 315, 354]}",
        "$\\boxed{139, 168, 315, 354}$", '[{"bbox_2d": [139, 168, 315, 354], "label": "cup 2"}]',
        "[139.0; 168.0; 315; 354]",
        "**139, 168, 315, 354**", "`[139, 168, 315, 354]`",
        "[139px, 168px, 315px, 354 px]", '{"bbox": ["139", "168", "315", "354"]}', "(139,168)-(315,354)",
        "<box><139><168><315><354></box>", "[x1=139, y1=168, x2=315, y2=354]",
        "<think>The image is [0, 0, 640, 480].</think>[139, 168, 315, 354]",
        "It could be [1, 2, 3, 4]. </think> [139, 168, 315, 354]",
        "<think>first [1, 2, 3, 4]</think> then <think>[5, 6, 7, 8]</think> <answer>[139, 168, 315, 354]</answer>",
        "<thinking>[1, 2, 3, 4]</thinking>\n[139, 168, 315, 354]", "◁think▷[1, 2, 3, 4]◁/think▷ [139, 168, 315, 354]",
        "The image is [0, 0, 640, 480]. Final answer: [139, 168, 315, 354]",
        "Answer: [1, 2, 3, 4]? No. The final answer is: [139, 168, 315, 354]",
        "It is near [0, 0, 640, 480], so \\boxed{[139, 168, 315, 354]}.",
        "The box [1, 2, 3, 4] is the dog. <answer> [139, 168, 315, 354]",
    ],
    "xywh": ["[139, 168, 176, 186]", '{"x": 139, "y": 168, "w": 176, "h": 186}',
             "left: 139, top: 168, right: 315, bottom: 354"],
    "yxyx": ['{"box_2d": [168, 139, 354, 315]}', '{"x0": 139, "y0": 168, "x1": 315, "y1": 354}',
             "(168, 139), (354, 315)"],
    "xyxy_1000": [
        "<think>[1, 2, 3, 4]</think><answer>It is <|begin_of_box|>[[217, 350, 492, 737]]<|end_of_box|>.</answer>",
        "<|ref|>cup<|/ref|><|det|>[[217, 350, 492, 737]]<|/det|>", "cup [[217,350,492,737;001,002,003,004]]",
        "<loc_217><loc_350><loc_492><loc_737>", "<box>(217,350),(492,737)</box>",
    ],
    "xyxy_100": ["{<22><35><49><74>}"],
    "loc": ["<loc0358><loc0222><loc0755><loc0504> cup ; <loc0001><loc0002><loc0003><loc0004> dog"],
    "yxyx_1024": ["<loc0358><loc0222><loc0755><loc0504>", "[358, 222, 755, 504]"],
}  # fmt: skip
"""One box in every way of writing it."""


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in WRITTEN.items() for text in texts])
def test_the_answer_in_every_way_of_writing_it(form: str, text: str) -> None:
    found = read_answer(text, AnswerFormat(form), IMAGE, 640, 480)
    assert found.box == pytest.approx(HALF, abs=4 if form == "xyxy_100" else 1)
    assert found.fault is None and found.several is (";001" in text or " ; " in text)


NO_BOX = {
    BoxFault.unfinished: ["<think>[139, 168, 315, 354]", "<think>a</think><think>It is [139, 168, 315, 354]"],
    BoxFault.no_numbers: [
        "", "the cup", "[139, 168, 315]", "[1, 2, 3, 4, 5]", "(139, 168), the plate is at (315, 354)", "(1, 2)",
        "(1,2),(3,4),(5,6),(7,8)", '<point x="63.5" y="44.5" alt="cup">cup</point>',
        "I see [1, 2, 3, 4]. <answer>no cup</answer>",
        "[19%, 14%, 46%, 43%]", "<loc0358><loc0222><loc0755><loc0504>", "I count 1, 2, 3, 4 cups",
    ],
    BoxFault.reversed: ["[315, 168, 139, 354]", "(139, 354), (315, 168)"],
    BoxFault.outside: ["[0, 220, 570, 9999]", "[-100, 10, 50, 60]", "[0, 0, 800, 480]", "[0, 0, 1e999, 5]",
                       "[0,0,10,600]"],
    BoxFault.no_area: ["[139, 168, 139, 354]", "[0, 0, 0, 0]", "[640, 10, 660, 20]", "[-20, -20, 0, 0]"],
}  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), [(fault, text) for fault, texts in NO_BOX.items() for text in texts])
def test_an_answer_without_a_box_says_why(fault: BoxFault, text: str) -> None:
    found = read_answer(text, AnswerFormat.xyxy, IMAGE, 640, 480)
    assert (found.box, found.fault) == (None, fault)


@pytest.mark.parametrize(
    ("form", "text", "kept"),
    [
        ("xyxy_1000", "[0, 0, 1001, 500]", True), ("xyxy_1000", "[0, 0, 1100, 500]", False),
        ("xyxy_relative", "[0, 0, 1.0004, 0.5]", True), ("xyxy_relative", "[0, 0, 1.2, 0.5]", False),
        ("xywh_1000", "[500, 0, 600, 500]", False), ("yxyx_1000", "[-4, 0, 500, 1000]", True),
        # A model does not know the image's size to the pixel: 476 of 448 (QwenLM/Qwen3-VL, issue 1035).
        ("xyxy", "[0, 0, 660, 480]", True), ("xyxy", "[0, 0, 960, 480]", False),
    ],
)  # fmt: skip
def test_drift_is_clipped_and_nonsense_is_no_box(form: str, text: str, kept: bool) -> None:
    found = read_answer(text, AnswerFormat(form), IMAGE, 640, 480)
    assert (found.box is not None) is kept and found.fault is (None if kept else BoxFault.outside)
    if found.box is not None:
        assert max(found.box[0::2]) <= 640 and max(found.box[1::2]) <= 480


FRAMES = {
    Frame.image: whole_image(640, 480),
    Frame.padded_square: padded_square(640, 480),
    Frame.input: whole_image(640, 480, (644, 476)),
}
WAYS = ("[{}, {}, {}, {}]", "({},{}),({},{})", "[[{}, {}], [{}, {}]]", "<think>[0, 0, 1, 1]</think>{} {} {} {}")


@given(
    st.sampled_from([form for form in AnswerFormat if form is not AnswerFormat.loc]),
    st.sampled_from(list(FRAMES)),
    st.sampled_from(WAYS),
    st.tuples(st.integers(0, 500), st.integers(0, 400), st.integers(20, 140), st.integers(20, 80)),
)
def test_a_box_written_by_a_convention_is_read_back(
    form: AnswerFormat, frame: Frame, way: str, sides: tuple[int, int, int, int]
) -> None:
    """In any frame, by numbers that are worked out here anew, rounded as a model rounds them."""
    x, y, width, height = sides
    origin, extent, own = {
        Frame.image: ((0, 0), (640, 480), (640, 480)),
        Frame.padded_square: ((0, -80), (640, 640), (640, 640)),
        Frame.input: ((0, 0), (640, 480), (644, 476)),
    }[frame]
    unit = form.value.partition("_")[2]
    scale = own if not unit else (1, 1) if unit == "relative" else (int(unit), int(unit))
    box = (x, y, x + width, y + height)
    left, top, right, bottom = (
        (value - start) / length * most
        for value, start, length, most in zip(box, origin * 2, extent * 2, scale * 2, strict=True)
    )
    digits = 4 if unit == "relative" else 2 if unit == "100" else 0
    last = (right - left, bottom - top) if form.startswith("xywh") else (right, bottom)
    numbers = [round(v, digits) for v in (left, top, *last)]
    if form.startswith("yxyx"):
        numbers = [numbers[i] for i in (1, 0, 3, 2)]
    found = read_answer(way.format(*numbers), form, FRAMES[frame], 640, 480)
    # Rounding moves a corner by half a unit, width and height by another half.
    assert found.box == pytest.approx(box, abs=1.3)
    assert not found.several


def test_long_answers_take_no_time() -> None:
    """Patterns that a long answer could send into endless trials would hang here."""
    for part in (
        "[",
        "[1 ",
        "\n",
        "<think>",
        "(1,2)",
        "1 2 3 ",
        "x1:1 ",
        "\\boxed{",
        "answer *",
        "9",
        "<answer>",
        "> ",
    ):
        read_answer(part * 5000, AnswerFormat.xyxy, IMAGE, 640, 480)


def test_the_first_of_several_boxes_counts_and_is_clipped() -> None:
    assert parse("[-5, 10, 100, 60] or [1, 1, 2, 2]", "xyxy") == (0, 10, 100, 60)


def test_coordinates_of_the_padded_square() -> None:
    # 200 x 200 with bars of 50 above and below: y of 0.3 is 60 - 50 = 10 pixels of the image.
    text = "[0.1, 0.3, 0.5, 0.55]"
    assert parse(text, "xyxy_relative", Frame.input) == pytest.approx(BOX)
    assert parse(text, "xyxy_relative", Frame.image) == pytest.approx((20, 30, 100, 55))
    # In pixels of the model's 336 x 336: 14 to a cell.
    inside = "[33.6, 100.8, 168, 184.8]"
    assert parse(inside, "xyxy", Frame.input, cell=14) == pytest.approx(BOX)


def test_pixels_of_a_resized_image() -> None:
    """As Qwen2.5-VL answers: 200 x 100 pixels became 8 x 4 cells of 28."""
    geometry = stretched(200, 100, 4, 8)
    assert parse("[22.4, 11.2, 112, 67.2]", "xyxy", Frame.input, geometry, 28) == pytest.approx(BOX)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from(["xyxy_relative", "xywh_relative"]))
def test_a_found_box_lies_in_the_image(numbers: list[float], form: str) -> None:
    found = parse(f"box: {numbers}", form)
    if found is not None:
        x0, y0, x1, y1 = found
        assert 0 <= x0 < x1 <= 200 and 0 <= y0 < y1 <= 100


def test_every_box_format_can_be_written_in_words() -> None:
    assert {form.box_format for form in AnswerFormat} == set(BoxFormat)


@given(st.text())
def test_any_text_is_parsed_or_has_no_box(text: str) -> None:
    for form in AnswerFormat:
        numbers = read_answer(text, form, IMAGE, 640, 480).numbers
        assert numbers is None or len(numbers) == 4
