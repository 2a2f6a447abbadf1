"""What can be wrong with samples that could be read: one verdict per split and question."""

import csv
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

from locheads.data.coordinate_frames import box_iou
from locheads.data.headers import inside, read_headers
from locheads.data.image_files import open_image
from locheads.data.masks import tight_box
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import Box, ImageGroup, Sample

Counts = tuple[int, int, int]
"""(refs, images, expressions)."""


def official_counts(name: str) -> dict[str, Counts]:
    """Split -> counts of "refcoco/unc", "refcoco+/unc" or "refcocog/umd"; empty for a name without official counts."""
    text = (resources.files("locheads.data") / "split_counts.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["split"]: (int(row["refs"]), int(row["images"]), int(row["expressions"]))
        for row in rows
        if f"{row['dataset']}/{row['split_by']}" == name
    }


_FEW = 0.01
"""Up to this share is a blemish that the published files have, too; above it something is wrong with all of them."""


class CheckState(StrEnum):
    ok = "ok"
    warn = "warn"
    fail = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """The answer to one question about one split."""

    split: str
    question: str
    state: CheckState
    text: str


def check_samples(
    split: str, groups: list[ImageGroup], tally: Tally, official: Counts | None, open_images: bool, folders: list[Path]
) -> list[CheckResult]:
    """All verdicts on one split. `tally` is the one that counted while the groups were read.

    `folders`: where images may lie once links are followed. Opens the header of every image, or all of it where
    `open_images` is set.
    """
    objects = [(group, sample) for group in groups for sample in {s.ref_id: s for s in group.samples}.values()]
    answers = {
        "counts": _counts(groups, official),
        "records": _records(tally),
        "boxes inside": _boxes(objects),
        "box format": _box_format(objects),
        "masks": _masks(objects, tally),
        "ids": _ids(groups),
        "text": _text(groups),
        "images": _images(groups, open_images, folders),
    }
    return [CheckResult(split, question, *answer) for question, answer in answers.items()]


_Answer = tuple[CheckState, str]
_Objects = list[tuple[ImageGroup, Sample]]
"""One sample of every ref: its expressions share box and mask."""


def _counts(groups: list[ImageGroup], official: Counts | None) -> _Answer:
    refs = {sample.ref_id for group in groups for sample in group.samples}
    found = (len(refs), len({group.image_id for group in groups}), sum(len(group.samples) for group in groups))
    text = "{:,} refs, {:,} images, {:,} expressions".format(*found)
    if official is None:
        return CheckState.ok, f"{text}; no official counts are known"
    if found == official:
        return CheckState.ok, f"{text}, as published"
    return CheckState.fail, f"{text}, but published are {official[0]:,}, {official[1]:,} and {official[2]:,}"


def _records(tally: Tally) -> _Answer:
    if not tally.rejected:
        return CheckState.ok, "all usable"
    return CheckState.fail, f"{tally.rejected:,} unusable, the first: {tally.examples[0]}"


def _boxes(objects: _Objects) -> _Answer:
    outside = [_name(group, s) for group, s in objects if not _inside(s.box, group)]
    return _share(outside, len(objects), "boxes leave their image", "all of them")


def _box_format(objects: _Objects) -> _Answer:
    """Whether another reading of the same four numbers fits the masks, or the images, better."""
    if not objects:
        return CheckState.ok, "no box"
    as_declared = [box_iou(s.box, tight_box(s.mask)) for _, s in objects]
    mean = sum(as_declared) / len(objects)
    inside = sum(_inside(s.box, group) for group, s in objects) / len(objects)
    for name, other in _OTHER_READINGS.items():
        boxes = [other(s.box) for _, s in objects]
        fit = sum(box_iou(box, tight_box(s.mask)) for box, (_, s) in zip(boxes, objects, strict=True)) / len(objects)
        fits = [_spans(box) and _inside(box, group) for box, (group, _) in zip(boxes, objects, strict=True)]
        if fit > mean + 0.1:
            return CheckState.fail, f"{name}: mean IoU with the masks' boxes {fit:.2f} instead of {mean:.2f}"
        if inside < 1 - _FEW and sum(fits) / len(fits) > max(inside, 1 - _FEW):
            return CheckState.fail, f"{name}: {inside:.0%} of the boxes are inside their image now, all would be then"
    return CheckState.ok, f"mean IoU with the masks' boxes {mean:.2f}"


