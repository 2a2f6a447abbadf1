"""The conventions in which boxes are written. Which one a file or a model uses is declared, never guessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from locheads.data.annotation_files import are_numbers, short
from locheads.data.config import BoxFormat
from locheads.errors import DataError, chosen
from locheads.types import Box

_UNITS = {"relative": 1, "100": 100, "999": 999, "1000": 1000, "1024": 1024}
"""What the right and bottom border of the frame is called. The others count pixels."""
_ORDERS = {"xyxy": (0, 1, 2, 3), "yxyx": (1, 0, 3, 2), "xywh": (0, 1, 2, 3)}
"""Where the numbers of a format stand for left, top, and right and bottom, or width and height."""


@dataclass(frozen=True)
class CoordinateFrame:
    """What the coordinates of one image's boxes refer to."""

    origin: tuple[float, float]
    """Its left and top, in pixels of the image."""
    extent: tuple[float, float]
    """Its width and height, in pixels of the image."""
    size: tuple[float, float]
    """Its width and height in its own pixels, which formats in pixels count."""

    def unit(self, form: BoxFormat) -> tuple[float, float]:
        """What 1 is in the format, in pixels of the image: (across, down)."""
        _, _, scale = form.value.partition("_")
        across, down = (_UNITS[scale], _UNITS[scale]) if scale else self.size
        return self.extent[0] / across, self.extent[1] / down


class BoxFault(StrEnum):
    """Why four numbers, or words, are no box."""

    no_numbers = "hold no box"
    unfinished = "end within the model's thoughts"
    outside = "leave the declared range"
    reversed = "have right < left or bottom < top"
    no_area = "span no area of the image"


def whole_image(width: int, height: int, own: tuple[float, float] | None = None) -> CoordinateFrame:
    """The image itself. `own`: (width, height) to which it was resized, where it was."""
    return CoordinateFrame((0.0, 0.0), (width, height), own or (width, height))


def padded_square(width: int, height: int, side: int | None = None) -> CoordinateFrame:
    """The image between two bars, as LLaVA's `expand2square` adds them. `side`: in the model's pixels, where it was
    resized."""
    longest = max(width, height)
    bars = (longest - width) // 2, (longest - height) // 2
    own = side or longest
    return CoordinateFrame((-bars[0], -bars[1]), (longest, longest), (own, own))


def smart_size(width: int, height: int, multiple: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) to which the processors of Qwen2-VL to Qwen3-VL resize an image: multiples of `multiple`, about
    its aspect ratio, with an area between the two bounds (transformers `qwen2_vl/image_processing_qwen2_vl.py`,
    `smart_resize`)."""
    new = [round(side / multiple) * multiple for side in (width, height)]
    if new[0] * new[1] > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        new = [max(multiple, math.floor(side / shrink / multiple) * multiple) for side in (width, height)]
    elif new[0] * new[1] < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        new = [math.ceil(side * grow / multiple) * multiple for side in (width, height)]
    return new[0], new[1]


def in_pixels(numbers: Sequence, form: BoxFormat, frame: CoordinateFrame) -> Box:
    """Four numbers in the declared format -> xyxy in pixels of the image, whatever they span. Columns of numbers, and
    a frame of columns, give columns."""
    form = chosen(BoxFormat, form)
    (across, down), (left, top) = frame.unit(form), frame.origin
    order = form.value.partition("_")[0]
    x, y, a, b = (numbers[i] for i in _ORDERS[order])
    x, y, a, b = x * across, y * down, a * across, b * down
    if order == "xywh":
        a, b = x + a, y + b
    return x + left, y + top, a + left, b + top


def fault_of(box: Box, form: BoxFormat, frame: CoordinateFrame) -> BoxFault | None:
    """What is wrong with an xyxy box in pixels; None: nothing.

    A little beyond the frame is drift, not nonsense: a tenth of it where the format counts pixels, because a model does
    not know the image's size exactly (Qwen2.5-VL: QwenLM/Qwen3-VL issue 1035), a hundredth where the format has a
    range of its own (1001 of 1000).
    """
    if not all(map(math.isfinite, box)):
        return BoxFault.outside
    if box[2] < box[0] or box[3] < box[1]:
        return BoxFault.reversed
    slack = 0.01 if "_" in form else 0.1
    for low, high, start, length in zip(box[:2], box[2:], frame.origin, frame.extent, strict=True):
        if low < start - slack * length or high > start + (1 + slack) * length:
            return BoxFault.outside
    return None if box[2] > box[0] and box[3] > box[1] else BoxFault.no_area


def to_xyxy(values: object, form: BoxFormat, width: int, height: int, where: str) -> Box:
    """Four numbers in the declared format -> xyxy in pixels, not clipped.

    `where` names the record in the DataError for anything but four finite numbers that span an area.
    """
    numbers = list(values) if isinstance(values, tuple) else values
    if are_numbers(numbers, 4):
        box = in_pixels(numbers, form, whole_image(width, height))  # type: ignore[arg-type]
        if box[2] > box[0] and box[3] > box[1]:
            return box
    raise DataError(
        f"{where} has the box {short(values)}, which is not {form} with finite numbers and an area above 0: "
        "correct the record, or dataset.box_format where all boxes are written in another way."
    )
