"""The REFER reader: what it joins, and the sentence that each contradiction gives."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from refer_files import REFS, TinyRefer, block_mask, read_refer, refer

from locheads.errors import DataError


def test_order_and_content(tiny: TinyRefer) -> None:
    groups = tiny.read()
    assert [(g.image_id, g.width, g.height) for g in groups] == [("9", 60, 40), ("25", 30, 40)]
    samples = [sample for group in groups for sample in group.samples]
    assert [(s.ref_id, s.sample_id, s.expression, s.category) for s in samples] == [
        ("10", "40", "brown dog", "dog"),
        ("11", "32", "man", "person"),
        ("12", "30", "the woman", "person"),
        ("12", "31", "right one", "person"),
    ]
    assert [s.box for s in samples[:2]] == [(10, 5, 30, 20), (4.5, 2.25, 14.5, 14.25)]


def test_path_follows_the_image_id(tiny: TinyRefer) -> None:
    assert [group.path.name for group in tiny.read()] == [
        "COCO_train2014_000000000009.jpg",
        "COCO_train2014_000000000025.jpg",
    ]


def test_masks_of_all_three_forms(tiny: TinyRefer) -> None:
    polygon, uncompressed, compressed, _ = [s for group in tiny.read() for s in group.samples]
    assert polygon.mask["size"] == [40, 60]
    assert all(isinstance(s.mask["counts"], str) for s in (polygon, uncompressed, compressed))
    union = block_mask(40, 60, (10, 5, 20, 15)) | block_mask(40, 60, (15, 10, 30, 20))
    np.testing.assert_array_equal(coco.decode(polygon.mask).astype(bool), union)
    np.testing.assert_array_equal(coco.decode(uncompressed.mask), block_mask(40, 30, (4, 2, 14, 14)))
    np.testing.assert_array_equal(coco.decode(compressed.mask), block_mask(40, 30, (5, 10, 25, 30)))


def test_raw_text_where_sent_is_absent_or_blank(tiny: TinyRefer) -> None:
    del tiny.refs[0]["sentences"][0]["sent"]
    tiny.refs[1]["sentences"][0]["sent"] = " "
    assert [s.expression for s in tiny.read()[1].samples] == ["MAN", "the woman", "RIGHT ONE"]


def test_blank_expression_is_kept_and_logged(tiny: TinyRefer, caplog: pytest.LogCaptureFixture) -> None:
    tiny.refs[1]["sentences"][0].update(sent="", raw="")
    assert tiny.read()[1].samples[0].expression == ""
    assert "sentence 32 of ref 11" in caplog.text


def test_lines_in_a_polygon_are_left_out(tiny: TinyRefer) -> None:
    before = tiny.read()[0].samples[0].mask
    # pycocotools would take the four numbers for a box [x, y, w, h] and fill it.
    tiny.instances["annotations"][0]["segmentation"].insert(0, [0, 0, 50, 30])
    assert tiny.read()[0].samples[0].mask == before


def test_splits(tiny: TinyRefer) -> None:
    tiny.write()
    assert refer(tiny.folder, tiny.images).splits() == ["train", "val"]
    assert [g.image_id for g in tiny.read("train")] == ["3"]


def test_other_splits_are_not_looked_at(tiny: TinyRefer) -> None:
    tiny.instances["annotations"][3]["segmentation"] = []
    assert len(tiny.read("val")) == 2


def test_digest_changes_with_either_file(tiny: TinyRefer) -> None:
    tiny.write()
    digests = [refer(tiny.folder, tiny.images).digest]
    assert refer(tiny.folder, tiny.images).digest == digests[0]
    assert len(digests[0]) == 64
    tiny.refs[0]["sentences"][0]["sent"] = "left one"
    tiny.write()
    digests.append(refer(tiny.folder, tiny.images).digest)
    tiny.instances["images"][0]["width"] = 61
    tiny.write()
    digests.append(refer(tiny.folder, tiny.images).digest)
    assert len(set(digests)) == 3


def _set(kind: str, number: int, **values: Any) -> Callable[[TinyRefer], None]:
    def change(tiny: TinyRefer) -> None:
        records = tiny.refs if kind == "refs" else tiny.instances[kind]
        records[number].update(values)

    return change


def _drop(kind: str, number: int, key: str) -> Callable[[TinyRefer], None]:
    def change(tiny: TinyRefer) -> None:
        del (tiny.refs if kind == "refs" else tiny.instances[kind])[number][key]

    return change


def _segmentation(value: Any) -> Callable[[TinyRefer], None]:
    """On annotation 2, in an image of 30 x 40."""
    return _set("annotations", 1, segmentation=value)


def _code(counts: Any, size: Any = None) -> Callable[[TinyRefer], None]:
    return _segmentation({"size": size or [40, 30], "counts": counts})


def _append_twin(kind: str, number: int) -> Callable[[TinyRefer], None]:
    return lambda tiny: tiny.instances[kind].append(tiny.instances[kind][number])


ANNOTATION_2 = r"annotation 2 of .*instances\.json has "
WRONG: dict[str, tuple[Callable[[TinyRefer], None], str]] = {
    "no such annotation": (
        _set("refs", 0, ann_id=99),
        r"ref 12 of .*refs\(unc\)\.p names annotation 99, which .*instances\.json does not hold: take both",
    ),
    "no such image": (
        _set("refs", 0, image_id=77),
        r"ref 12 of .*refs\(unc\)\.p names image 77, which .*instances\.json does not hold",
    ),
    "annotation elsewhere": (
        _set("refs", 0, ann_id=1),
        r"ref 12 of .* is about image 25, but its annotation 1 of .*instances\.json lies in image 9",
    ),
    "no such category": (
        _set("annotations", 1, category_id=5),
        r"annotation 2 of .* names category 5, which",
    ),
    "no ann_id": (_drop("refs", 0, "ann_id"), r"ref 12 of .*refs\(unc\)\.p has no 'ann_id'"),
    "no image_id": (_drop("refs", 0, "image_id"), "ref 12 of .* has no 'image_id'"),
    "no ref_id": (_drop("refs", 0, "ref_id"), "ref 'without ref_id' of .* has no 'ref_id'"),
    "no split": (_drop("refs", 3, "split"), "ref number 3 of .* has no 'split'"),
    "no sentences": (_drop("refs", 0, "sentences"), "ref 12 of .* has no 'sentences'"),
    "text for an id": (
        _set("refs", 0, ann_id="three"),
        "ref 12 of .* has 'ann_id' of type str where a whole number is needed",
    ),
    "truth for an id": (_set("refs", 0, ref_id=True), "ref True of .* has 'ref_id' of type bool"),
    "huge id": (
        _set("refs", 0, ref_id=10**5000),
        "thousands of digits.* has a 'ref_id' of more than 64 bits",
    ),
    "list as id": (_set("refs", 0, image_id=[25]), "ref 12 of .* has 'image_id' of type list"),
    "split is a number": (_set("refs", 0, split=1), "ref number 0 of .* has 'split' of type int"),
    "ref is text": (lambda tiny: tiny.refs.insert(1, "ref"), "ref number 1 of .* is not a mapping but str"),  # type: ignore[arg-type]
    "refs are empty": (lambda tiny: tiny.refs.clear(), r"refs\(unc\)\.p holds no list of refs \(list\)"),
    "sentence is text": (
        _set("refs", 0, sentences=["a dog"]),
        "a sentence of ref 12 of .* is not a mapping but str",
    ),
    "sentence without id": (
        _set("refs", 0, sentences=[{"sent": "a"}]),
        "a sentence of ref 12 of .* no 'sent_id'",
    ),
    "sentence without text": (
        _set("refs", 0, sentences=[{"sent_id": 8}]),
        "sentence 8 of ref 12 of .* has no 'sent'",
    ),
    "sentence of a number": (
        _set("refs", 0, sentences=[{"sent_id": 8, "sent": 3}]),
        "sentence 8 of ref 12 of .* has 'sent' of type int where text is needed",
    ),
    "sentence id twice": (
        _set("refs", 1, sentences=[{"sent_id": 30, "sent": "man"}]),
        r"holds the sentence id 30 twice \(refs 11 and 12\)",
    ),
    "nobody said anything": (
        lambda tiny: tiny.refs.__setitem__(slice(0, 3), [{**tiny.refs[1], "sentences": []}]),
        r"split 'val' of .*refs\(unc\)\.p holds no sample",
    ),
    "no bbox": (_drop("annotations", 1, "bbox"), ANNOTATION_2 + "no 'bbox'"),
    "bbox of NaN": (
        _set("annotations", 1, bbox=[1, 2, math.nan, 4]),
        ANNOTATION_2 + r"the bbox \[1, 2, nan, 4\]",
    ),
    "bbox of infinity": (_set("annotations", 1, bbox=[1, 2, math.inf, 4]), ANNOTATION_2 + "the bbox"),
    "bbox of a huge number": (
        _set("annotations", 1, bbox=[1, 2, 10**400, 4]),
        ANNOTATION_2 + r"the bbox .*\.\.\.",
    ),
    "bbox of three": (_set("annotations", 1, bbox=[1, 2, 3]), ANNOTATION_2 + r"the bbox \[1, 2, 3\]"),
    "bbox of text": (_set("annotations", 1, bbox=[1, 2, "3", 4]), ANNOTATION_2 + "the bbox"),
    "bbox without width": (_set("annotations", 1, bbox=[1, 2, 0, 4]), ANNOTATION_2 + "the bbox"),
    "no segmentation": (
        _drop("annotations", 1, "segmentation"),
        ANNOTATION_2 + "a segmentation of type NoneType",
    ),
    "segmentation of text": (_segmentation("mask"), ANNOTATION_2 + "a segmentation of type str"),
    "no polygon": (_segmentation([]), ANNOTATION_2 + "an empty polygon: correct it, or leave it out"),
    "empty polygon": (_segmentation([[]]), ANNOTATION_2 + "an empty polygon"),
    "polygon of a line": (_segmentation([[1, 1, 5, 5]]), ANNOTATION_2 + "an empty polygon"),
    "polygon without area": (
        _segmentation([[1, 1, 1, 1, 1, 1]]),
        ANNOTATION_2 + "a segmentation that covers no",
    ),
    "odd polygon": (
        _segmentation([[1, 1, 5, 5, 1, 5, 9]]),
        ANNOTATION_2 + "a polygon that is not a list of x, y",
    ),
    "flat polygon": (
        _segmentation([1, 1, 5, 5, 1, 5]),
        ANNOTATION_2 + "a polygon that is not a list of x, y",
    ),
    "polygon of NaN": (
        _segmentation([[1, 1, 5, math.nan, 1, 5]]),
        ANNOTATION_2 + "a polygon with a coordinate",
    ),
    "polygon far outside": (
        _segmentation([[1, 1, 5, 1e300, 1, 5]]),
        ANNOTATION_2 + "a polygon with a coordinate",
    ),
    "polygon of text": (_segmentation([[1, 1, 5, "5", 1, 5]]), ANNOTATION_2 + "a polygon with a coordinate"),
    "code of another size": (
        _code([0, 1200], [30, 40]),
        ANNOTATION_2 + r"run-length code for size \[30, 40\], but",
    ),
    "code without size": (
        _segmentation({"counts": [0, 9]}),
        r"the segmentation of annotation 2 of .* no 'size'",
    ),
    "code without counts": (
        _segmentation({"size": [40, 30]}),
        ANNOTATION_2 + "run-length code whose counts are",
    ),
    "runs too short": (_code([0, 100]), ANNOTATION_2 + "damaged run-length code.* 1200 pixels"),
    "runs too long": (_code([0, 1201]), ANNOTATION_2 + "damaged run-length code"),
    "negative run": (_code([-1, 1201]), ANNOTATION_2 + "damaged run-length code"),
    "runs of text": (_code(["0", "1200"]), ANNOTATION_2 + "damaged run-length code"),
    "nothing masked": (_code([1200]), ANNOTATION_2 + "a segmentation that covers no pixel"),
    # pycocotools fills the missing pixels with whatever lies in memory.
    "compressed, too short": (_code("00"), ANNOTATION_2 + "damaged run-length code"),
    "compressed, cut": (_code("o"), ANNOTATION_2 + "damaged run-length code"),
    "compressed, not code": (_code("!?"), ANNOTATION_2 + "damaged run-length code"),
    "compressed, endless": (_code("o" * 100_000), ANNOTATION_2 + "damaged run-length code"),
    "image without width": (_drop("images", 1, "width"), r"image 25 of .*instances\.json has no 'width'"),
    "image without file": (
        _drop("images", 1, "file_name"),
        r"image 25 of .*instances\.json has no 'file_name'",
    ),
    "image of no height": (
        _set("images", 1, height=0),
        "image 25 of .* has the height 0, but an image has 1 to 65535",
    ),
    "image without id": (_drop("images", 1, "id"), "image number 1 of .* has no 'id'"),
    "annotation without id": (_drop("annotations", 4, "id"), "annotation number 4 of .* has no 'id'"),
    "annotation twice": (_append_twin("annotations", 1), r"instances\.json holds annotation 2 twice"),
    "image twice": (_append_twin("images", 1), r"instances\.json holds image 25 twice"),
    "category without name": (
        _drop("categories", 0, "name"),
        r"category 1 of .*instances\.json has no 'name'",
    ),
    "no annotations": (
        lambda tiny: tiny.instances.pop("annotations"),
        r"instances\.json has no 'annotations'",
    ),
    "images are a mapping": (
        lambda tiny: tiny.instances.update(images={}),
        r"instances\.json has 'images' of type dict where a list is needed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_records_are_named(tiny: TinyRefer, case: str) -> None:
    change, text = WRONG[case]
    change(tiny)
    with pytest.raises(DataError, match=text) as caught:
        tiny.read()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize("content", ["", "{", "[1, 2", '{"images": ', "<html>", "[" * 100_000])
def test_broken_json(tiny: TinyRefer, content: str) -> None:
    tiny.write()
    (tiny.folder / "instances.json").write_text(content)
    with pytest.raises(DataError, match=r"instances\.json is not complete JSON \(.*\): copy or download it again\.$"):
        read_refer(tiny.folder, tiny.images, "val")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe\xff", r"line 1 is not UTF-16.* text \(byte 0xff, number \d of the file\)"),
        (b"[\n\x80abc", r"line 2 is not UTF-8 text \(byte 0x80, number 2 of the file\)"),
        (b"{\n\x00}", "holds a zero byte in line 2"),
    ],
)
def test_json_that_is_not_text(tiny: TinyRefer, content: bytes, text: str) -> None:
    tiny.write()
    (tiny.folder / "instances.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"instances\.json,? {text}.*: save it as UTF-8\.$"):
        read_refer(tiny.folder, tiny.images, "val")


@pytest.mark.parametrize("content", [{"refs": []}, "refs", 3, None])
def test_refs_of_another_kind(tiny: TinyRefer, content: object) -> None:
    tiny.write()
    (tiny.folder / REFS).write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p holds no list of refs"):
        read_refer(tiny.folder, tiny.images, "val")


def test_instances_of_another_kind(tiny: TinyRefer) -> None:
    tiny.write()
    (tiny.folder / "instances.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match=r"instances\.json is not a mapping but list"):
        read_refer(tiny.folder, tiny.images, "val")


def test_unknown_split_lists_the_known(tiny: TinyRefer) -> None:
    with pytest.raises(DataError, match=r"There is no split 'testA' in .*refs\(unc\)\.p: choose one of train, val\.$"):
        tiny.read("testA")


LAYOUT = r" is not there, but a REFER data set is a folder .*instances\.json: set paths\.data .* dataset\.folder"


@pytest.mark.parametrize("missing", [REFS, "instances.json"])
def test_missing_file(tiny: TinyRefer, missing: str) -> None:
    tiny.write()
    (tiny.folder / missing).unlink()
    data = refer(tiny.folder, tiny.images)
    for call in (data.splits, lambda: data.digest, lambda: data.read("val")):
        with pytest.raises(DataError, match=LAYOUT) as caught:
            call()
        assert str(caught.value).startswith(str(tiny.folder / missing))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refcoco" + LAYOUT):
        read_refer(tmp_path / "refcoco", tmp_path, "val")


def test_other_objects_of_the_category_are_counted_in_the_image(tiny: TinyRefer) -> None:
    def found() -> dict[str, int | None]:
        return {s.sample_id: s.distractors for group in tiny.read() for s in group.samples}

    # Image 25 has two persons; 9 has one dog, and the dogs of image 3 are not its.
    assert found() == {"40": 0, "32": 1, "30": 1, "31": 1}
    extra = {"id": 6, "image_id": 9, "category_id": 18, "iscrowd": 0}  # of which no ref is about
    odd = [{"id": 7, "image_id": [9], "category_id": 18}, {"id": 8}, {"id": 10, "image_id": 9, "category_id": 1}]
    tiny.instances["annotations"] += [extra, extra | {"id": 9, "iscrowd": 1}, *odd]
    assert found() == {"40": 1, "32": 1, "30": 1, "31": 1}
    tiny.instances["annotations"][0]["iscrowd"] = 1  # the dog that the ref is about
    tiny.instances["annotations"].remove(extra)
    assert found()["40"] == 0