_OTHER_READINGS: dict[str, Callable[[Box], Box]] = {
    "declared as xywh, but they look like xyxy": lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1]),
    "declared as xyxy, but they look like xywh": lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]),
}


def _masks(objects: _Objects, tally: Tally) -> _Answer:
    far = [_name(group, s) for group, s in objects if box_iou(s.box, tight_box(s.mask)) < 0.5]
    remarks = [
        f"{tally.seen[kind]:,} {text}"
        for kind, text in (
            ("no mask", "without mask: the box stands for it"),
            ("crowd", "of crowds: the box is of many objects"),
            ("overlap", "of overlapping polygons: their union is taken"),
        )
        if tally.seen[kind]
    ]
    if far:
        remarks.append(f"{len(far):,} far from their box (first: {far[0]})")
    bad = far or tally.seen["no mask"] or tally.seen["crowd"]
    return CheckState.warn if bad else CheckState.ok, "; ".join(remarks) or "none empty, none far from its box"


def _ids(groups: list[ImageGroup]) -> _Answer:
    samples = [sample.sample_id for group in groups for sample in group.samples]
    images = [group.image_id for group in groups]
    twice = len(samples) - len(set(samples)), len(images) - len(set(images))
    if any(twice):
        return CheckState.fail, f"{twice[0]:,} sample ids and {twice[1]:,} image ids are used twice"
    return CheckState.ok, "all different"


def _text(groups: list[ImageGroup]) -> _Answer:
    samples = [sample for group in groups for sample in group.samples]
    blank = [s.sample_id for s in samples if not s.expression.strip()]
    # Cc, Cf, Co, Cs: control, invisible and private characters, and halves of characters.
    odd = [s.sample_id for s in samples if not s.expression.isascii() or not s.expression.isprintable()]
    texts = {s.sample_id: s.expression for s in samples}
    odd = [key for key in odd if any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs") for c in texts[key])]
    remarks = [
        f"{len(ids):,} {what} (first: {ids[0]})"
        for ids, what in ((blank, "blank"), (odd, "with control characters"))
        if ids
    ]
    return CheckState.warn if remarks else CheckState.ok, "; ".join(remarks) or "no blank one, no control characters"


def _images(groups: list[ImageGroup], open_images: bool, folders: list[Path]) -> _Answer:
    headers = read_headers(groups, folders)
    problems = list(_unreadable(groups)) if open_images else headers.absent
    if contradicting := [sentence for sentence in headers.wrong if sentence not in problems]:
        problems = contradicting + problems
    if problems:
        return CheckState.fail, f"{len(problems):,} of {len(groups):,} unusable, the first: {problems[0]}"
    if note := headers.note():
        return CheckState.warn, note
    return CheckState.ok, f"all {'open' if open_images else 'there'}, of the annotated size"


def _unreadable(groups: list[ImageGroup]) -> Iterator[str]:
    for group in groups:
        try:
            open_image(group)
        except DataError as error:
            yield str(error)


def _share(names: list[str], total: int, what: str, else_text: str) -> _Answer:
    if not names:
        return CheckState.ok, else_text
    state = CheckState.warn if len(names) <= _FEW * total else CheckState.fail
    return state, f"{len(names):,} {what} (first: {names[0]})"


def _name(group: ImageGroup, sample: Sample) -> str:
    return f"ref {sample.ref_id} of image {group.image_id}"


def _inside(box: Box, group: ImageGroup) -> bool:
    return inside(box, group.width, group.height)


def _spans(box: Box) -> bool:
    return box[2] > box[0] and box[3] > box[1]
