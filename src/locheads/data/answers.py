"""An LVLM's answer in words -> a box. Tolerant of what stands around the numbers, never of what they mean: the
convention is declared, and an answer that does not hold four numbers in it has no box."""

import math
import re

import numpy as np

from locheads.data.boxes import in_pixels
from locheads.data.choices import AnswerFormat, BoxFormat, Frame
from locheads.models.geometry import Geometry
from locheads.types import Box

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_GAP = r"(?:\s*[,;]\s*|\s+)"
_FOUR = _GAP.join([f"({_NUMBER})"] * 4)
_CORNER = rf"\(\s*({_NUMBER}){_GAP}({_NUMBER})\s*\)"
_FORMS = (
    # [0.1, 0.2, 0.3, 0.4], also in parentheses, braces, tags, or a JSON's "bbox_2d"
    re.compile(rf"[\[({{>]\s*{_FOUR}\s*[\])}}<]"),
    # (12,34),(56,78)
    re.compile(rf"{_CORNER}\s*,?\s*{_CORNER}"),
    # the whole answer, without any bracket
    re.compile(rf"^\s*{_FOUR}\s*\.?\s*$"),
)
_LOCATIONS = re.compile(r"<loc(\d{4})>")


def parse_box(text: str, form: AnswerFormat, frame: Frame, geometry: Geometry, cell_pixels: int | None) -> Box | None:
    """The first box of an answer, xyxy in pixels of the original picture, clipped to it.

    Args:
        text: the answer.
        form: how the model writes boxes.
        frame: what its coordinates refer to.
        geometry: of the picture in the model's input.
        cell_pixels: side of a cell in pixels of the input, for coordinates in those.

    None where the answer holds no four numbers, or where they span no area of the picture.
    """
    numbers = four_numbers(text, form)
    if numbers is None or not all(map(math.isfinite, numbers)):
        return None
    box = np.array(_in_picture(numbers, form, frame, geometry, cell_pixels))
    x0, y0, x1, y1 = np.clip(box, 0, (geometry.width, geometry.height) * 2).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def four_numbers(text: str, form: AnswerFormat) -> list[float] | None:
    """The first four numbers that are written like a box."""
    if form is AnswerFormat.loc:
        found = _LOCATIONS.findall(text)[:4]
        return [float(value) for value in found] if len(found) == 4 else None
    matches = [match for pattern in _FORMS if (match := pattern.search(text))]
    first = min(matches, key=lambda match: match.start(), default=None)
    return None if first is None else [float(value) for value in first.groups()]


def _in_picture(
    numbers: list[float], form: AnswerFormat, frame: Frame, geometry: Geometry, cell_pixels: int | None
) -> Box:
    if frame is Frame.picture:
        return _xyxy(numbers, form, geometry.width, geometry.height)
    # Relative coordinates of the input are the same whatever a cell measures.
    side = cell_pixels or 1
    corners = _xyxy(numbers, form, geometry.cols * side, geometry.rows * side)
    x0, y0, x1, y1 = geometry.to_pixels(np.array(corners) / side).tolist()
    return x0, y0, x1, y1


def _xyxy(numbers: list[float], form: AnswerFormat, width: int, height: int) -> Box:
    if form is AnswerFormat.loc:
        top, left, bottom, right = (value / 1024 for value in numbers)
        return left * width, top * height, right * width, bottom * height
    return in_pixels(numbers, BoxFormat(form.value), width, height)
