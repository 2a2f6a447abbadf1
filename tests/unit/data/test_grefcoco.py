"""gRefCOCO's files: several annotations of a ref, none, the contradictions between the two, and what a check counts."""

import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from refer_files import TinyRefer, block_mask

from locheads.data import checks
from locheads.data.checks import CheckState, check_samples, official_counts, official_objects
from locheads.data.config import DatasetConfig
from locheads.data.grefcoco import GrefDataSet
from locheads.data.guard import guarded_keys
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.types import NO_BOX, Sample

REFS = "grefs(unc).json"


def gref(ref_id: int, image_id: int, annotations: list[int], sentences: dict[int, str], **more: Any) -> dict[str, Any]:
    """A ref as the published file has it: `ann_id` and `category_id` are lists."""
    texts = [{"sent_id": i, "sent": text, "raw": text, "tokens": text.split()} for i, text in sentences.items()]
    return {
        "ref_id": ref_id, "image_id": image_id, "ann_id": annotations, "category_id": [1] * len(annotations),
        "no_target": annotations == [-1], "split": "val", "file_name": "COCO_train2014_000000000001.jpg",
        "sent_ids": list(sentences), "sentences": texts, **more,
    }  # fmt: skip


REFS_OF_TWO_IMAGES = [
    gref(1, 25, [2, 3], {1: "two people"}),
    gref(2, 25, [3], {2: "the woman", 3: "right one"}),
    gref(3, 25, [-1], {4: "the horse"}, category_id=[-1]),
    gref(4, 9, [1], {5: "brown dog"}),
    gref(5, 3, [4], {6: "the dog"}, split="train"),
]


@pytest.fixture
def data(tiny: TinyRefer) -> GrefDataSet:
    tiny.write()
    return write(tiny, REFS_OF_TWO_IMAGES)


def write(tiny: TinyRefer, refs: list[dict[str, Any]], **settings: Any) -> GrefDataSet:
    (tiny.folder / REFS).write_text(json.dumps(refs))
    config = DatasetConfig(folder=str(tiny.folder), refs=REFS, images=str(tiny.images), **settings)
    return GrefDataSet(config, tiny.root / "cache")


def by_id(data: GrefDataSet, split: str = "val") -> dict[str, Sample]:
    return {sample.sample_id: sample for group in data.read(split) for sample in group.samples}


def test_several_one_and_none(data: GrefDataSet) -> None:
    samples = by_id(data)
    assert data.splits() == ["train", "val"]
    man, woman = (4.5, 2.25, 14.5, 14.25), (5.0, 10.0, 25.0, 30.0)
    two, one, none = samples["1"], samples["2"], samples["4"]
    assert (two.boxes, two.box) == ((man, woman), (4.5, 2.25, 25.0, 30.0))
    assert (one.boxes, one.box, one.absent) == ((woman,), woman, False)
    assert (none.boxes, none.box, none.absent) == ((), NO_BOX, True)
    union = block_mask(40, 30, (4, 2, 14, 14)) | block_mask(40, 30, (5, 10, 25, 30))
    np.testing.assert_array_equal(coco.decode(two.mask), union)
    np.testing.assert_array_equal(coco.decode(one.mask), block_mask(40, 30, (5, 10, 25, 30)))
    assert coco.decode(none.mask).shape == (40, 30) and not coco.decode(none.mask).any()
    assert [(s.category, s.distractors) for s in (two, one, none)] == [("person", 0), ("person", 1), ("", None)]
    assert samples["2"].box == samples["3"].box and samples["5"].category == "dog"


def test_the_table_says_what_the_files_say(data: GrefDataSet) -> None:
    direct = data._read_files("val", Tally())
    assert data.read("val") == direct  # writes the table
    assert list((data._cache / "data").rglob("val.parquet"))
    assert data.read("val") == direct


def test_which_expressions_are_about_other_objects(data: GrefDataSet) -> None:
    samples = by_id(data)
    assert not samples["1"].is_apart_from(samples["2"]) and not samples["2"].is_apart_from(samples["4"])
    assert samples["1"].is_apart_from(samples["5"])


