"""Does the declared convention fit the boxes? Counts what a wrong one looks like, and says which other would fit the
true boxes better. Changes no score: how a model writes boxes is a fact about the model, to be looked up, not chosen."""

from collections import Counter
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from pydantic import ConfigDict, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass
from scipy.special import bdtrc, stdtr

from locheads.data.box_text import WrittenBox
from locheads.data.config import BoxFormat, Frame
from locheads.data.coordinate_frames import BoxFault, CoordinateFrame, in_pixels, padded_square, whole_image
from locheads.evaluation.metrics import box_iou
from locheads.types import ImageGroup, Sample

NOTHING = "answer nothing"

SHARE = 0.1
"""Share of the boxes from which on a fault counts as one of the convention and not of single boxes."""
FEW = 10
"""True boxes that show something, at least, before it counts that no answer does."""
GOOD = 0.45
"""Mean IoU that a convention must reach to be named: a model that finds the objects and marks them with specks fits any
convention that enlarges its boxes at about 0.37."""
BETTER = 0.1
"""In mean IoU: how much better another convention must fit ..."""
CHANCE = 1e-3
"""... and how unlikely that must be by chance, times the conventions that were tried: the gain over images (one-sided
t-test), or, where images are few, that so many different objects are hit (binomial test)."""
HIT_BY_CHANCE = 0.1
"""Share of objects that a box hits by chance with IoU 0.5, at least."""
ALIKE = 0.02
"""In mean IoU: conventions this close cannot be told apart; the first in the order of BoxFormat is named."""


@dataclass(frozen=True)
class ConventionFit:
    """A convention, and how the boxes that it makes of the numbers fit the true ones. Files of earlier versions hold
    other things of it."""

    box_format: str = ""
    frame: str = ""
    mean_iou: StrictFloat = 0.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EitherReading:
    """Hits (box IoU >= 0.5) where the four numbers are xyxy in pixels or in thousandths of the image, whatever was
    declared; a box may leave the image.

    `either` is how the tasks refcoco_grounding of lmms-eval count (pull request 1373, 2026-07): of both readings the
    one with the higher IoU with the true box. They also take the best of several boxes; here the first alone counts.
    """

    n: StrictInt
    """Expressions of one object that were asked about, answered or not."""
    pixels: StrictInt
    thousandths: StrictInt
    either: StrictInt
    """At least one of the two readings is a hit: the truth chooses."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BoxCheck:
    """How the boxes of a run stand in their file or words; `boxes` of metrics.json, which once had fewer fields."""

    n_boxes: StrictInt
    """Answers with four numbers."""
    without: dict[str, StrictInt]
    """Why answers have no box: reason -> count."""
    n_several: StrictInt
    """Answers in words that hold several different boxes; the first is scored."""
    n_outside: StrictInt = 0
    """Boxes that leave the declared range."""
    n_reversed: StrictInt = 0
    """Boxes with right < left or bottom < top."""
    n_specks: StrictInt = 0
    """Boxes below 1/200 of their image's width and height whose true box is not."""
    n_shares: StrictInt = 0
    """Boxes of numbers from 0 to 1 where the declared format has none such."""
    n_never_past: StrictInt = 0
    """True boxes that pass a border that no answer passes: the image's own size where the format has a range (are
    they pixels?), 1000 where it counts pixels (are they thousandths?). 0 where an answer does, and where the other
    reading fits no better."""
    declared: ConventionFit | None = None
    better: ConventionFit | None = None
    """The convention that fits clearly better, if one does."""
    either: EitherReading | None = None
    """None of earlier versions."""

    def reasons(self) -> str:
        """ " (3 leave the declared range, 1 answer nothing)"; empty where all have a box."""
        told = ", ".join(f"{count} {reason}" for reason, count in self.without.items())
        return f" ({told})" if told else ""


