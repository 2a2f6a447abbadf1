"""Every verdict can be ok, and fails on the defect that it is for."""

from dataclasses import replace
from pathlib import Path

import pytest
from own_files import make_image
from PIL import ExifTags, Image
from refer_files import TinyRefer, read_refer

from locheads.data.checks import CheckResult, CheckState, check_samples, official_counts
from locheads.data.masks import box_mask, tight_box
from locheads.data.tally import Tally
from locheads.types import Box, ImageGroup, Sample

SIZE = 100
BOXES: list[Box] = [(10, 20, 30, 90), (50, 5, 99, 40), (60, 60, 80, 95), (0, 0, 100, 100)]


def _groups(tmp_path: Path, boxes: list[Box], masks: list[Box] | None = None) -> list[ImageGroup]:
    groups = []
    for number, (box, mask) in enumerate(zip(boxes, masks or boxes, strict=True)):
        path = make_image(tmp_path / f"{number}.jpg", (SIZE, SIZE))
        code = box_mask(mask, SIZE, SIZE, "here")
        sample = Sample(str(number), str(number), "the cup", box, code, "cup")
        groups.append(ImageGroup(str(number), path, SIZE, SIZE, (sample,)))
    return groups


def _verdicts(groups: list[ImageGroup], tally: Tally | None = None, **changes: object) -> dict[str, CheckResult]:
    settings: dict = {"official": None, "open_images": False, "folders": [Path("/")]} | changes
    return {v.question: v for v in check_samples("val", groups, tally or Tally(counting=True), **settings)}


def _change(groups: list[ImageGroup], number: int, **changes: object) -> None:
    group = groups[number]
    groups[number] = replace(group, samples=(replace(group.samples[0], **changes),))  # type: ignore[arg-type]


def test_good_data_pass_every_check(tmp_path: Path) -> None:
    verdicts = _verdicts(_groups(tmp_path, BOXES), open_images=True)
    assert {v.state for v in verdicts.values()} == {CheckState.ok}, verdicts


