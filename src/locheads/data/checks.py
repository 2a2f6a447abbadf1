"""What can be wrong with samples that could be read: one verdict per split and question."""

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

import numpy as np

from locheads.data.headers import inside, read_headers
from locheads.data.image_files import image_header, open_image
from locheads.data.image_groups import may_name_several, with_heat
from locheads.data.masks import tight_box
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup

Counts = tuple[int | None, ...]
"""(refs, images, expressions), or expressions by the number of objects; None where it is not published."""


THIRD_PARTY = "third_party"
"""Ends the name of counts that are not the publisher's."""


def official_counts(name: str) -> dict[str, Counts]:
    """Split -> counts of "refcoco/unc", "refcoco+/unc" or "refcocog/umd"; empty for a name without official counts."""
    counted = ("refs", "images", "expressions")
    return {row["split"]: _numbers(row, counted) for row in _published("split_counts.csv", name)}


def official_objects(name: str) -> dict[str, Counts]:
    """Split -> expressions that name no object, one, two, three and more; alike."""
    counted = ("none", "one", "two", "more")
    return {row["split"]: _numbers(row, counted) for row in _published("split_counts.csv", name)}


def _numbers(row: dict[str, str], counted: tuple[str, ...]) -> Counts:
    return tuple(int(row[key]) if row[key] else None for key in counted)


def official_kinds(name: str, split: str) -> dict[str, int | None]:
    """Kind of expression (`Sample.kinds`) -> how many the publishers have of it in a split of
    "screenspot_v2/os-copilot" and the like; None where that is not known. Empty where nothing is."""
    rows = _published("kind_counts.csv", name)
    return {r["kind"]: int(r["expressions"]) if r["expressions"] else None for r in rows if r["split"] == split}


def _published(file: str, name: str) -> list[dict[str, str]]:
    """The file's rows about DATASET/SPLIT_BY."""
    text = (resources.files("locheads.data") / file).read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [row for row in rows if f"{row['dataset']}/{row['split_by']}" == name]


FEW = 0.01
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
    split: str,
    groups: list[ImageGroup],
    tally: Tally,
    official: Counts | None,
    open_images: bool,
    folders: list[Path],
    of_objects: Counts | None = None,
    third_party: bool = False,
) -> list[CheckResult]:
    """All verdicts on one split. `tally` is the one that counted while the groups were read.

    `folders`: where images may lie once links are followed. Opens the header of every image, or all of it where
    `open_images` is set. `of_objects`: see `official_objects`; only where an expression may name several objects or
    none. `third_party`: the counts are not the publisher's, so that others are no failure.
    """
    answers = {
        "counts": _counts(groups, tally, official, third_party),
        **({"objects": _objects(groups, of_objects, third_party)} if may_name_several(groups) else {}),
        "records": _records(tally),
        **_truths(groups, tally),
        "ids": _ids(groups),
        "text": _text(groups),
        "images": _images(groups, open_images, folders),
    }
    return [CheckResult(split, question, *answer) for question, answer in answers.items()]


_Answer = tuple[CheckState, str]


def _truths(groups: list[ImageGroup], tally: Tally) -> dict[str, _Answer]:
    """Of boxes and masks, or of the heat maps, which their reader has read, one by one, among the records."""
    if with_heat(groups):
        return {"heat maps": _heats(groups)}
    objects = _Objects(groups)
    return {
        "boxes inside": _boxes(objects),
        "box format": _box_format(objects),
        "masks": _masks(objects, tally),
    }


def _heats(groups: list[ImageGroup]) -> _Answer:
    """Whether they have their images' shapes: both are brought to one square, whatever these are."""
    heats = [(heat, group) for group in groups for sample in group.samples if (heat := sample.heat) is not None]
    other = [heat for heat, group in heats if image_header(heat).size != (group.width, group.height)]
    if other:
        return CheckState.warn, f"{len(other):,} of another size than their image, the first: {other[0]}"
    return CheckState.ok, f"{len(heats):,}, of their images' sizes"


