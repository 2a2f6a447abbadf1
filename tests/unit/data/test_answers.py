"""Answers in words become boxes by the declared convention, and by no other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locheads.data.answers import four_numbers, parse_box
from locheads.data.choices import AnswerFormat, Frame
from locheads.models.geometry import Geometry, Preprocess, square_geometry, stretched

WIDE = square_geometry(200, 100, 336, 24, Preprocess.pad)
"""A picture of 200 x 100 pixels between two bars of 50."""
BOX = (20.0, 10.0, 100.0, 60.0)


def parse(text: str, form: str, frame: Frame = Frame.picture, geometry: Geometry = WIDE, cell: int | None = None):
    return parse_box(text, AnswerFormat(form), frame, geometry, cell)


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
def test_an_answer_without_a_box_of_the_picture_has_none(text: str) -> None:
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


def test_the_first_of_several_boxes_counts_and_is_clipped() -> None:
    assert parse("[-5, 10, 100, 60] or [1, 1, 2, 2]", "xyxy") == (0, 10, 100, 60)


def test_coordinates_of_the_padded_square() -> None:
    # 200 x 200 with bars of 50 above and below: y of 0.3 is 60 - 50 = 10 pixels of the picture.
    text = "[0.1, 0.3, 0.5, 0.55]"
    assert parse(text, "xyxy_relative", Frame.input) == pytest.approx(BOX)
    assert parse(text, "xyxy_relative", Frame.picture) == pytest.approx((20, 30, 100, 55))
    # In pixels of the model's 336 x 336: 14 to a cell.
    inside = "[33.6, 100.8, 168, 184.8]"
    assert parse(inside, "xyxy", Frame.input, cell=14) == pytest.approx(BOX)


def test_pixels_of_a_resized_picture() -> None:
    """As Qwen2.5-VL answers: 200 x 100 pixels became 8 x 4 cells of 28."""
    geometry = stretched(200, 100, 4, 8)
    assert parse("[22.4, 11.2, 112, 67.2]", "xyxy", Frame.input, geometry, 28) == pytest.approx(BOX)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from(["xyxy_relative", "xywh_relative"]))
def test_a_found_box_lies_in_the_picture(numbers: list[float], form: str) -> None:
    found = parse(f"box: {numbers}", form)
    if found is not None:
        x0, y0, x1, y1 = found
        assert 0 <= x0 < x1 <= 200 and 0 <= y0 < y1 <= 100


@given(st.text())
def test_any_text_is_parsed_or_has_no_box(text: str) -> None:
    for form in AnswerFormat:
        numbers = four_numbers(text, form)
        assert numbers is None or len(numbers) == 4
