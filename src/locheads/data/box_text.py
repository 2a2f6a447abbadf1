"""An LVLM's answer in words -> a box. Tolerant of what stands around the numbers, never of what they mean: the
convention is declared, and an answer that does not hold four numbers in it has no box.

The answer is what comes after the thoughts. Where it holds several boxes, the first is scored and the others are
counted. What is not read: percent signs, other units than pixels, and more corners than two.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, assert_never

from locheads.data.config import AnswerFormat, BoxFormat, Frame, PointFormat
from locheads.data.coordinate_frames import BoxFault, CoordinateFrame, fault_of, in_pixels, padded_square, whole_image
from locheads.errors import chosen
from locheads.geometry import Geometry
from locheads.types import Box

_THOUGHTS = r"think|thinking|thought|thoughts|reason|reasoning"
_TAG = re.compile(
    rf"(?P<opens><(?:{_THOUGHTS})>|◁think▷|\[think\]|<\|begin_of_thought\|>)"
    rf"|</(?:{_THOUGHTS})>|◁/think▷|\[/think\]|<\|end_of_thought\|>",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ANSWER_LABEL = re.compile(r"\banswer\b[\s*]{0,4}(?:is\b)?[\s*]{0,4}:", re.IGNORECASE)

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_GAP = r"(?:\s*[,;]\s*|\s+)"
_LIST = rf"{_NUMBER}(?:{_GAP}{_NUMBER})*"
_GROUP = re.compile(rf"[\[({{<>]\s*({_LIST})(?=\s*[\])}}<>])")
"""Numbers in brackets, parentheses, braces or between tags: [0.1, 0.2, 0.3, 0.4], (12, 34), <box>1 2 3 4</box>."""
_BARE = re.compile(rf"(?:^|[:=])[ \t]*({_NUMBER}(?:{_GAP}{_NUMBER}){{3}})[ \t]*\.?[ \t]*$", re.MULTILINE)
"""Four numbers that end a line, without any bracket: "20, 10, 100, 60", "The box: 20, 10, 100, 60."."""
_WHOLE = re.compile(rf"\s*({_NUMBER}(?:{_GAP}{_NUMBER}){{3}})\s*\.?\s*")
_AROUND = re.compile(rf"[\"']({_NUMBER})[\"']|(?<=\d)\s?(?:px|pixels?)\b")
"""What may stand around a number: "12", 12px."""
_SINGLE = re.compile(r"(?<=[\d.])\s*>\s*<\s*(?=[-+.\d])")
"""Between the numbers of {<25><40><75><60>} (MiniGPT-v2)."""
_STANDING = re.compile(rf"(?<![A-Za-z_\d.])({_NUMBER})")
"""A number, but not that of a name such as x1."""
_TWO_CORNERS = re.compile(r"\s*[\])}>]\s*(?:[,;]|,?\s*(?:and|to|through|-+>?|[–—→到至和]))?\s*")  # noqa: RUF001
"""Between the corners of (12, 34), (56, 78), of [[12, 34], [56, 78]] and of (12, 34) to (56, 78)."""
_SECOND_CORNER = re.compile(r"\s*[\])}>]\D{0,80}?(?:bottom|lower|right|右下|右上|左下)\D{0,40}", re.IGNORECASE)
"""Between corners that are named: "... (12, 34) and the bottom-right corner is at (56, 78)"."""
_NAMED = re.compile(
    rf"\b(x_?min|y_?min|x_?max|y_?max|[xy][0-2]?|left|top|right|bottom|w(?:idth)?|h(?:eight)?)\b[\"']?\s*[:=]\s*[\"']?"
    rf"({_NUMBER})",
    re.IGNORECASE,
)
_SIDES = {"left": "x0", "top": "y0", "right": "x2", "bottom": "y2", "xmin": "x0", "ymin": "y0", "xmax": "x2",
          "ymax": "y2", "x": "x0", "y": "y0", "width": "w", "height": "h"}  # fmt: skip
_TOKENS = {
    AnswerFormat.loc: re.compile(r"<loc(\d{4})>"),  # PaliGemma
    AnswerFormat.yxyx_1024: re.compile(r"<loc(\d{4})>"),
    AnswerFormat.xyxy_1000: re.compile(r"<loc_(\d+)>"),  # Florence-2
}

_MARKS = "【】〔〕［］〈〉、−　*`"  # noqa: RUF001
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(_MARKS, "[][][]<>,-   ")
"""Full-width letters, digits and brackets of Chinese and Japanese text -> ASCII; Markdown's marks -> spaces."""

_POINT = re.compile(rf"\bx\d*\s*=\s*[\"']?\s*({_NUMBER})[\"']?\s+y\d*\s*=\s*[\"']?\s*({_NUMBER})", re.IGNORECASE)
"""<point x="63.5" y="44.5" alt="cup">cup</point> (Molmo)."""