class _Objects:
    """One sample of every ref: its expressions share box and mask. Columns of a row per ref that names something."""

    def __init__(self, groups: list[ImageGroup]) -> None:
        samples = [(group, sample) for group in groups for sample in {s.ref_id: s for s in group.samples}.values()]
        pairs = [(group, sample) for group, sample in samples if not sample.absent]
        self.names = np.array([f"ref {sample.ref_id} of image {group.image_id}" for group, sample in pairs])
        self.boxes = np.array([sample.box for _, sample in pairs]).reshape(-1, 4)
        self.of_masks = np.array([tight_box(sample.mask) for _, sample in pairs]).reshape(-1, 4)
        self.sizes = np.array([(group.width, group.height) for group, _ in pairs]).reshape(-1, 2)

    def inside(self, boxes: np.ndarray) -> np.ndarray:
        """[object]: whether the box lies in the image."""
        return np.asarray(inside(boxes.T, *self.sizes.T))

    def iou(self, boxes: np.ndarray) -> np.ndarray:
        """[object]: with the mask's box; 0 where they do not touch."""
        low, high = np.maximum(boxes, self.of_masks)[:, :2], np.minimum(boxes, self.of_masks)[:, 2:]
        overlap = np.clip(high - low, 0, None).prod(axis=1)
        areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, self.of_masks)]
        return np.where(overlap > 0, overlap / np.maximum(sum(areas) - overlap, 1e-12), 0.0)


def _counts(groups: list[ImageGroup], tally: Tally, official: Counts | None, third_party: bool) -> _Answer:
    refs, asked = {s.ref_id for group in groups for s in group.samples}, len({group.image_id for group in groups})
    found = (len(refs), tally.seen["images"] or asked, sum(len(group.samples) for group in groups))
    text = "{:,} refs, {:,} images, {:,} expressions".format(*found)
    if found[1] != asked:
        text += f" about {asked:,} of them"
    return _compared(text, found, official, third_party)


def _objects(groups: list[ImageGroup], official: Counts | None, third_party: bool) -> _Answer:
    """How many objects the expressions name."""
    named = Counter(min(len(sample.objects), 3) for group in groups for sample in group.samples)
    found = tuple(named[count] for count in range(4))
    text = "{:,} expressions name none, {:,} one, {:,} two, {:,} three and more".format(*found)
    return _compared(text, found, official, third_party)


def _compared(text: str, found: Counts, official: Counts | None, third_party: bool) -> _Answer:
    if official is None:
        return CheckState.ok, f"{text}; no official counts are known"
    if all(known in (None, own) for known, own in zip(official, found, strict=True)):
        return CheckState.ok, f"{text}, as {'third parties count' if third_party else 'published'}"
    known = ["?" if count is None else f"{count:,}" for count in official]
    listed = f"{', '.join(known[:-1])} and {known[-1]}"
    if third_party:
        return CheckState.warn, f"{text}, but third parties (not the publisher) count {listed}"
    return CheckState.fail, f"{text}, but published are {listed}"


def check_kinds(split: str, groups: list[ImageGroup], published: dict[str, int | None]) -> CheckResult | None:
    """How many expressions of every kind there are; None where the data set tells of no kinds."""
    found = Counter(kind for group in groups for sample in group.samples for kind in sample.kinds)
    if not found:
        return None
    expected = {kind: published.get(kind, 0) for kind in sorted({*found, *published})}
    wrong = [
        f"{found[kind]:,} {kind} instead of {'some' if known is None else f'{known:,}'}"
        for kind, known in expected.items()
        if (found[kind] == 0 if known is None else found[kind] != known)
    ]
    text = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items()))
    if not published:
        return CheckResult(split, "kinds", CheckState.ok, f"{text}; no published counts are known")
    if wrong:
        return CheckResult(split, "kinds", CheckState.fail, "; ".join(wrong))
    return CheckResult(split, "kinds", CheckState.ok, f"{text}, as published")


