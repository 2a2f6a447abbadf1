"""Other people's predictions: a JSONL or CSV file of boxes, masks or both, read line by line.

A line is `{"id": "12", "box": [x, y, w, h], "mask": {...}}`; `box` may be a list of boxes, with as many `scores`. Where
the file has no masks, a box stands for its mask; where it has no boxes, a mask's tight box. `null` (CSV: an empty cell)
or an empty list says that nothing was answered. A box may also be the model's answer in words, which is read as
stage=direct reads it.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, assert_never

from pycocotools import mask as coco

from locheads.data.annotation_files import are_numbers, short
from locheads.data.box_text import WrittenBox, placed_point, read_answers, read_point
from locheads.data.config import AnswerFormat, BoxFormat, Frame, PointFormat, PredictionsConfig
from locheads.data.coordinate_frames import (
    BoxFault,
    CoordinateFrame,
    fault_of,
    in_pixels,
    padded_square,
    smart_size,
    whole_image,
)
from locheads.data.masks import box_code, tight_box, to_rle
from locheads.data.prediction_lines import prediction_lines
from locheads.errors import ConfigError, DataError
from locheads.types import Box


@dataclass(frozen=True)
class AllBoxes:
    """What a line answers where expressions may name several objects, or none."""

    boxes: tuple[Box, ...]
    """The best first."""
    scores: tuple[float, ...] | None
    """Theirs; None where the file has none."""
    n_answered: int
    """So many of the boxes are the answer."""
    own_mask: bool
    """Whether the line has a mask, which is that of the answer; else the answered boxes stand for it."""


@dataclass(frozen=True)
class Answer:
    """What a file says about one sample; None where it answers nothing."""

    sample_id: str
    box: Box | None
    mask: dict[str, object] | None
    """COCO run-length code."""
    written: WrittenBox | None = field(default=None, compare=False)
    """How the box stands in the file; None where the line has none."""
    point: tuple[float, float] | None = None
    """(x, y) in pixels, of a file of points."""
    all: AllBoxes | None = field(default=None, compare=False)
    """Of a file of boxes: `box` is the first of them, unless that one spans no area."""


def read_predictions(
    path: Path, form: PredictionsConfig, sizes: dict[str, tuple[int, int]], what: str
) -> Iterator[Answer]:
    """The answers in the order of the file. `sizes`: sample id -> (width, height) of its image, of the samples that
    the file may be about; `what` names these in an error.

    A box that spans no area answers nothing. Raises DataError, naming file and line, for what is no prediction, an
    unknown id, one that is there twice, and lines of which only some have boxes, masks or scores; ConfigError where
    the boxes' format is not stated.
    """
    seen: dict[str, str] = {}
    kinds: list[str] | None = None
    for where, record in prediction_lines(path, form):
        kinds = _kinds(record, form, kinds, where)
        sample_id = _id(record, form.id, where, sizes)
        if sample_id not in sizes:
            raise DataError(
                f"{where} is about the sample {short(sample_id)}, which {what} does not hold: choose the data set and "
                "split that the file is about, or set predictions_format.id to where its ids are."
            )
        if sample_id in seen:
            raise DataError(
                f"{where} is about the sample {short(sample_id)}, which {seen[sample_id]} is about, too: remove one."
            )
        seen[sample_id] = where.removeprefix(f"{path}, ")
        yield _answer(record, form, sample_id, sizes[sample_id], where)


def _kinds(record: dict, form: PredictionsConfig, before: list[str] | None, where: str) -> list[str]:
    """Which of box, mask and scores the line has: the same as the lines before, because it decides what stands for
    what."""
    kinds = [key for key in (form.box, form.mask, form.scores) if key in record]
    if not {form.box, form.mask} & {*kinds}:
        raise DataError(
            f"{where} has neither {form.box!r} nor {form.mask!r}: set predictions_format.box or .mask to where they "
            "are, and write null where nothing was answered."
        )
    if before is not None and kinds != before:
        raise DataError(
            f"{where} has {' and '.join(kinds)}, but the lines before have {' and '.join(before)}: give every line the "
            "same, and write null where nothing was answered."
        )
    return kinds


def frame_of(form: PredictionsConfig, width: int, height: int) -> CoordinateFrame:
    """What the coordinates of an image's boxes refer to."""
    match form.frame:
        case Frame.image:
            return whole_image(width, height)
        case Frame.padded_square:
            return padded_square(width, height, form.side)
        case Frame.input if form.side or not form.multiple:
            return whole_image(width, height, (form.side, form.side) if form.side else None)
        case Frame.input:
            own = smart_size(width, height, form.multiple, form.min_pixels, form.max_pixels)
            return whole_image(width, height, own)
    assert_never(form.frame)