def test_an_annotation_that_is_listed_twice_is_one_object(tiny: TinyRefer, data: GrefDataSet) -> None:
    assert by_id(write(tiny, [gref(1, 25, [3, 3], {1: "a"})]))["1"].boxes == ((5.0, 10.0, 25.0, 30.0),)


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        (gref(1, 25, [2], {1: "a"}, no_target=True), r"'ann_id' \[2\] and 'no_target' True, which contradict"),
        (gref(1, 25, [-1], {1: "a"}, no_target=False), r"'ann_id' \[-1\] and 'no_target' False, which contradict"),
        (gref(1, 25, [2, -1], {1: "a"}), r"'ann_id' \[2, -1\] and 'no_target' False, which contradict"),
        (gref(1, 25, [], {1: "a"}), r"'ann_id' \[\], but a list of whole numbers"),
        (gref(1, 25, ["2"], {1: "a"}), r"'ann_id' \['2'\], but a list of whole numbers"),
        (gref(1, 25, [1], {1: "a"}), r"ref 1 of .*is about image 25, but its annotation 1 .*lies in image 9"),
        (gref(1, 25, [77], {1: "a"}), r"names annotation 77, which .*does not hold"),
    ],
)  # fmt: skip
def test_contradictions_are_named_and_counted(
    tiny: TinyRefer, data: GrefDataSet, ref: dict[str, Any], sentence: str
) -> None:
    damaged = write(tiny, [ref, gref(2, 25, [3], {2: "b"})])
    with pytest.raises(DataError, match=sentence):
        damaged.read("val")
    tally = Tally(counting=True)
    assert len(damaged.read("val", tally)[0].samples) == 1
    assert tally.rejected == 1


def test_a_ref_of_refer_is_named(tiny: TinyRefer, data: GrefDataSet) -> None:
    with pytest.raises(DataError, match="'ann_id' of type int where a list is needed"):
        write(tiny, [gref(1, 25, [2], {1: "a"}) | {"ann_id": 2}]).read("val")


def test_a_review_is_refused(tiny: TinyRefer, data: GrefDataSet) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.review is of expressions that name one object"):
        write(tiny, REFS_OF_TWO_IMAGES, review="flags_{split}.json")


def test_the_guard_knows_its_images(data: GrefDataSet, tiny: TinyRefer) -> None:
    (tiny.folder / "refs(unc).p").unlink()
    keys = guarded_keys(["beside"], tiny.folder, "train", tiny.root / "cache")
    assert keys == {str(tiny.folder / REFS): {"25", "9"}}


def test_counts_of_objects(data: GrefDataSet, tiny: TinyRefer) -> None:
    tiny.write_images()
    groups, folders = data.read("val"), [tiny.root]

    def verdicts(*counts: Any, third_party: bool = True) -> dict[str, checks.CheckResult]:
        found = check_samples("val", groups, Tally(counting=True), counts[0], False, folders, counts[1], third_party)
        return {verdict.question: verdict for verdict in found}

    own = "1 expressions name none, 3 one, 1 two, 0 three and more"
    right = verdicts((None, None, 5), (1, 3, 1, 0))
    assert right["objects"].text == f"{own}, as third parties count"
    assert {verdict.state for verdict in right.values()} == {CheckState.ok}
    wrong = verdicts((None, None, 6), (1, None, 2, 0))
    assert (wrong["objects"].state, wrong["counts"].state) == (CheckState.warn, CheckState.warn)
    assert wrong["objects"].text == f"{own}, but third parties (not the publisher) count 1, ?, 2 and 0"
    assert verdicts((None, None, 6), None, third_party=False)["counts"].state == CheckState.fail
    assert "objects" not in {v.question for v in check_samples(
        "val", tiny.read(), Tally(counting=True), None, False, folders)}  # fmt: skip


def test_the_counts_of_third_parties() -> None:
    assert official_counts("grefcoco/third_party") == {"val": (None, None, 14229), "testA": (None, None, 19200)}
    objects = official_objects("grefcoco/third_party")
    assert objects["testA"] == (4448, 5917, 5940, 2895) and sum(filter(None, objects["testA"])) == 19200
    assert objects["val"][1] == 0
