"""The watcher names the convention that was used where another is declared, and says nothing where all is right."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.data.box_text import WrittenBox, read_answer
from locheads.data.config import AnswerFormat, BoxFormat, Frame
from locheads.data.coordinate_frames import CoordinateFrame, fault_of, in_pixels, padded_square, whole_image
from locheads.evaluation.box_format_check import BoxCheck, BoxFormatMonitor
from locheads.types import Box, ImageGroup, Sample

SIZES = ((640, 480), (480, 640), (500, 375), (427, 640), (612, 612))
FRAMES: dict[Frame, Callable[[int, int], CoordinateFrame]] = {
    Frame.image: whole_image,
    Frame.padded_square: padded_square,
}
CONVENTIONS = list(itertools.product(BoxFormat, FRAMES))
ALIKE = {BoxFormat.xyxy_999: BoxFormat.xyxy_1000}
"""What nobody can tell apart by its boxes."""

Model = Callable[[np.random.Generator, Box, tuple[int, int]], Box]


def some_box(rng: np.random.Generator, _: Box | None, size: tuple[int, int]) -> Box:
    """Anywhere in the image."""
    width, height = (rng.uniform(0.08, 0.6) * side for side in size)
    x, y = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
    return x, y, x + width, y + height


def good(rng: np.random.Generator, true: Box, size: tuple[int, int]) -> Box:
    """Right to 5 % of the object for three quarters of the expressions, anywhere for the others."""
    if rng.random() < 0.25:
        return some_box(rng, true, size)
    x0, y0, x1, y1 = true
    noise = rng.normal(0, 0.05, 4) * ([x1 - x0, y1 - y0] * 2)
    return tuple(np.clip(np.array(true) + noise, 0, [*size, *size]).tolist())


def centre(_: np.random.Generator, __: Box, size: tuple[int, int]) -> Box:
    return size[0] / 4, size[1] / 4, size[0] * 3 / 4, size[1] * 3 / 4


def small(rng: np.random.Generator, true: Box, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = some_box(rng, true, size)
    return x0, y0, x0 + 0.25 * (x1 - x0) + 1, y0 + 0.25 * (y1 - y0) + 1


def numbers_of(box: Box, form: BoxFormat, frame: CoordinateFrame) -> list[float]:
    """The box as a model of that convention writes it."""
    values = [
        (value - start) / unit for value, start, unit in zip(box, frame.origin * 2, frame.unit(form) * 2, strict=True)
    ]
    x0, y0, x1, y1 = values if form.endswith("relative") else map(round, values)
    return {"xyxy": [x0, y0, x1, y1], "yxyx": [y0, x0, y1, x1], "xywh": [x0, y0, x1 - x0, y1 - y0]}[form[:4]]


def watch(
    model: Model, written: tuple[BoxFormat, Frame], declared: tuple[BoxFormat, Frame], n: int, seed: int = 0
) -> tuple[BoxCheck, list[str]]:
    """What the watcher says of `n` expressions, three to an image."""
    rng = np.random.default_rng([seed, n])
    watcher = BoxFormatMonitor(*declared, "predictions_format.box_format")
    for i in range(n):
        if i % 3 == 0:
            size = SIZES[rng.integers(len(SIZES))]
        true = some_box(rng, None, size)
        numbers = numbers_of(model(rng, true, size), written[0], FRAMES[written[1]](*size))
        frame = FRAMES[declared[1]](*size)
        box = in_pixels(numbers, declared[0], frame)
        kept = box if box[2] > box[0] and box[3] > box[1] else None
        answer = WrittenBox(kept, fault_of(box, declared[0], frame), tuple(numbers))
        sample = Sample(str(i), str(i), "it", true, {}, "")
        watcher.add(answer, ImageGroup(str(i // 3), Path("p.jpg"), *size, (sample,)), sample, frame)
    check = watcher.check()
    return check, watcher.notes(check)


@pytest.mark.parametrize("n", [1, 4, 60])
@pytest.mark.parametrize("convention", CONVENTIONS, ids="-".join)
def test_right_answers_are_passed_in_silence(convention: tuple[BoxFormat, Frame], n: int) -> None:
    check, notes = watch(good, convention, convention, n)
    assert notes == [] and check.better is None
    assert check.declared is not None and (n == 1 or check.declared.mean_iou > 0.3)
    assert (check.n_boxes, check.n_reversed, check.n_outside, check.n_shares) == (n, 0, 0, 0)


@pytest.mark.parametrize("convention", CONVENTIONS, ids="-".join)
@pytest.mark.parametrize("model", [some_box, centre, small])
def test_a_bad_model_of_the_declared_convention_is_no_reason_for_another(
    model: Model, convention: tuple[BoxFormat, Frame]
) -> None:
    for n, seed in ((6, 1), (60, 2), (60, 3)):
        check, notes = watch(model, convention, convention, n, seed)
        assert check.better is None and notes == []


def test_another_convention_than_declared_is_named() -> None:
    """Every pair of conventions. Silent are only those that differ by less than the margin."""
    silent = set()
    for written, declared in itertools.permutations(CONVENTIONS, 2):
        check, notes = watch(good, written, declared, 60)
        if check.better is None:
            silent.add((written, declared))
            assert check.declared is not None and check.declared.mean_iou > 0.5
            continue
        assert (check.better.box_format, check.better.frame) == (ALIKE.get(written[0], written[0]), written[1])
        assert check.declared is not None and check.better.mean_iou > check.declared.mean_iou + 0.1
        assert any(note.startswith("Read with predictions_format.") for note in notes)
    near = ({"xyxy_999", "xyxy_1000"}, {"yxyx_1000", "yxyx_1024"})
    assert all({a[0], b[0]} in near for a, b in silent) and len(silent) <= 8


@pytest.mark.parametrize("n", [8, 16])
def test_few_answers_suffice_where_the_difference_is_large(n: int) -> None:
    xywh, xyxy = (BoxFormat.xywh, Frame.image), (BoxFormat.xyxy, Frame.image)
    check, notes = watch(good, xywh, xyxy, n)
    assert check.better is not None and check.better.box_format == "xywh"
    assert check.n_reversed > 0 and "have right < left or bottom < top: is predictions_format" in notes[0]


def test_shares_where_pixels_are_declared() -> None:
    check, notes = watch(good, (BoxFormat.xyxy_relative, Frame.image), (BoxFormat.xyxy, Frame.image), 4)
    assert (check.n_shares, check.n_specks) == (4, 4)
    assert any("4 of 4 boxes hold numbers from 0 to 1 only, as shares of the image" in note for note in notes)


def test_pixels_where_thousandths_are_declared() -> None:
    check, notes = watch(good, (BoxFormat.xyxy, Frame.image), (BoxFormat.xyxy_1000, Frame.image), 60)
    assert check.n_never_past > 30 and any("as if they were pixels" in note for note in notes)


def test_slips_are_counted_and_no_reason_to_doubt_the_convention() -> None:
    watcher = BoxFormatMonitor(BoxFormat.xyxy, Frame.image, "direct.box_format")
    frame = whole_image(200, 100)
    texts = ["[20, 10, 100, 60]"] * 40 + ["[100, 10, 20, 60]", "[20, 10, 100, 9999]", "a cup", "<think>a cup"]
    texts.append("[20, 10, 100, 60] or [1, 1, 2, 2]")
    for i, text in enumerate(texts):
        sample = Sample(str(i), str(i), "it", (20, 10, 100, 60), {}, "")
        answer = read_answer(text, AnswerFormat.xyxy, frame, 200, 100)
        watcher.add(answer, ImageGroup(str(i), Path("p.jpg"), 200, 100, (sample,)), sample, frame)
    watcher.add(None, ImageGroup("-", Path("p.jpg"), 200, 100, (sample,)), sample, frame)
    check = watcher.check()
    assert check.without == {
        "answer nothing": 1,
        "end within the model's thoughts": 1,
        "have right < left or bottom < top": 1,
        "hold no box": 1,
        "leave the declared range": 1,
    }
    assert watcher.notes(check) == [
        "1 of 43 boxes have right < left or bottom < top.",
        "1 of 43 boxes leave the declared range.",
        "1 answers hold several different boxes: the first is scored.",
    ]


def test_no_answer_at_all() -> None:
    watcher = BoxFormatMonitor(None, Frame.image, "predictions_format.box_format")
    assert watcher.check().declared is None and watcher.notes(watcher.check()) == []


def test_the_better_of_two_readings_is_counted_beside_what_was_declared() -> None:
    """Worked out by hand, image of 500 x 250 pixels, true box (100, 50, 200, 100). In thousandths it is (200, 200, 400,
    400); the first answer is right in pixels, the second in thousandths, the third in neither, the fourth is none, and
    the fifth leaves the image in pixels (IoU 0)."""
    true = (100.0, 50.0, 200.0, 100.0)
    written = [(100, 50, 200, 100), (200, 200, 400, 400), (0, 0, 20, 20), None, (600, 600, 700, 700)]
    watcher = BoxFormatMonitor(BoxFormat.xyxy, Frame.image, "direct.box_format")
    frame = whole_image(500, 250)
    for i, numbers in enumerate(written):
        sample = Sample(str(i), str(i), "it", true, {}, "")
        answer = WrittenBox() if numbers is None else WrittenBox(None, None, tuple(map(float, numbers)))
        watcher.add(answer, ImageGroup(str(i), Path("p.jpg"), 500, 250, (sample,)), sample, frame)
    either = watcher.check().either
    assert either is not None and (either.n, either.pixels, either.thousandths, either.either) == (5, 1, 1, 2)


def test_without_answers_no_reading_hits() -> None:
    either = BoxFormatMonitor(None, Frame.image, "direct.box_format").check().either
    assert either is not None and (either.n, either.either) == (0, 0)