class BoxFormatMonitor:
    """Takes the answers of the evaluated samples one by one."""

    def __init__(self, form: BoxFormat | None, frame: Frame, setting: str) -> None:
        """`setting`: what the format is declared by, in messages."""
        self._form, self._frame, self._setting = form, frame, setting
        self._rows: list[tuple[float, ...]] = []
        self._images: list[str] = []
        self._without: Counter[str] = Counter()
        self._faults: Counter[BoxFault] = Counter()
        self._several = 0
        self._asked = 0

    def add(self, written: WrittenBox | None, group: ImageGroup, sample: Sample, frame: CoordinateFrame) -> None:
        """One answer. `written`: None where nothing was answered; `frame`: what its numbers refer to."""
        self._asked += 1
        if written is None or written.box is None:
            self._without[str(written.fault if written and written.fault else NOTHING)] += 1
        if written is None or written.numbers is None:
            return
        if written.fault is not None:
            self._faults[written.fault] += 1
        self._several += written.several
        size = (group.width, group.height)
        self._rows.append((*written.numbers, *sample.box, *size, *frame.origin, *frame.extent, *frame.size))
        self._images.append(group.image_id)

    def check(self) -> BoxCheck:
        """Everything that the answers show."""
        table = _Table(np.array(self._rows, dtype=float).reshape(-1, 16), self._images)
        counted = BoxCheck(
            n_boxes=len(self._rows),
            without=dict(sorted(self._without.items())),
            n_several=self._several,
            n_outside=self._faults[BoxFault.outside],
            n_reversed=self._faults[BoxFault.reversed],
            either=_either(table, self._asked),
        )
        if self._form is None or not self._rows:
            return counted
        declared, better = _fits(table, self._form, self._frame)
        return replace(
            counted,
            n_specks=int(_specks(table, self._form).sum()),
            n_shares=int(_shares(table, self._form).sum()),
            n_never_past=_never_past(table, self._form),
            declared=declared,
            better=better,
        )

    def notes(self, check: BoxCheck) -> list[str]:
        """One sentence per thing that a reader of the figures must know; none where all is as it should be."""
        question, of = f"is {self._setting}={self._form} how they are written?", f"of {check.n_boxes:,} boxes"
        notes = []
        for count, fault in ((check.n_reversed, BoxFault.reversed), (check.n_outside, BoxFault.outside)):
            if count:
                notes.append(f"{count:,} {of} {fault}" + (f": {question}" if count > SHARE * check.n_boxes else "."))
        for count, what in (
            (check.n_specks, "are smaller than 1/200 of their image, the object is not"),
            (check.n_shares, "hold numbers from 0 to 1 only, as shares of the image"),
        ):
            if count > SHARE * check.n_boxes:
                notes.append(f"{count:,} {of} {what}: {question}")
        if check.n_never_past:
            pixels = "_" not in str(self._form)
            what = "1000, as if they were thousandths" if pixels else "their image's size, as if they were pixels"
            notes.append(f"None {of} passes {what}; {check.n_never_past:,} of the true boxes would: {question}")
        if check.n_several:
            notes.append(f"{check.n_several:,} answers hold several different boxes: the first is scored.")
        return notes + ([self._fit_note(check.declared, check.better)] if check.declared and check.better else [])

    def _fit_note(self, declared: ConventionFit, better: ConventionFit) -> str:
        group = self._setting.removesuffix(".box_format")
        changed = [f"{self._setting}={better.box_format}"] if better.box_format != declared.box_format else []
        changed += [f"{group}.frame={better.frame}"] if better.frame != declared.frame else []
        return (
            f"Read with {' '.join(changed)} the boxes would have a mean IoU of {100 * better.mean_iou:.1f} % with the "
            f"true ones, as declared ({declared.box_format}, frame={declared.frame}) they have "
            f"{100 * declared.mean_iou:.1f} %: look up how the model writes boxes. The figures here are as declared."
        )


class _Table:
    """Numbers, truth and frames of all answers, as columns."""

    def __init__(self, rows: Float[np.ndarray, "box 16"], images: list[str]) -> None:
        # An absurd number must not overflow.
        self.numbers = np.clip(np.nan_to_num(rows[:, :4]), -1e12, 1e12).T
        self.truth, (self.width, self.height) = rows[:, 4:8], rows[:, 8:10].T
        origin, extent, size = (tuple(rows[:, i : i + 2].T) for i in (10, 12, 14))
        self.frame = CoordinateFrame(origin, extent, size)
        self.images = np.unique(images, return_inverse=True)[1]

    def boxes(self, form: BoxFormat, frame: CoordinateFrame) -> Float[np.ndarray, "box 4"]:
        return np.column_stack(in_pixels(self.numbers, form, frame))

    def frames(self) -> dict[Frame, CoordinateFrame]:
        """Those that need no setting."""
        sides = list(zip(self.width.tolist(), self.height.tolist(), strict=True))
        squares = [padded_square(int(width), int(height)) for width, height in sides]
        columns = [np.array([getattr(square, key) for square in squares]).T for key in ("origin", "extent", "size")]
        square = CoordinateFrame(*(tuple(column) for column in columns))
        return {Frame.image: whole_image(self.width, self.height), Frame.padded_square: square}

    def others_truth(self) -> Float[np.ndarray, "box 4"]:
        """The true boxes of other answers, half the table away, in proportion to the image."""
        half = len(self.truth) // 2
        sides = np.column_stack([self.width, self.height] * 2)
        return np.roll(self.truth / sides, half, axis=0) * sides


