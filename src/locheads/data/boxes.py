"""The conventions in which boxes are written. Which one a file uses is declared, never guessed."""

from locheads.data.choices import BoxFormat
from locheads.data.records import is_number, short
from locheads.errors import DataError
from locheads.types import Box


def to_xyxy(values: object, form: BoxFormat, width: int, height: int, where: str) -> Box:
    """Four numbers in the declared format -> xyxy in pixels, not clipped.

    `where` names the record in the DataError for anything but four finite numbers that span an area.
    """
    numbers = list(values) if isinstance(values, list | tuple) else []
    if len(numbers) == 4 and all(is_number(value) for value in numbers):
        box = in_pixels(numbers, form, width, height)
        if box[2] > box[0] and box[3] > box[1]:
            return box
    raise DataError(
        f"{where} has the box {short(values)}, which is not {form} with finite numbers and an area above 0: "
        "correct the record, or dataset.box_format where all boxes are written in another way."
    )


def in_pixels(numbers: list, form: BoxFormat, width: int, height: int) -> Box:
    """Four numbers in the declared format -> xyxy in pixels, whatever they span."""
    kind, _, scale = form.value.partition("_")
    per_unit = {"": (1.0, 1.0), "relative": (width, height), "1000": (width / 1000, height / 1000)}[scale]
    x, y, a, b = (float(value * unit) for value, unit in zip(numbers, per_unit * 2, strict=True))
    return (x, y, a, b) if kind == "xyxy" else (x, y, x + a, y + b)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two xyxy boxes; 0 where they do not touch."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)
