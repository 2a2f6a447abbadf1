"""What a user's own COCO json or JSONL, or ReasonSeg, says comes out exactly."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from own_files import HEIGHT, WIDTH, decoded, jsonl, make_image, ragged_mask, rle, samples_of
from PIL import Image
from refer_files import block_mask

from locheads.data.config import BoxFormat, DatasetConfig, QueryLength
from locheads.data.jsonl import JsonlDataSet
from locheads.data.own_coco import CocoDataSet
from locheads.data.reasonseg import ReasonSegDataSet
from locheads.data.tally import Tally
from locheads.errors import DataError

BOX = (3.25, 4.5, 20.125, 25.0)


def _jsonl(root: Path, lines: list[dict[str, Any]], form: BoxFormat = BoxFormat.xyxy) -> JsonlDataSet:
    make_image(root / "images" / "a.jpg")
    make_image(root / "images" / "COCO_train2014_000000000009.jpg")
    (root / "val.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    return jsonl(root, box_format=form)


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        (BoxFormat.xyxy, BOX),
        (BoxFormat.xywh, (3.25, 4.5, 16.875, 20.5)),
        (BoxFormat.xyxy_relative, (3.25 / 40, 4.5 / 30, 20.125 / 40, 25 / 30)),
        (BoxFormat.xywh_relative, (3.25 / 40, 4.5 / 30, 16.875 / 40, 20.5 / 30)),
    ],
)
def test_jsonl_boxes_in_every_format(tmp_path: Path, form: BoxFormat, numbers: tuple[float, ...]) -> None:
    data = _jsonl(tmp_path, [{"image": "a.jpg", "expression": "it", "box": numbers}], form)
    (sample,) = samples_of(data.read("val"))
    assert sample.box == pytest.approx(BOX, abs=1e-12)
    # The box stands for the mask that is not there: the pixels it touches.
    np.testing.assert_array_equal(decoded(sample), block_mask(HEIGHT, WIDTH, (3, 4, 21, 25)))
    assert data.notes == ["1 samples have no mask: their box stands for it, so mask figures mean nothing for them."]


def test_jsonl_masks_in_every_form(tmp_path: Path) -> None:
    mask = ragged_mask(1)
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    Image.fromarray(np.stack([mask * 0, mask * 0, mask * 7], axis=2).astype(np.uint8)).save(tmp_path / "red.png")
    forms: list[Any] = [rle(mask), "mask.png", "red.png", [[5, 6, 15, 6, 15, 16, 5, 16]]]
    lines = [{"image": "a.jpg", "expression": str(n), "mask": form} for n, form in enumerate(forms)]
    data = _jsonl(tmp_path, lines)
    *three, polygon = samples_of(data.read("val"))
    for sample in three:
        np.testing.assert_array_equal(decoded(sample), mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert sample.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    np.testing.assert_array_equal(decoded(polygon), block_mask(HEIGHT, WIDTH, (5, 6, 15, 16)))
    assert not data.notes


def test_jsonl_groups_by_image_and_keeps_ids(tmp_path: Path) -> None:
    coco_name = "COCO_train2014_000000000009.jpg"
    lines = [
        {"image": "a.jpg", "expression": "one", "box": BOX, "id": 7, "ref_id": "r", "category": "cup"},
        {"image": coco_name, "expression": "two", "box": BOX},
        {"image": "a.jpg", "expression": "three", "box": BOX},
    ]
    data = _jsonl(tmp_path, lines)
    groups = data.read("val")
    assert [(g.image_id, g.width, g.height, len(g.samples)) for g in groups] == [("a.jpg", 40, 30, 2), ("9", 40, 30, 1)]
    first, third, second = samples_of(groups)
    assert (first.sample_id, first.ref_id, first.category, first.expression) == ("7", "r", "cup", "one")
    # Blank lines count, so that the number is that of an editor.
    assert (second.sample_id, third.sample_id) == ("val-3", "val-5")
    assert data.splits() == ["val"]


def test_jsonl_that_is_not_there_shows_the_layout(tmp_path: Path) -> None:
    data = _jsonl(tmp_path, [])
    with pytest.raises(DataError, match=r'test\.jsonl is not there, but .*"expression".* There are the splits val\.$'):
        data.read("test")


def _layout(root: Path, refs: str, **splits: list[dict[str, Any]]) -> JsonlDataSet:
    make_image(root / "images" / "a.jpg")
    for split, lines in splits.items():
        path = root / refs.replace("{split}", split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, lines)))
    return jsonl(root, refs=refs)


ONE = {"image": "a.jpg", "expression": "one", "box": BOX}
TWO = ONE | {"expression": "two"}


@pytest.mark.parametrize(
    "refs", ["{split}.jsonl", "ann/{split}.jsonl", "{split}/refs_{split}.jsonl", "a[1]/{split}.jsonl"]
)
def test_jsonl_digest_tells_contents_and_names_wherever_the_pattern_leads(tmp_path: Path, refs: str) -> None:
    first = _layout(tmp_path / "1", refs, train=[ONE], val=[TWO])
    assert first.splits() == ["train", "val"]
    assert len(samples_of(first.read("val"))) == 1
    others = {"2": {"train": [ONE], "val": [ONE]}, "3": {"train": [TWO], "val": [ONE]}, "4": {"train": [ONE]}}
    digests = [_layout(tmp_path / name, refs, **splits).digest for name, splits in others.items()]
    assert len({first.digest, *digests}) == 4
    assert _layout(tmp_path / "5", refs, train=[ONE], val=[TWO]).digest == first.digest


def test_jsonl_without_any_file_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no annotation file: correct dataset\.folder or dataset\.refs\.$"):
        _ = _layout(tmp_path, "ann/{split}.jsonl").digest


def test_jsonl_split_that_the_digest_would_miss_is_refused(tmp_path: Path) -> None:
    data = _layout(tmp_path, "{split}.jsonl", **{"old/val": [ONE]})
    with pytest.raises(DataError, match=r"old/val\.jsonl lies where \{split\}\.jsonl finds no split: name its folder"):
        data.read("old/val")


def test_jsonl_id_with_two_expressions_in_two_files_is_refused(tmp_path: Path) -> None:
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"id": 7}], test=[TWO | {"id": "7"}])
    with pytest.raises(DataError, match=r"id '7' has one expression in .*test\.jsonl and another in .*val\.jsonl: "):
        data.read("val")
    tally = Tally(counting=True)
    assert data.read("val", tally) == [] and tally.rejected == 1


def test_jsonl_id_of_one_expression_may_be_in_two_files(tmp_path: Path) -> None:
    predictions = [{"id": 7, "box": BOX}]  # no samples, but found by the same pattern
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"id": 7}], mini=[ONE | {"id": 7}], answers=predictions)
    assert samples_of(data.read("val")) == samples_of(data.read("mini"))


def test_jsonl_ids_that_are_not_given_differ_by_split(tmp_path: Path) -> None:
    data = _layout(tmp_path, "ann/{split}.jsonl", val=[ONE], test=[TWO])
    assert [s.sample_id for split in ("val", "test") for s in samples_of(data.read(split))] == ["val-1", "test-1"]


def test_jsonl_digest_tells_the_contents_of_mask_files(tmp_path: Path) -> None:
    digests = set()
    for seed in (None, 1, 2, 1):
        data = _layout(tmp_path, "{split}.jsonl", val=[{"image": "a.jpg", "expression": "it", "mask": "m.png"}])
        if seed is not None:
            Image.fromarray(ragged_mask(seed).astype(np.uint8)).save(tmp_path / "m.png")
        digests.add(data.digest)
    assert len(digests) == 3


@pytest.mark.parametrize("names", [("cam/1.png", "cam_1.png"), ("a b.png", "a_b.png")])
def test_two_images_of_one_id_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        make_image(tmp_path / "images" / name)
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": name} for name in names])
    with pytest.raises(DataError, match=rf"val\.jsonl has two images of the id .*{names[0]} and .*{names[1]}: rename"):
        data.read("val")
    tally = Tally(counting=True)
    assert len(data.read("val", tally)) == tally.rejected == 1


def test_two_names_of_one_coco_image_are_one_image(tmp_path: Path) -> None:
    names = ["COCO_train2014_000000000009.jpg", "000000000009.jpg"]
    make_image(tmp_path / "images" / names[1])
    _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": name} for name in names])
    (group,) = jsonl(tmp_path, coco_names=True).read("val")
    assert (group.image_id, len(group.samples)) == ("9", 2)


@pytest.mark.parametrize(
    "names",
    [
        ("202311081530_1.jpg", "202311081530_2.jpg"),
        ("cam1/000000000001.jpg", "cam2/000000000001.jpg"),
        ("000000000001.jpg", "000000000001.png"),
    ],
)
def test_numbers_of_cameras_are_no_coco_ids(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        make_image(tmp_path / "images" / name)
    groups = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": name} for name in names]).read("val")
    assert [group.path for group in groups] == [tmp_path / "images" / name for name in names]
    assert len({group.image_id for group in groups}) == 2


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ("202311081530.jpg", "202311081530_1.jpg"),
        ("000000000009.jpg", "000000000009.png"),
        ("000000000009.jpg", "COCO_train2014_000000000009.png"),
        ("a.jpg", "b/a.jpg"),
        ("a.jpg", "A.jpg"),
        ("a.jpg", "a.jpeg"),
    ],
)
def test_no_other_image_is_read_than_the_one_named(tmp_path: Path, there: str, named: str) -> None:
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": named}])
    (tmp_path / "images" / "a.jpg").unlink()
    make_image(tmp_path / "images" / there)
    with pytest.raises(DataError, match=rf"{named} of .*line 1 is not there"):
        data.read("val")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_names_are_found_in_either_unicode_form(tmp_path: Path, forms: tuple[str, str]) -> None:
    on_disk, named = (unicodedata.normalize(form, "Räume/Küche 1.png") for form in forms)
    path = make_image(tmp_path / "images" / on_disk)
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": named}])
    (group,) = data.read("val")
    assert os.path.samefile(group.path, path)
    assert group.image_id == unicodedata.normalize("NFC", "Räume_Küche_1.png")


def test_spellings_of_one_path_are_one_image(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "images")
    folders = "", "./", "x/..//", f"{tmp_path}/images/"
    (tmp_path / "images" / "x").mkdir(parents=True)
    lines = [ONE | {"image": f"{folder}a.jpg"} for folder in folders]
    _layout(tmp_path, "{split}.jsonl", val=lines)
    data = jsonl(tmp_path, images=str(link))
    (group,) = data.read("val")
    assert (group.image_id, len(group.samples)) == ("a.jpg", 4)


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/elsewhere/x.png"])
def test_images_outside_of_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    data = _layout(tmp_path, "{split}.jsonl", val=[ONE | {"image": name}])
    with pytest.raises(DataError, match=r"line 1 names the image .*x\.png, which does not lie in .*images: write its"):
        data.read("val")


def _coco(root: Path, expressions: list[Any], name: str = "expressions.json") -> CocoDataSet:
    make_image(root / "images" / "b.png")
    annotations = [
        {
            "id": 5,
            "image_id": 1,
            "category_id": 2,
            "bbox": [3.25, 4.5, 16.875, 20.5],
            "segmentation": rle(ragged_mask(2)),
        },
        {
            "id": 6,
            "image_id": 1,
            "category_id": 2,
            "bbox": [5, 6, 10, 10],
            "segmentation": [[5, 6, 15, 6, 15, 16, 5, 16]],
        },
    ]
    image = {"id": 1, "file_name": "b.png", "width": WIDTH, "height": HEIGHT}
    content = {"images": [image], "annotations": annotations, "categories": [{"id": 2, "name": "dog"}]}
    (root / "instances.json").write_text(json.dumps(content))
    lines = json.dumps(expressions) if name.endswith(".json") else "\n".join(map(json.dumps, expressions))
    (root / name).write_text(lines)
    return CocoDataSet(DatasetConfig(folder=str(root), refs=name, images=str(root / "images")), root / "cache")


EXPRESSIONS = [
    {"annotation_id": 6, "expression": "the block", "split": "val"},
    {"annotation_id": 5, "expression": "the noise", "split": "val", "id": 40},
    {"annotation_id": 5, "expression": "not this one", "split": "train", "id": 41},
]


@pytest.mark.parametrize("name", ["expressions.json", "expressions.jsonl"])
def test_coco_round_trip(tmp_path: Path, name: str) -> None:
    data = _coco(tmp_path, EXPRESSIONS, name)
    noise, block = samples_of(data.read("val"))
    assert (noise.sample_id, noise.expression, noise.category, noise.box) == ("40", "the noise", "dog", BOX)
    np.testing.assert_array_equal(decoded(noise), ragged_mask(2))
    assert (block.sample_id, block.box) == ("0" if name.endswith(".json") else "1", (5, 6, 15, 16))
    np.testing.assert_array_equal(decoded(block), block_mask(HEIGHT, WIDTH, (5, 6, 15, 16)))
    assert data.splits() == ["train", "val"]


def test_coco_without_splits_belongs_to_any(tmp_path: Path) -> None:
    data = _coco(tmp_path, [{"annotation_id": 6, "expression": "it"}])
    assert data.splits() == []
    assert len(samples_of(data.read("whatever"))) == 1


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("the cup", r"expressions\.json, record 1 is not a mapping but str"),
        ({"expression": "it"}, r"record 1 has no 'annotation_id'"),
        (
            {"annotation_id": 99, "expression": "it"},
            r"record 1 names annotation 99, which .*instances\.json does not hold",
        ),
        ({"annotation_id": 5, "expression": 3}, r"record 1 has 'expression' of type int"),
        ({"annotation_id": 5, "expression": "it", "id": "seven"}, r"record 1 has 'id' of type str"),
        ({"annotation_id": 5, "expression": "it", "split": 1}, r"record 1 has 'split' of type int"),
    ],
)
def test_wrong_expressions_are_named_or_counted(tmp_path: Path, record: object, text: str) -> None:
    data = _coco(tmp_path, [EXPRESSIONS[0], record])
    with pytest.raises(DataError, match=text):
        data.read("val")
    tally = Tally(counting=True)
    assert len(samples_of(data.read("val", tally))) == tally.rejected == 1


def test_coco_that_is_not_there_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expressions\.json is not there, but a COCO data set of your own is a folder"):
        CocoDataSet(DatasetConfig(folder=str(tmp_path), refs="expressions.json"), tmp_path).read("val")


def _open_reasonseg(root: Path, query: QueryLength = QueryLength.all) -> ReasonSegDataSet:
    return ReasonSegDataSet(DatasetConfig(folder=str(root), query=query), root / "cache")


def _reasonseg(root: Path, shapes: list[tuple[str, list]], long: bool = True, name: str = "x") -> None:
    make_image(root / "val" / f"{name}.jpg")
    content = {
        "text": ["what floats?", "the café boat"],
        "is_sentence": long,
        "shapes": [{"label": label, "points": points} for label, points in shapes],
    }
    (root / "val" / f"{name}.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))


def test_reasonseg_is_painted_as_its_publishers_do(tmp_path: Path) -> None:
    target, ignored, inner = [[4, 4], [30.9, 5], [28, 25]], [[10, 8], [26, 9], [25, 18]], [[20, 11], [23, 11], [22, 14]]
    # Written smallest first: the order in the file must not matter.
    shapes = [("target", inner), ("Ignore_it", ignored), ("target", target), ("FLAG", [[0, 0], [39, 0], [39, 29]])]
    _reasonseg(tmp_path, shapes)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for points, value in ((target, 1), (ignored, 0), (inner, 1)):
        cv2.polylines(expected, np.array([points], dtype=np.int32), True, value, 1)
        cv2.fillPoly(expected, np.array([points], dtype=np.int32), value)
    first, second = samples_of(_open_reasonseg(tmp_path).read("val"))
    np.testing.assert_array_equal(decoded(first), expected.astype(bool))
    assert not decoded(first)[10, 15] and decoded(first)[12, 22]
    assert first.box == (4, 4, 31, 26)
    assert (first.sample_id, second.sample_id, second.expression) == ("val-x-0", "val-x-1", "the café boat")


def test_reasonseg_short_and_long(tmp_path: Path) -> None:
    square = [("target", [[4, 4], [20, 4], [20, 20], [4, 20]])]
    _reasonseg(tmp_path, square, long=True, name="a")
    _reasonseg(tmp_path, square, long=False, name="b")
    images = {q: [g.path.stem for g in _open_reasonseg(tmp_path, q).read("val")] for q in QueryLength}
    assert images == {QueryLength.all: ["a", "b"], QueryLength.short: ["b"], QueryLength.long: ["a"]}


def test_reasonseg_that_is_not_there_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test holds no \*\.json, but ReasonSeg is a folder with train, val and test"):
        _open_reasonseg(tmp_path).read("test")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shapes": []}, r"x\.json has a mask that covers no pixel"),
        ({"shapes": [{"label": "target", "points": [[1, "2"]]}]}, r"x\.json has a polygon that is not a list of"),
        ({"shapes": [{"label": "target", "points": [[1, 1e9]]}]}, r"x\.json has a polygon that is not a list of"),
        ({"shapes": [{"points": [[1, 2]]}]}, r"a shape of .*x\.json has no 'label'"),
        ({"is_sentence": "yes"}, r"x\.json has no 'is_sentence'"),
        ({"text": [3]}, r"x\.json has a query of type int"),
        ({"text": "boat"}, r"x\.json has 'text' of type str where a list is needed"),
    ],
)
def test_wrong_reasonseg_files_are_named_or_counted(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    good = [("target", [[4, 4], [20, 4], [20, 20]])]
    _reasonseg(tmp_path, good)
    _reasonseg(tmp_path, good, name="good")
    path = tmp_path / "val" / "x.json"
    path.write_text(json.dumps(json.loads(path.read_bytes().decode("cp1252")) | change))
    with pytest.raises(DataError, match=text):
        _open_reasonseg(tmp_path).read("val")
    tally = Tally(counting=True)
    assert len(samples_of(_open_reasonseg(tmp_path).read("val", tally))) == 2
    assert tally.rejected == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"expression": "a \ud800 cup"}, r"line 1 has half of a surrogate pair in 'expression'"),
        ({"id": "s\ud800"}, r"line 1 has half of a surrogate pair in 'id'"),
        ({"id": ["a"]}, r"line 1 has 'id' of type list, not a text or a number"),
        ({"ref_id": {}}, r"line 1 has 'ref_id' of type dict, not a text or a number"),
    ],
)
def test_jsonl_texts_that_no_file_can_hold(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        _layout(tmp_path, "{split}.jsonl", val=[ONE | changes]).read("val")


def test_jsonl_id_null_is_no_id(tmp_path: Path) -> None:
    (sample,) = samples_of(_layout(tmp_path, "{split}.jsonl", val=[ONE | {"id": None}]).read("val"))
    assert sample.sample_id == "val-1"


def _changed_coco(root: Path, **changes: Any) -> CocoDataSet:
    """Annotation 6, a block, with other values; a value of Ellipsis takes the key away."""
    data = _coco(root, [{"annotation_id": 6, "expression": "the block"}])
    content = json.loads((root / "instances.json").read_text())
    merged = content["annotations"][1] | changes
    content["annotations"][1] = {key: value for key, value in merged.items() if value is not ...}
    (root / "instances.json").write_text(json.dumps(content))
    return data


@pytest.mark.parametrize("segmentation", [..., None, [], [[]], [[], []], {}])
def test_coco_without_a_mask_lets_the_box_stand_and_says_so(
    tmp_path: Path, segmentation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = _changed_coco(tmp_path, segmentation=segmentation)
    (sample,) = samples_of(data.read("val"))
    np.testing.assert_array_equal(decoded(sample), block_mask(HEIGHT, WIDTH, (5, 6, 15, 16)))
    assert data.notes == ["1 samples have no mask: their box stands for it, so mask figures mean nothing for them."]
    assert caplog.messages == data.notes
    tally = Tally(counting=True)
    data.read("val", tally)
    assert (tally.seen["no mask"], tally.rejected) == (1, 0)


def test_coco_masks_that_are_there_are_taken(tmp_path: Path) -> None:
    data = _changed_coco(tmp_path, segmentation=[[], [5, 6, 15, 6, 15, 16, 5, 16]])
    assert len(samples_of(data.read("val"))) == 1
    assert not data.notes
    with pytest.raises(DataError, match="an empty polygon"):
        _changed_coco(tmp_path, segmentation=[[1, 1, 5, 5]]).read("val")


@pytest.mark.parametrize("one", [1.0, "1"])
def test_coco_ids_of_other_programs_are_whole_numbers(tmp_path: Path, one: Any) -> None:
    data = _changed_coco(tmp_path, image_id=one, category_id=2.0, id=6.0)
    (sample,) = samples_of(data.read("val"))
    assert (sample.ref_id, sample.category) == ("6", "dog")


@pytest.mark.parametrize(("wrong", "text"), [(6.5, "float"), ("six", "str"), (None, "NoneType"), ([6], "list")])
def test_coco_ids_that_are_no_numbers_are_named(tmp_path: Path, wrong: Any, text: str) -> None:
    data = _coco(tmp_path, [{"annotation_id": wrong, "expression": "it"}])
    reason = rf"record 0 has 'annotation_id' of type {text} where a whole number is needed"
    with pytest.raises(DataError, match=reason):
        data.read("val")
    # Where every record is unusable, the check still says why.
    tally = Tally(counting=True)
    assert data.read("val", tally) == []
    assert tally.rejected == 1
    assert "'annotation_id'" in tally.examples[0]


def test_coco_images_are_known_by_their_names(tmp_path: Path) -> None:
    (group,) = _coco(tmp_path, [{"annotation_id": 6, "expression": "it"}]).read("val")
    assert group.image_id == "b.png"  # not 1, which is another image's id in COCO


def test_coco_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    data = _coco(tmp_path, [{"annotation_id": 6, "expression": "it"}])
    text = (tmp_path / "instances.json").read_text()
    for name in ("../b.png", "/etc/b.png"):
        (tmp_path / "instances.json").write_text(text.replace('"b.png"', f'"{name}"'))
        with pytest.raises(DataError, match=r"image 1 of .* names the image .*b\.png, which does not lie in"):
            data.read("val")