def _fits(table: _Table, form: BoxFormat, frame: Frame) -> tuple[ConventionFit, ConventionFit | None]:
    """How the declared convention fits, and the one that fits clearly better, if there is one.

    Better, that is closer to the own true box and not to those of others: reading the numbers as larger boxes alone
    would be closer to any.
    """
    frames = table.frames() | {frame: table.frame}
    order = sorted(frames, key=lambda one: one is not frame)
    others = table.others_truth()

    def fit(one: BoxFormat, of: Frame) -> tuple[Float[np.ndarray, "box"], Float[np.ndarray, "box"]]:
        boxes = table.boxes(one, frames[of])
        iou = box_iou(boxes, table.truth)
        return iou, iou - box_iou(boxes, others)

    iou, skill = fit(form, frame)
    declared = ConventionFit(form, frame, float(iou.mean()))
    tried = {(one, of): fit(one, of) for of in order for one in BoxFormat if (one, of) != (form, frame)}
    means = {key: float(found[0].mean()) for key, found in tried.items()}
    best = next(key for key in tried if means[key] >= max(means.values()) - ALIKE)
    better = means[best] >= max(GOOD, declared.mean_iou + BETTER) and _is_gain(table, *tried[best], skill, len(tried))
    return declared, ConventionFit(*best, means[best]) if better else None


def _is_gain(
    table: _Table,
    iou: Float[np.ndarray, "box"],
    skill: Float[np.ndarray, "box"],
    before: Float[np.ndarray, "box"],
    n_tried: int,
) -> bool:
    """Whether the gain in skill is above BETTER on average and beyond CHANCE. `before`: the declared one's skill."""
    gains = skill - before
    if gains.mean() < BETTER:
        return False
    means = np.bincount(table.images, gains) / np.bincount(table.images)
    spread = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 2 else np.inf
    by_images = stdtr(len(means) - 1, -means.mean() / max(spread, 1e-12)) if np.isfinite(spread) else 1.0
    _, first = np.unique(np.column_stack([table.images, table.truth]), axis=0, return_index=True)
    chance = max(HIT_BY_CHANCE, float((iou - skill >= 0.5).mean()))
    by_objects = bdtrc(int((iou[first] >= 0.5).sum()) - 1, len(first), chance)
    return bool(n_tried * min(by_images, by_objects) < CHANCE)


def _either(table: _Table, asked: int) -> EitherReading:
    image = whole_image(table.width, table.height)
    readings = (in_pixels(table.numbers, form, image) for form in (BoxFormat.xyxy, BoxFormat.xyxy_1000))
    pixels, thousandths = (box_iou(np.column_stack(boxes), table.truth) >= 0.5 for boxes in readings)
    return EitherReading(asked, int(pixels.sum()), int(thousandths.sum()), int((pixels | thousandths).sum()))


def _specks(table: _Table, form: BoxFormat) -> Bool[np.ndarray, "box"]:
    def small(boxes: Float[np.ndarray, "box 4"]) -> Bool[np.ndarray, "box"]:
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        return (width < 0.005 * table.width) & (height < 0.005 * table.height) & (width >= 0) & (height >= 0)

    return small(table.boxes(form, table.frame)) & ~small(table.truth)


def _shares(table: _Table, form: BoxFormat) -> Bool[np.ndarray, "box"]:
    low, high = table.numbers.min(axis=0), table.numbers.max(axis=0)
    return (low >= 0) & (high <= 1.01) & (high > 0) & (not form.endswith("relative"))


def _never_past(table: _Table, form: BoxFormat) -> int:
    """See BoxCheck.n_never_past."""
    if form.endswith("relative") or form == BoxFormat.xyxy_100:
        return 0
    unit = np.column_stack(table.frame.unit(form) * 2)
    origin = np.column_stack(table.frame.origin * 2)
    limits = np.full((len(unit), 2), 1000.0) if "_" not in form else np.column_stack([table.width, table.height])

    def past(boxes: Float[np.ndarray, "box 4"]) -> int:
        return int((((boxes - origin) / unit)[:, 2:] > limits).any(axis=1).sum())

    true = past(table.truth)
    if true < FEW or past(table.boxes(form, table.frame)):
        return 0
    other = BoxFormat(form[:4] if "_" in form else f"{form}_1000")
    as_declared, as_other = (box_iou(table.boxes(one, table.frame), table.truth).mean() for one in (form, other))
    return true if as_other > as_declared + BETTER / 2 else 0