def _answer(record: dict, form: PredictionsConfig, sample_id: str, size: tuple[int, int], where: str) -> Answer:
    has_box, has_mask = form.box in record, form.mask in record
    if form.point_format is not None:
        if has_mask:
            raise DataError(
                f"{where} has a mask, but predictions_format.point_format says that the file holds points: set it "
                "to null."
            )
        return _point(record[form.box], form.point_format, sample_id, frame_of(form, *size), where)
    said = _boxes(record, form, size, where) if has_box else []
    written = said[0][0] if said else None
    box = written.box if written else None
    segmentation = record.get(form.mask)
    code = to_rle(segmentation, *size, where, empty=True) if segmentation not in (None, []) else None
    code = code if code and coco.area(code) else None
    if not has_mask and box is not None:
        code = box_code(box, *size)
    if not has_box and code is not None:
        box = tight_box(code)
    if not has_box:
        return Answer(sample_id, box, code)
    boxes = tuple(one.box for one, _ in said if one.box)
    scores = tuple(score for one, score in said if one.box and score is not None)
    n_answered = len(boxes) - sum(score < form.min_score for score in scores)
    found = AllBoxes(boxes, scores if form.scores in record else None, n_answered, has_mask)
    return Answer(sample_id, box, code, written, all=found)


def _point(values: object, form: PointFormat, sample_id: str, frame: CoordinateFrame, where: str) -> Answer:
    if values is None:
        return Answer(sample_id, None, None)
    if isinstance(values, str):
        point, several = read_point(values, form, frame)
        fault = None if point else BoxFault.no_numbers
        return Answer(sample_id, None, None, WrittenBox(fault=fault, several=several), point)
    if not are_numbers(values, 2):
        raise _no_numbers(where, "point", values, "two")
    point = placed_point(values, form, frame)  # type: ignore[arg-type]
    return Answer(sample_id, None, None, WrittenBox(fault=None if point else BoxFault.outside), point)


def _boxes(
    record: dict, form: PredictionsConfig, size: tuple[int, int], where: str
) -> list[tuple[WrittenBox, float | None]]:
    """Every box with its score, the best first, of equals the first in the line; none where nothing was answered."""
    values = record[form.box]
    written = [] if _is_nothing(values) else _written(values, form, size, where)
    if form.scores not in record:
        return [(one, None) for one in written]
    given = record[form.scores]
    scores = [] if _is_nothing(given) else given if isinstance(given, list) else [given]
    n = sum(one.numbers is not None for one in written)
    if not are_numbers(scores, n):
        raise DataError(
            f"{where} has {n} boxes and the scores {short(given)}: give every box a finite number of its own, or set "
            "predictions_format.scores='' to leave them out."
        )
    if n == 0:  # words without a box
        return [(one, None) for one in written]
    pairs = zip(written, map(float, scores), strict=True)
    return [(one, score) for one, score in sorted(pairs, key=itemgetter(1), reverse=True)]


def _written(values: object, form: PredictionsConfig, size: tuple[int, int], where: str) -> list[WrittenBox]:
    """One or several. A box beyond its frame is kept as it was answered."""
    if form.box_format is None:
        raise ConfigError(
            f"{where} has a box, but how it is written is not stated: choose predictions_format=FORMAT, one of "
            f"{', '.join(BoxFormat)}."
        )
    frame = frame_of(form, *size)
    if isinstance(values, str):
        return read_answers(values, AnswerFormat(form.box_format.value), frame, *size)
    one = _flat(values)
    several = isinstance(one, list) and all(isinstance(part, list) for part in one)
    found = [_box(part, form.box_format, frame, where) for part in (map(_flat, one) if several else [one])]
    return [replace(box, several=len({box.numbers for box in found}) > 1) for box in found]


def _box(numbers: Any, form: BoxFormat, frame: CoordinateFrame, where: str) -> WrittenBox:
    if not are_numbers(numbers, 4):
        raise _no_numbers(where, "box", numbers, "four")
    box = in_pixels(numbers, form, frame)
    kept = box if box[2] > box[0] and box[3] > box[1] else None
    return WrittenBox(kept, fault_of(box, form, frame), tuple(map(float, numbers)))


def _no_numbers(where: str, what: str, values: object, count: str) -> DataError:
    return DataError(
        f"{where} has the {what} {short(values)}, which is not {count} finite numbers: correct the line, or write null "
        "where nothing was answered."
    )


def _is_nothing(values: object) -> bool:
    if isinstance(values, list):
        return len(values) in (0, 4) and all(isinstance(value, float) and math.isnan(value) for value in values)
    return values is None or (isinstance(values, float) and math.isnan(values))


def _flat(values: Any) -> Any:
    """[1, 2, 3, 4] from [[1, 2, 3, 4]] or [[1, 2], [3, 4]]; anything else as it is."""
    if isinstance(values, list) and [len(v) if isinstance(v, list) else 0 for v in values] in ([4], [2, 2]):
        return [number for part in values for number in part]
    return values


def _id(record: dict, key: str, where: str, known: Iterable[str]) -> str:
    value = record.get(key)
    # pandas makes floats of whole numbers where a row has none.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value not in known and re.fullmatch(r"\d+\.0*", value):
        value = value.split(".")[0]
    if (isinstance(value, str) and value.strip()) or type(value) is int:
        return str(value)
    raise DataError(f"{where} has no text or whole number at {key!r}: set predictions_format.id to where the ids are.")