@dataclass(frozen=True)
class WrittenBox:
    """What an answer in words says."""

    box: Box | None = None
    """xyxy in pixels of the image, clipped to it."""
    fault: BoxFault | None = None
    """Why there is no box."""
    numbers: tuple[float, ...] | None = None
    """The four numbers, as written."""
    several: bool = False
    """Whether it holds other boxes, too."""


def frame_in(geometry: Geometry, frame: Frame, cell_pixels: int | None = None) -> CoordinateFrame:
    """What coordinates refer to, where the model's input is known."""
    match frame := chosen(Frame, frame):
        case Frame.image:
            return whole_image(geometry.width, geometry.height)
        case Frame.padded_square:
            return padded_square(geometry.width, geometry.height)
        case Frame.input:
            (across, down), (left, top), grid = geometry.scale, geometry.offset, (geometry.cols, geometry.rows)
            side = cell_pixels or 1  # relative coordinates of the input are the same whatever a cell measures
            extent, size = (grid[0] / across, grid[1] / down), (grid[0] * side, grid[1] * side)
            return CoordinateFrame((-left / across, -top / down), extent, size)
        case _:
            assert_never(frame)


def read_answer(text: str, form: AnswerFormat, frame: CoordinateFrame, width: int, height: int) -> WrittenBox:
    """The first box of an answer about an image of width x height pixels, or why it holds none."""
    return read_answers(text, form, frame, width, height)[0]


def read_answers(text: str, form: AnswerFormat, frame: CoordinateFrame, width: int, height: int) -> list[WrittenBox]:
    """Every different box of such an answer, in its order; one without numbers where it holds none."""
    form = chosen(AnswerFormat, form)
    answer = final_answer(text)
    if answer is None:
        return [WrittenBox(fault=BoxFault.unfinished)]
    found = list(dict.fromkeys(_boxes(answer, form)))
    if not found:
        return [WrittenBox(fault=BoxFault.no_numbers)]
    return [_placed(numbers, form, frame, (width, height), several=len(found) > 1) for numbers in found]


def _placed(
    numbers: tuple[float, ...], form: AnswerFormat, frame: CoordinateFrame, size: tuple[int, int], several: bool
) -> WrittenBox:
    box = in_pixels(numbers, form.box_format, frame)
    if (fault := fault_of(box, form.box_format, frame)) is None:
        limits = map(float, size * 2)
        x0, y0, x1, y1 = (min(max(value, 0.0), limit) for value, limit in zip(box, limits, strict=True))
        if x1 > x0 and y1 > y0:
            return WrittenBox((x0, y0, x1, y1), None, numbers, several)
        fault = BoxFault.no_area
    return WrittenBox(None, fault, numbers, several)


def number_places(text: str, form: AnswerFormat) -> list[tuple[int, int]] | None:
    """Where the four numbers of the first box of an answer stand, in characters; None where it holds none, or writes
    other numbers than the box's corners (a width that is named)."""
    answer, form = final_answer(text), chosen(AnswerFormat, form)
    box = next(_boxes(answer, form), None) if answer is not None else None
    if answer is None or box is None:
        return None
    plain = text.translate(_PLAIN)
    token = _TOKENS.get(form)
    numbers = list(token.finditer(plain)) if token and token.search(plain) else list(_STANDING.finditer(plain))
    start = max(plain.rfind(answer.strip()), 0)
    behind = [
        ((number.start(1), number.start(1) + len(number[1].rstrip("."))), float(number[1]))
        for number in numbers
        if number.start() >= start
    ]
    fours = (behind[i : i + 4] for i in range(len(behind) - 3))
    found = next((four for four in fours if sorted(value for _, value in four) == sorted(box)), None)
    return None if found is None else [place for place, _ in found]


def read_point(text: str, form: PointFormat, frame: CoordinateFrame) -> tuple[tuple[float, float] | None, bool]:
    """(the first point of an answer in pixels of the image, whether it holds others, too); None where it holds none,
    or one beyond the declared range."""
    answer = final_answer(text) or ""
    found = [(float(x), float(y)) for x, y in _POINT.findall(answer)]
    found = found or [pair for group in _GROUP.finditer(answer) if len(pair := _values(group[1])) == 2]  # type: ignore[misc]
    return (placed_point(found[0], form, frame) if found else None), len(set(found)) > 1


def placed_point(numbers: Sequence[float], form: PointFormat, frame: CoordinateFrame) -> tuple[float, float] | None:
    """Two numbers in the declared format -> (x, y) in pixels of the image; None beyond the declared range."""
    corners = chosen(PointFormat, form).box_format
    x, y, *_ = box = in_pixels([*numbers, *numbers], corners, frame)
    return None if fault_of(box, corners, frame) == BoxFault.outside else (x, y)