def check_review(counts: Counter[bool | None], published: tuple[int, int] | None) -> CheckResult:
    """`counts`: how many expressions of all splits are faulty, are not, and were not reviewed (None)."""
    clean, faulty = counts[False], counts[True]
    text = f"{clean:,} clean, {faulty:,} faulty, {counts[None]:,} not reviewed"
    if published in (None, (clean, faulty)):
        return CheckResult("all", "review", CheckState.ok, text + (", as published" if published else ""))
    state = CheckState.warn if clean <= published[0] and faulty <= published[1] else CheckState.fail
    return CheckResult("all", "review", state, f"{text}, but published are {published[0]:,} and {published[1]:,}")


def _records(tally: Tally) -> _Answer:
    if not tally.rejected:
        return CheckState.ok, "all usable"
    return CheckState.fail, f"{tally.rejected:,} unusable, the first: {tally.examples[0]}"


def _boxes(objects: _Objects) -> _Answer:
    outside = objects.names[~objects.inside(objects.boxes)]
    if not outside.size:
        return CheckState.ok, "all of them"
    state = CheckState.warn if outside.size <= FEW * objects.names.size else CheckState.fail
    return state, f"{outside.size:,} boxes leave their image (first: {outside[0]})"


def _box_format(objects: _Objects) -> _Answer:
    """Whether another reading of the same four numbers fits the masks, or the images, better."""
    if not objects.names.size:
        return CheckState.ok, "no box"
    first, last = objects.boxes[:, :2], objects.boxes[:, 2:]
    other_readings = {
        "declared as xywh, but they look like xyxy": np.hstack([first, last - first]),
        "declared as xyxy, but they look like xywh": np.hstack([first, first + last]),
    }
    mean, inside_now = objects.iou(objects.boxes).mean(), objects.inside(objects.boxes).mean()
    for name, boxes in other_readings.items():
        fit, spans = objects.iou(boxes).mean(), (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if fit > mean + 0.1:
            return CheckState.fail, f"{name}: mean IoU with the masks' boxes {fit:.2f} instead of {mean:.2f}"
        if inside_now < 1 - FEW and (spans & objects.inside(boxes)).mean() > max(inside_now, 1 - FEW):
            return (
                CheckState.fail,
                f"{name}: {inside_now:.0%} of the boxes are inside their image now, all would be then",
            )
    return CheckState.ok, f"mean IoU with the masks' boxes {mean:.2f}"


def _masks(objects: _Objects, tally: Tally) -> _Answer:
    far = objects.names[objects.iou(objects.boxes) < 0.5]
    remarks = {
        "without mask: the box stands for it": tally.seen["no mask"],
        "of crowds: the box is of many objects": tally.seen["crowd"],
        "of overlapping polygons: their union is taken": tally.seen["overlap"],
        f"far from their box (first: {far[0] if far.size else None})": far.size,
    }
    text = "; ".join(f"{count:,} {text}" for text, count in remarks.items() if count)
    bad = far.size or tally.seen["no mask"] or tally.seen["crowd"]
    return CheckState.warn if bad else CheckState.ok, text or "none empty, none far from its box"


def _ids(groups: list[ImageGroup]) -> _Answer:
    samples = [sample.sample_id for group in groups for sample in group.samples]
    images = [group.image_id for group in groups]
    twice = len(samples) - len(set(samples)), len(images) - len(set(images))
    if any(twice):
        return CheckState.fail, f"{twice[0]:,} sample ids and {twice[1]:,} image ids are used twice"
    return CheckState.ok, "all different"


def _text(groups: list[ImageGroup]) -> _Answer:
    samples = [sample for group in groups for sample in group.samples]
    found = {
        "blank": [s.sample_id for s in samples if not s.expression.strip()],
        "with control characters": [s.sample_id for s in samples if _has_control_characters(s.expression)],
    }
    remarks = [f"{len(ids):,} {what} (first: {ids[0]})" for what, ids in found.items() if ids]
    return CheckState.warn if remarks else CheckState.ok, "; ".join(remarks) or "no blank one, no control characters"


def _has_control_characters(text: str) -> bool:
    # Cc, Cf, Co, Cs: control, invisible and private characters, and halves of characters.
    plain = text.isascii() and text.isprintable()
    return not plain and any(unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs") for letter in text)


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
