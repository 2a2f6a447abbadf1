"""The review of Ref-L4 is joined caption by caption; what does not match is named and counted, never joined."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from refer_files import REFS, TinyRefer

from locheads.data.checks import CheckState, check_review
from locheads.data.config import DatasetConfig
from locheads.data.refer import ReferDataSet
from locheads.data.review import PUBLISHED, flags_of
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError

CAPTIONS = [
    # COCO's image and annotation, caption, quality: in the order of the refs file, an image of the file for each.
    (25, 3, "right one", 1),
    (25, 3, "the woman", 0),
    (25, 2, "man", 1),
    (9, 1, "brown dog", 0),
]


def write_review(folder: Path, captions: list[tuple[int, int, str, int]], split: str = "val") -> Path:
    """As published: the ids of the file's own records differ from COCO's."""
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number, (image, annotation, caption, quality) in enumerate(captions):
        own = {"id": 1000 + number, "original_id": image, "caption": caption, "file_name": "x.jpg", "height": 1}
        content["images"].append(own)
        about = {"image_id": 1000 + number, "id": number, "original_id": annotation, "bbox": [1, 2, 3, 4]}
        content["annotations"].append(about | {"caption_quality": quality})
    path = folder / f"refcoco_{split}_reviewed.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRefer:
    files = TinyRefer(tmp_path)
    files.write()
    return files


def data_set(tiny: TinyRefer) -> ReferDataSet:
    review = str(tiny.root / "refcoco_{split}_reviewed.json")
    config = DatasetConfig(folder=str(tiny.folder), refs=REFS, images=str(tiny.images), review=review)
    return ReferDataSet(config, tiny.root / "cache")


def flags(tiny: TinyRefer, split: str = "val", tally: Tally | None = None) -> dict[str, bool | None]:
    groups = data_set(tiny).read(split, tally)
    return {sample.expression: sample.faulty for group in groups for sample in group.samples}


EXPECTED = {"brown dog": True, "man": False, "right one": False, "the woman": True}


def test_flags_are_joined_and_kept_in_the_table(tiny: TinyRefer) -> None:
    assert flags(tiny) == dict.fromkeys(EXPECTED)
    digest = data_set(tiny).digest
    write_review(tiny.root, CAPTIONS)
    assert flags(tiny) == flags(tiny) == flags(tiny, tally=Tally(counting=True)) == EXPECTED
    assert flags(tiny, "train") == {"the dog": None}
    # Stored attention maps are read again; a result is not.
    assert data_set(tiny).digest == digest
    assert sorted(map(str, flags_of(data_set(tiny).read("val")))) == ["False", "False", "True", "True"]
    assert flags_of(data_set(tiny).read("train")) == []
    # Another review is another table.
    write_review(tiny.root, [(*each[:3], 1) for each in CAPTIONS])
    assert flags(tiny) == dict.fromkeys(EXPECTED, False)


def test_the_same_caption_twice_is_joined_in_the_order_of_the_sentences(tiny: TinyRefer) -> None:
    for sentence in tiny.refs[0]["sentences"]:
        sentence["sent"] = "woman"
    tiny.write()
    write_review(tiny.root, [(25, 3, "woman", 0), (25, 3, "woman", 1), *CAPTIONS[2:]])
    (of_25,) = (group for group in data_set(tiny).read("val") if group.image_id == "25")
    assert {sample.sample_id: sample.faulty for sample in of_25.samples if sample.ref_id == "12"} == {
        "31": True, "30": False
    }  # fmt: skip


WRONG = {
    "another caption": (
        [*CAPTIONS[:2], (25, 2, "a man", 1), CAPTIONS[3]],
        r"sentence 32 of ref 11 of .* says 'man', but .*val_reviewed\.json has 'a man' there",
        {"man"},
    ),
    "captions exchanged": (
        [CAPTIONS[1], CAPTIONS[0], *CAPTIONS[2:]],
        "sentence 31 of ref 12 of .* says 'right one', but .* has 'the woman' there",
        {"right one", "the woman"},
    ),
    "no flag": (CAPTIONS[:3], "sentence 40 of ref 10 of .* says 'brown dog', but .* has nothing there", {"brown dog"}),
    "another annotation": (
        [*CAPTIONS[:3], (9, 7, "brown dog", 0)],
        "sentence 40 of ref 10 of .* says 'brown dog', but .* has nothing there",
        {"brown dog"},
    ),
    "a flag too many": (
        [*CAPTIONS, (9, 1, "dog", 0)],
        "reviews 'dog' of annotation 1 in image 9, which the refs do not hold",
        set(),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_match_is_named_and_counted_and_keeps_its_expression(tiny: TinyRefer, case: str) -> None:
    captions, sentence, without = WRONG[case]
    write_review(tiny.root, captions)
    with pytest.raises(DataError, match=sentence + r": take both files .* dataset\.review=''"):
        flags(tiny)
    tally = Tally(counting=True)
    found = flags(tiny, tally=tally)
    assert found == EXPECTED | dict.fromkeys(without)
    assert tally.rejected == max(1, len(without)) + (case == "another annotation")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["annotations"][1].pop("caption_quality"), "annotation number 1 of .* has no 'caption_quality'"),
        (lambda c: c["annotations"][1].update(image_id=7), "annotation number 1 of .* is about image 7, which is not"),
        (lambda c: c["images"][2].update(original_id="x"), "image 1002 of .* has 'original_id' of type str"),
        (lambda c: c.pop("images"), "has no 'images'"),
    ],
)
def test_a_damaged_review_is_one_sentence(tiny: TinyRefer, change: Any, sentence: str) -> None:
    path = write_review(tiny.root, CAPTIONS)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=sentence):
        flags(tiny)


def test_a_name_without_the_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.review=refcoco_reviewed\.json has no {split}"):
        DatasetConfig(review="refcoco_reviewed.json")


def test_the_check_compares_the_published_counts() -> None:
    # 21,586 annotations of RefCOCO's val, testA and testB, 21,373 of RefCOCO+'s, 14,498 of RefCOCOg's val and test.
    assert [sum(counts) for counts in PUBLISHED.values()] == [10834 + 5657 + 5095, 10758 + 5726 + 4889, 4896 + 9602]
    published = PUBLISHED["refcoco/unc"]
    whole = Counter({False: 18_532, True: 3_054, None: 120_624})
    verdict = check_review(whole, published)
    assert (verdict.state, verdict.text) == (
        CheckState.ok, "18,532 clean, 3,054 faulty, 120,624 not reviewed, as published"
    )  # fmt: skip
    # A file is missing, or another data set's.
    assert check_review(whole - Counter({False: 4_000}), published).state is CheckState.warn
    assert check_review(whole + Counter({True: 1}), published).state is CheckState.fail
    assert check_review(whole, None).text.endswith("120,624 not reviewed")
