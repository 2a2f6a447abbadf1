"""Panoptic Narrative Grounding in files of the published form: phrases, id images, both layouts, the three readings."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from locheads.data.config import Asked, DatasetConfig, Phrases, PngReading
from locheads.data.nouns import last_noun
from locheads.data.png import PngDataSet
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.types import Excerpt, ImageGroup

WIDTH, HEIGHT = 60, 40
SEGMENTS = {3226956: (0, 20, 0, 30), 65794: (20, 40, 0, 30), 7: (0, 40, 30, 45), 256: (0, 40, 45, 60)}
"""id -> (first row, end, first column, end)."""
THINGS = {1: ("person", 1), 2: ("grass", 0)}
CATEGORY = {3226956: 1, 65794: 1, 7: 2, 256: 2}


def phrase(text: str, *ids: int, noun: bool = True, plural: bool = False) -> dict[str, Any]:
    return {"utterance": text, "segment_ids": [str(i) for i in ids], "noun": noun, "plural": plural}


NARRATIVES = [
    {"image_id": "000139", "caption": "Two men and a child on the grass.", "segments": [
        phrase("Two men ", 3226956, 65794, plural=True), phrase("and ", noun=False), phrase("a child ", 65794),
        phrase("on ", noun=False), phrase("the grass", 7), phrase(".", noun=False)]},
    {"image_id": "139", "caption": "Nothing.", "segments": [phrase("Nothing."), phrase("", noun=False)]},
    {"image_id": "000140", "caption": "We see lawns on the right, and it.", "segments": [
        phrase("We see ", noun=False), phrase("lawns on the right", 256, plural=True), phrase(", and ", noun=False),
        phrase("it", 7, noun=False), phrase(".", noun=False)]},
]  # fmt: skip


def write(root: Path, nested: bool) -> DatasetConfig:
    """The authors' layout, or F-LMM's."""
    annotations, images = (root / "annotations", root / "images" / "val2017") if nested else (root, root / "pictures")
    ids_folder = annotations / ("panoptic_segmentation/val2017" if nested else "panoptic_val2017")
    for folder in (annotations, images, ids_folder):
        folder.mkdir(parents=True, exist_ok=True)
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    for number, (top, bottom, left, right) in SEGMENTS.items():
        ids[top:bottom, left:right] = number
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    segments = [{"id": n, "category_id": CATEGORY[n], "area": int((ids == n).sum())} for n in SEGMENTS]
    panoptic: dict[str, Any] = {"images": [], "annotations": [], "categories": [
        {"id": i, "name": name, "isthing": thing} for i, (name, thing) in THINGS.items()]}  # fmt: skip
    for number in (139, 140):
        Image.fromarray(colours).save(ids_folder / f"{number:012d}.png")
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"{number:012d}.jpg")
        name = f"{number:012d}"
        panoptic["images"].append({"id": number, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT})
        panoptic["annotations"].append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    (annotations / "png_coco_val2017.json").write_text(json.dumps(NARRATIVES))
    (annotations / "panoptic_val2017.json").write_text(json.dumps(panoptic))
    return DatasetConfig(reader="png", folder=str(root), images=str(images.parent if nested else images))


@pytest.fixture
def config(tmp_path: Path) -> DatasetConfig:
    return write(tmp_path, nested=True)


def read(config: DatasetConfig) -> list[ImageGroup]:
    return PngDataSet(config, Path(config.folder) / "cache").read("val")


def by_id(config: DatasetConfig) -> dict[str, tuple[str, tuple[str, ...], int | None]]:
    return {s.sample_id: (s.expression, s.kinds, s.mask_side) for group in read(config) for s in group.samples}


def test_phrases_with_their_segments(config: DatasetConfig) -> None:
    first, second = read(config)
    assert (first.image_id, second.image_id, first.path.is_file()) == ("139", "140", True)
    men = first.samples[0]
    assert (men.ref_id, men.expression, men.box) == ("139-65794+3226956", "Two men", (0.0, 0.0, 30.0, 40.0))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, :30] = True
    np.testing.assert_array_equal(coco.decode(men.mask), expected)
    assert [s.category for s in first.samples] == ["person", "person", "grass"]
    assert [int(coco.area(s.mask)) for s in first.samples] == [1200, 600, 600]


def test_both_layouts_hold_the_same(config: DatasetConfig, tmp_path: Path) -> None:
    flat = write(tmp_path / "flat", nested=False)
    assert [g.samples for g in read(flat)] == [g.samples for g in read(config)]
    assert [g.path.is_file() for g in read(flat)] == [True, True]


def test_the_readings_differ_as_their_code_does(config: DatasetConfig) -> None:
    original, flmm, groundlmm = (by_id(replace(config, reading=reading)) for reading in PngReading)
    assert original == {
        "val-0-0": ("Two men", ("things", "plurals"), 256), "val-0-2": ("a child", ("things", "singulars"), 256),
        "val-0-4": ("the grass", ("stuff", "singulars"), 256),
        # One segment is singular there, whatever the narrative says, and what is no noun is not asked.
        "val-2-1": ("lawns on the right", ("stuff", "singulars"), 256),
    }  # fmt: skip
    assert groundlmm == {
        "val-0-0": ("Two men", ("things", "plurals"), None), "val-0-2": ("a child", ("things", "singulars"), None),
        "val-0-4": ("the grass", ("stuff", "singulars"), None),
        # One segment, of stuff: whatever the narrative says, it is no thing.
        "val-2-1": ("lawns on the right", ("stuff", "plurals"), None), "val-2-3": ("it", ("stuff", "singulars"), None),
    }  # fmt: skip
    # The narrative without segments stands for another one, always for the same.
    replaced = {key: value for key, value in flmm.items() if key not in groundlmm}
    shared = {key: value for key, value in flmm.items() if key in groundlmm}
    assert shared == groundlmm | {"val-2-1": ("lawns on the right", ("things", "plurals"), None)}
    assert {key[:6] for key in replaced} == {"val-1-"} and flmm == by_id(replace(config, reading=PngReading.flmm))
    drawn = [{k.split("-")[2]: v for k, v in shared.items() if k.startswith(f"val-{n}-")} for n in (0, 2)]
    assert {key.split("-")[2]: value for key, value in replaced.items()} in drawn


def test_a_phrase_with_its_caption(config: DatasetConfig) -> None:
    groups = read(replace(config, asked=Asked.in_text))
    asked = [(str(s.asked), s.sentence.parts[1]) for group in groups for s in group.samples if s.sentence]
    whole, other = "Two men and a child on the grass.", "We see lawns on the right, and it."
    assert asked == [(whole, "Two men"), (whole, "a child"), (whole, "the grass"), (other, "lawns on the right")]
    assert groups == read(replace(config, asked=Asked.in_text)) != read(config)  # also from the table
    assert len({PngDataSet(replace(config, **how), Path(config.folder)).digest for how in (
        {}, {"asked": Asked.in_text}, {"reading": PngReading.flmm}, {"phrases": Phrases.nouns})}) == 4  # fmt: skip


def test_the_last_noun_of_a_phrase(config: DatasetConfig) -> None:
    pytest.importorskip("textblob", reason="textblob is not installed: make install EXTRAS=nouns")
    found = by_id(replace(config, phrases=Phrases.nouns))
    # "right" is a noun to the tagger, but names no object.
    assert [text for text, _, _ in found.values()] == ["men", "child", "grass", "lawns"]
    (first, _) = read(replace(config, phrases=Phrases.nouns, asked=Asked.in_text))
    assert [s.sentence.parts for s in first.samples if s.sentence][1] == ("Two men and a ", "child", " on the grass.")
    plain = Excerpt.within("We see ", "it", " there (outside).")
    assert last_noun(plain).parts == plain.parts  # no noun: the whole phrase


def test_without_textblob_it_is_one_sentence(config: DatasetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "textblob.en", None)
    with pytest.raises(ConfigError, match=r"^dataset.phrases=nouns needs textblob, .* make install EXTRAS=nouns"):
        last_noun(Excerpt.within("A text of ", "this test", "."))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda n, p: n[0].update(image_id="141"), "narrative 0 of {} is about image 141, which"),
        (lambda n, p: n[0].update(image_id="x"), "has an id that is no whole number ('x')"),
        (
            lambda n, p: n[0]["segments"][2].update(segment_ids=["9"]),
            "narrative 0 of {} names segment 9, which its image",
        ),
        (lambda n, p: n[0]["segments"][2].update(utterance=3), "has 'utterance' of type int where text is needed"),
        (lambda n, p: p["annotations"][0]["segments_info"][0].update(area=1), "of another area in the id image"),
        (lambda n, p: p["images"][0].update(width=61), "has another size than its image"),
    ],
)
def test_damage_is_one_sentence(config: DatasetConfig, change: Any, sentence: str) -> None:
    folder = Path(config.folder) / "annotations"
    paths = [folder / "png_coco_val2017.json", folder / "panoptic_val2017.json"]
    narratives, panoptic = (json.loads(path.read_text()) for path in paths)
    change(narratives, panoptic)
    for path, content in zip(paths, (narratives, panoptic), strict=True):
        path.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        read(config)
    assert sentence.format(paths[0]) in str(error.value) and "\n" not in str(error.value)
    tally = Tally(counting=True)
    PngDataSet(config, folder / "cache").read("val", tally)
    assert tally.rejected == 1


def test_a_missing_split_says_what_is_expected(config: DatasetConfig) -> None:
    reader = PngDataSet(config, Path(config.folder) / "cache")
    assert reader.splits() == ["val"]
    with pytest.raises(DataError, match=r"png_coco_train2017.json is not there, but Panoptic Narrative Grounding is a"):
        reader.read("train")
    shutil.rmtree(Path(config.folder) / "annotations" / "panoptic_segmentation")
    with pytest.raises(DataError, match=r"000000000139.png of image 000000000139 is not there"):
        reader.read("val")