def final_answer(text: str) -> str | None:
    """The answer without the thoughts before it, in plain characters; None where the thoughts never end."""
    rest, unfinished = _without_thoughts(text.translate(_PLAIN))
    if unfinished and not rest.strip():
        return None
    if "<|begin_of_box|>" in rest:  # GLM; it may give several
        rest = "\n".join(part.split("<|end_of_box|>")[0] for part in rest.split("<|begin_of_box|>")[1:])
    if (tagged := _ANSWER.findall(rest)) and tagged[-1].strip():
        rest = tagged[-1]
    if any(map(str.isdigit, after_label := _ANSWER_LABEL.split(rest)[-1])):  # a word in prose: maybe nothing follows
        rest = after_label
    boxed = _BOXED.findall(rest)
    return f"[{boxed[-1]}]" if boxed else rest


def _without_thoughts(text: str) -> tuple[str, bool]:
    """(the answer outside of the thoughts, whether the thoughts never end)."""
    answer, start, thinking = "", 0, False
    for tag in _TAG.finditer(text):
        if tag["opens"] and not thinking:
            answer += text[start : tag.start()]
        elif not tag["opens"] and not thinking:
            answer = ""  # a template may have opened them
        thinking, start = bool(tag["opens"]), tag.end()
    return (answer, True) if thinking else (answer + "\n" + text[start:], False)


def _boxes(text: str, form: AnswerFormat) -> Iterator[tuple[float, ...]]:
    """All boxes of the final answer, in its order."""
    if form in _TOKENS and (tokens := _TOKENS[form].findall(text)):
        values = tuple(map(float, tokens))
        yield from (values[i : i + 4] for i in range(0, len(values) - 3, 4))
    elif form != AnswerFormat.loc:
        text = _SINGLE.sub(" ", _AROUND.sub(r"\1", text))
        found = [*_grouped(text), *_corners(text, form.box_format), *_named(text, form.box_format)]
        yield from (numbers for _, numbers in sorted(found, key=itemgetter(0))) if found else _bare(text)


def _grouped(text: str) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(where, four numbers) of every bracket around four, or around several fours with ; between them (CogVLM)."""
    for group in _GROUP.finditer(text):
        numbers = _values(group[1])
        fours = [_values(part) for part in group[1].split(";")]
        if len(numbers) == 4:
            yield group.start(), numbers
        elif all(len(four) == 4 for four in fours):
            yield from ((group.start(), four) for four in fours)


def _corners(text: str, form: BoxFormat) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(where, four numbers) of every two corners that stand in brackets of their own, one behind the other."""
    pairs = [(group, numbers) for group in _GROUP.finditer(text) if len(numbers := _values(group[1])) == 2]
    runs: list[list[tuple[re.Match[str], tuple[float, ...]]]] = []
    for group, numbers in pairs:
        between = text[runs[-1][-1][0].end() : group.start()] if runs else ""
        if runs and _TWO_CORNERS.fullmatch(between):
            runs[-1].append((group, numbers))
        elif runs and len(runs[-1]) == 1 and not form.startswith("xywh") and _SECOND_CORNER.fullmatch(between):
            # Two opposite corners that are named span the same box, whichever of them they are.
            first, a = runs.pop()[0]
            yield first.start(), (*map(min, a, numbers), *map(max, a, numbers))
        else:
            runs.append([(group, numbers)])
    # More than two are a polygon.
    yield from ((run[0][0].start(), run[0][1] + run[1][1]) for run in runs if len(run) == 2)


def _named(text: str, form: BoxFormat) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(where, four numbers) of every {"x1": 12, "y1": 34, "x2": 56, "y2": 78} and its like, in the format's order: the
    names say which number is which."""
    matches = list(_NAMED.finditer(text))
    for i in range(0, len(matches) - 3, 4):
        named = {match[1].lower().replace("_", ""): float(match[2]) for match in matches[i : i + 4]}
        by_side = {_SIDES.get(name, name): value for name, value in named.items()}
        # x1 is the left one beside x2, the right one beside x0.
        low: list[Any] = [by_side.get(f"{axis}0", by_side.get(f"{axis}1")) for axis in "xy"]
        second = {axis: by_side.get(f"{axis}1") if f"{axis}0" in by_side else None for axis in "xy"}
        high: list[Any] = [by_side.get(f"{axis}2", second[axis]) for axis in "xy"]
        if "w" in by_side and "h" in by_side and None not in low:
            high = [start + by_side[side] for start, side in zip(low, "wh", strict=True)]
        if None not in (*low, *high):
            (x0, y0), (x1, y1) = low, high
            orders = {"xyxy": (x0, y0, x1, y1), "yxyx": (y0, x0, y1, x1), "xywh": (x0, y0, x1 - x0, y1 - y0)}
            yield matches[i].start(), orders[form[:4]]


def _bare(text: str) -> Iterator[tuple[float, ...]]:
    whole = _WHOLE.fullmatch(text)
    yield from ([_values(whole[1])] if whole else map(_values, _BARE.findall(text)))


def _values(numbers: str) -> tuple[float, ...]:
    return tuple(map(float, re.findall(_NUMBER, numbers)))
