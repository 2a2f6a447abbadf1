"""Where the numbers of a box stand in an answer."""

import pytest

from locheads.data.box_text import number_places
from locheads.data.config import AnswerFormat


@pytest.mark.parametrize(
    ("text", "form", "numbers"),
    [
        ("[20, 10, 100, 60]", "xyxy", ["20", "10", "100", "60"]),
        ("The 2 cups: 20, 10, 100, 60.", "xyxy", ["20", "10", "100", "60"]),
        ("There are 4 of 9 at (0.20 0.1 1.0 .6).", "xyxy_relative", ["0.20", "0.1", "1.0", ".6"]),
        ("<think>[1, 2, 3, 4]</think> [20, 10, 100, 60] or [5, 6, 7, 8]", "xyxy", ["20", "10", "100", "60"]),
        ("<think>[20, 10, 100, 60]?</think>[20, 10, 100, 60]", "xyxy", ["20", "10", "100", "60"]),
        ('{"x1": 20, "y1": 10, "x2": 100, "y2": 60}', "xyxy", ["20", "10", "100", "60"]),
        ('{"left": 20, "top": 10, "width": 80, "height": 50}', "xyxy", None),  # of the corners two are not written
        ("（２０，１０），（１００，６０）", "xyxy", ["２０", "１０", "１００", "６０"]),  # noqa: RUF001
        ("<loc0102><loc0051><loc0614><loc0512> cup 3", "loc", ["0102", "0051", "0614", "0512"]),
        ("<loc_12><loc_34><loc_56><loc_78>", "xyxy_1000", ["12", "34", "56", "78"]),
        ("a cup", "xyxy", None),
        ("<think>[20, 10, 100, 60]", "xyxy", None),
        ("the box of the cup is [10, 20, 30]", "xyxy", None),
    ],
)
def test_they_are_those_that_are_read(text: str, form: str, numbers: list[str] | None) -> None:
    found = number_places(text, AnswerFormat(form))
    assert (None if found is None else [text[a:b] for a, b in found]) == numbers


def test_those_of_the_answer_count_and_not_those_of_the_thoughts() -> None:
    text = "<think>[20, 10, 100, 60]?</think>[20, 10, 100, 60]"
    found = number_places(text, AnswerFormat.xyxy)
    assert found is not None and found[0][0] == text.rindex("20")