def test_counts(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    assert _verdicts(groups, official=(4, 4, 4))["counts"].text == "4 refs, 4 images, 4 expressions, as published"
    verdict = _verdicts(groups, official=(4, 4, 5000))["counts"]
    assert (verdict.state, verdict.text.partition(", but ")[2]) == (CheckState.fail, "published are 4, 4 and 5,000")


def test_official_counts_are_the_transcribed_ones() -> None:
    assert official_counts("refcoco/unc")["val"] == (3811, 1500, 10834)
    assert official_counts("refcocog/umd")["test"] == (5023, 2600, 9602)
    assert sorted(official_counts("refcoco+/unc")) == ["testA", "testB", "train", "val"]
    assert official_counts("refcoco/google") == official_counts("") == {}


def test_boxes_outside(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    _change(groups, 0, box=(10, 20, 30, 100.9))
    assert _verdicts(groups)["boxes inside"].state is CheckState.ok
    _change(groups, 0, box=(10, 20, 30, 101.1))
    verdict = _verdicts(groups)["boxes inside"]
    assert (verdict.state, verdict.text) == (CheckState.fail, "1 boxes leave their image (first: ref 0 of image 0)")
    _change(groups, 0, box=(-1.1, 20, 30, 90))
    assert _verdicts(groups)["boxes inside"].state is CheckState.fail


def test_one_box_outside_of_many_is_a_blemish(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES * 25)
    _change(groups, 3, box=(0, 0, 100, 120))
    assert _verdicts(groups)["boxes inside"].state is CheckState.warn


def test_xyxy_that_is_declared_xywh_is_suspected_from_masks(tmp_path: Path) -> None:
    wrong = [(x0, y0, x0 + x1, y0 + y1) for x0, y0, x1, y1 in BOXES]
    verdict = _verdicts(_groups(tmp_path, wrong, BOXES))["box format"]
    assert verdict.state is CheckState.fail
    assert verdict.text.startswith("declared as xywh, but they look like xyxy: mean IoU with the masks' boxes 1.00")


def test_xywh_that_is_declared_xyxy_is_suspected_from_masks(tmp_path: Path) -> None:
    wrong = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in BOXES if x1 > 2 * x0 and y1 > 2 * y0]
    right = [box for box in BOXES if box[2] > 2 * box[0] and box[3] > 2 * box[1]]
    assert len(right) == 2
    verdict = _verdicts(_groups(tmp_path, wrong, right))["box format"]
    assert verdict.state is CheckState.fail
    assert verdict.text.startswith("declared as xyxy, but they look like xywh")


def test_xyxy_that_is_declared_xywh_is_suspected_without_masks(tmp_path: Path) -> None:
    wrong = [(x0, y0, x0 + x1, y0 + y1) for x0, y0, x1, y1 in BOXES]
    verdict = _verdicts(_groups(tmp_path, wrong))["box format"]
    assert (verdict.state, "look like xyxy" in verdict.text) == (CheckState.fail, True)


def test_masks_far_from_their_boxes(tmp_path: Path) -> None:
    verdict = _verdicts(_groups(tmp_path, BOXES, [*BOXES[:3], (0, 0, 5, 5)]))["masks"]
    assert (verdict.state, verdict.text) == (CheckState.warn, "1 far from their box (first: ref 3 of image 3)")


def test_crowds_overlaps_and_unusable_records(tiny: TinyRefer) -> None:
    tiny.instances["annotations"][1]["iscrowd"] = 1
    tiny.instances["annotations"][2]["segmentation"] = []
    tiny.write()
    tiny.write_images()
    tally = Tally(counting=True)
    verdicts = _verdicts(read_refer(tiny.folder, tiny.images, "val", tally), tally)
    assert "1 of crowds: the box is of many objects" in verdicts["masks"].text
    assert "1 of overlapping polygons: their union is taken" in verdicts["masks"].text
    assert verdicts["masks"].state is CheckState.warn
    assert verdicts["records"].state is CheckState.fail
    assert verdicts["records"].text.startswith("1 unusable, the first: annotation 3 of ")


def test_ids_that_are_used_twice(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    _change(groups, 0, sample_id="1")
    assert _verdicts(groups)["ids"].text == "1 sample ids and 0 image ids are used twice"
    assert _verdicts([*groups[1:], groups[1]])["ids"].text == "1 sample ids and 1 image ids are used twice"


@pytest.mark.parametrize("text", ["a\x00cup", "a\tcup", "cup\n", "a\u200bcup", "\u202ecup", "cup\ue000", "cup\ud800"])
def test_control_characters(tmp_path: Path, text: str) -> None:
    groups = _groups(tmp_path, BOXES)
    _change(groups, 2, expression=text)
    verdict = _verdicts(groups)["text"]
    assert (verdict.state, verdict.text) == (CheckState.warn, "1 with control characters (first: 2)")


@pytest.mark.parametrize("text", ["", "  "])
def test_blank_text(tmp_path: Path, text: str) -> None:
    groups = _groups(tmp_path, BOXES)
    _change(groups, 2, expression=text)
    assert _verdicts(groups)["text"].text == "1 blank (first: 2)"


def test_other_languages_are_no_control_characters(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    _change(groups, 2, expression="die Tasse für Zoë, 左边的杯子 ☕")
    assert _verdicts(groups)["text"].state is CheckState.ok


def test_images(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    groups[2].path.write_bytes(groups[2].path.read_bytes()[:700])
    assert _verdicts(groups)["images"].state is CheckState.ok  # its header is whole; only opening tells
    assert _verdicts(groups, open_images=True)["images"].text.startswith("1 of 4 unusable, the first: The image ")
    make_image(groups[1].path, (SIZE, SIZE + 1))
    for open_images, count in ((False, 1), (True, 2)):
        verdict = _verdicts(groups, open_images=open_images)["images"]
        assert verdict.state is CheckState.fail
        assert verdict.text.startswith(f"{count} of 4 unusable, the first: The image {groups[1].path} of image 1 has")
    groups[0].path.unlink()
    assert _verdicts(groups)["images"].text.startswith("2 of 4 unusable")


def test_images_that_viewers_turn_are_a_warning(tmp_path: Path) -> None:
    groups = _groups(tmp_path, BOXES)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(groups[3].path).save(groups[3].path, exif=exif)
    verdict = _verdicts(groups)["images"]
    assert verdict.state is CheckState.warn
    assert verdict.text.startswith(f"1 of 4 images are turned or mirrored when shown, the first: {groups[3].path} (")


def test_tight_box_of_a_box_mask_is_the_box() -> None:
    for box in BOXES:
        assert tight_box(box_mask(box, SIZE, SIZE, "here")) == box
