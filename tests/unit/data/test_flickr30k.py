"""Flickr30k Entities in files of the published form: phrases, boxes of VOC, types, both readings of several boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from locheads.data.checks import CheckState, check_samples, official_counts
from locheads.data.config import Asked, BoxReading, DatasetConfig
from locheads.data.flickr30k import FlickrDataSet, phrases
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import PREDICTIONS
from locheads.evaluation.phrase_metrics import best_box_iou
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup, Sample

SENTENCES = (
    "[/EN#1/people Two men] in [/EN#2/clothing red hats] ride on [/EN#3/scene a street] .",
    "[/EN#1/people/other Some people] wait , and [/EN#0/notvisual it] rains on [/EN#4/other the  bus] .",
)
XML = """<annotation><filename>{0}.jpg</filename><size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>40</ymax></bndbox></object>
<object><name>1</name><name>2</name><bndbox><xmin>61</xmin><ymin>11</ymin><xmax>100</xmax><ymax>80</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>4</name><scene>0</scene><nobndbox>1</nobndbox></object></annotation>"""


@pytest.fixture
def config(tmp_path: Path) -> DatasetConfig:
    """Two images in val, the second of which has no box; one in train."""
    for folder in ("Sentences", "Annotations", "images"):
        (tmp_path / folder).mkdir()
    for name in ("11", "12", "13"):
        text = SENTENCES if name != "12" else ("[/EN#3/scene A street] .",)
        (tmp_path / "Sentences" / f"{name}.txt").write_text("\n".join(text) + "\n")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(XML.format(name))
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "val.txt").write_text("11\n12\n")
    (tmp_path / "train.txt").write_text("13\n")
    return DatasetConfig(reader="flickr30k", folder=str(tmp_path), images=str(tmp_path / "images"))


def read(config: DatasetConfig) -> list[ImageGroup]:
    return FlickrDataSet(config, Path(config.folder) / "cache").read("val")


def test_phrases_of_a_caption_and_the_boxes_of_their_entities(config: DatasetConfig) -> None:
    (group,) = read(config)
    assert (group.image_id, group.width, group.height) == ("11.jpg", 100, 80)
    assert group.path.is_file()
    found = {s.sample_id: (s.ref_id, s.expression, s.kinds, s.alternatives) for s in group.samples}
    left, right = (0.0, 0.0, 20.0, 40.0), (60.0, 10.0, 100.0, 80.0)
    assert found == {
        "11-0-0": ("11-1", "Two men", ("people",), (left, right)),
        "11-0-1": ("11-2", "red hats", ("clothing",), (right,)),
        "11-1-0": ("11-1", "Some people", ("people", "other"), (left, right)),
    }
    first = group.samples[0]
    assert first.box == (0.0, 0.0, 100.0, 80.0) and first.sentence is None and first.boxes is None
    mask = np.zeros((80, 100), bool)
    mask[:40, :20] = mask[10:, 60:] = True
    np.testing.assert_array_equal(coco.decode(first.mask), mask)


def test_what_is_read_again_from_the_table_is_the_same(config: DatasetConfig) -> None:
    for asked in Asked:
        own = replace(config, asked=asked)
        assert read(own) == read(own)
        assert read(own) == FlickrDataSet(own, Path(config.folder)).read("val", Tally(counting=True))


def test_a_phrase_with_its_caption(config: DatasetConfig) -> None:
    alone, (group,) = read(config)[0], read(replace(config, asked=Asked.in_text))
    assert [s.asked for s in alone.samples] == [s.expression for s in group.samples]
    texts = [(str(s.asked), s.asked[slice(*s.sentence.part)]) for s in group.samples if s.sentence]
    assert texts == [
        ("Two men in red hats ride on a street .", "Two men"),
        ("Two men in red hats ride on a street .", "red hats"),
        ("Some people wait , and it rains on the bus .", "Some people"),
    ]
    # The same ids with other questions are other attention maps.
    digests = {FlickrDataSet(replace(config, **how), Path(config.folder)).digest for how in (
        {}, {"asked": Asked.in_text}, {"boxes": BoxReading.merged})}  # fmt: skip
    assert len(digests) == 3


def test_any_box_and_merged_box(config: DatasetConfig) -> None:
    """Of two men the right one alone is found: right by any box, wrong by the merged one."""
    values = {}
    for reading in BoxReading:
        groups = read(replace(config, boxes=reading))
        scores = Truth(groups).score(predictions(groups, {"11-0-0": (61, 11, 100, 80), "11-0-1": (60, 10, 100, 80)}))
        own = summarise(scores, EvaluationConfig())[PREDICTIONS]
        assert (own["phrase_r@1"]["value"] == own["rec_acc@0.5"]["value"]) == (reading == BoxReading.merged)
        slices = {s["slice"]: s["metrics"]["phrase_r@1"]["value"] for s in summarise_slices(
            scores, PREDICTIONS, EvaluationConfig()) if s["by"] == "kind"}  # fmt: skip
        values[reading] = (own["phrase_r@1"]["value"], slices)
    # "Some people", who are missed, count in both of their types.
    assert values[BoxReading.any] == (pytest.approx(2 / 3), {"people": 0.5, "clothing": 1.0, "other": 0.0})
    assert values[BoxReading.merged] == (pytest.approx(1 / 3), {"people": 0.0, "clothing": 1.0, "other": 0.0})


def predictions(groups: list[ImageGroup], boxes: dict[str, tuple[int, int, int, int]]) -> pd.DataFrame:
    """Boxes by sample id; the others are missed."""

    def row(group: ImageGroup, sample: Sample) -> dict:
        box = boxes.get(sample.sample_id, (None,) * 4)
        corners = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
        return {"method": PREDICTIONS, "draw": 0, "sample_id": sample.sample_id, "image_id": group.image_id,
                "peak_x": None, "peak_y": None, "mask_counts": None, "mask_height": 80, "mask_width": 100,
                "error": None} | corners  # fmt: skip

    return pd.DataFrame([row(group, sample) for group in groups for sample in group.samples])


def test_the_best_box_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    corners = [np.sort(rng.uniform(0, 100, (rng.integers(1, 6), 2, 2)), axis=1).reshape(-1, 4) for _ in range(300)]
    boxes = np.array([own[0] + rng.normal(0, 8, 4) for own in corners])
    boxes[::7] = np.nan
    expected = []
    for (x0, y0, x1, y1), truths in zip(boxes, corners, strict=True):
        best = 0.0
        for a0, b0, a1, b1 in truths:
            shared = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
            areas = max(0.0, x1 - x0) * max(0.0, y1 - y0) + (a1 - a0) * (b1 - b0)
            best = max(best, shared / (areas - shared)) if x0 == x0 else 0.0
        expected.append(best)
    found = best_box_iou(boxes, [[tuple(box) for box in truths] for truths in corners])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    # The merged reading is another figure.
    merged = best_box_iou(boxes, [[(*t[:, :2].min(axis=0), *t[:, 2:].max(axis=0))] for t in corners])
    assert (np.abs(merged - found) > 0.1).sum() > 50


def test_the_check_counts_the_images_of_the_lists(config: DatasetConfig) -> None:
    assert official_counts("flickr30k_entities/published") == {
        "train": (None, 29783, None), "val": (None, 1000, None), "test": (None, 1000, None)}  # fmt: skip
    tally = Tally(counting=True)
    groups = FlickrDataSet(config, Path(config.folder)).read("val", tally)
    verdicts = [check_samples("val", groups, tally, (None, n, None), False, [Path(config.folder)])[0] for n in (2, 3)]
    assert [verdict.state for verdict in verdicts] == [CheckState.ok, CheckState.fail]
    assert verdicts[0].text == "2 refs, 2 images, 3 expressions about 1 of them, as published"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("Annotations/11.xml", "<annotation><size>", "11.xml is not of VOC's form"),
        ("Annotations/11.xml", "<annotation/>", "11.xml is not of VOC's form"),
        ("Sentences/11.txt", "[/EN#1/people A man rides", "line 1 has a broken mark"),
        ("Sentences/11.txt", None, "11.txt cannot be read"),
        ("val.txt", None, "val.txt is not there, but Flickr30k Entities is a folder with train.txt"),
    ],
)
def test_damage_is_one_sentence(config: DatasetConfig, file: str, content: str | None, sentence: str) -> None:
    path = Path(config.folder) / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(DataError) as error:
        read(config)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_marks_inside_words_and_at_the_ends() -> None:
    (phrase,) = phrases("x[/EN#12/bodyparts his hand]", "here")
    assert (phrase.entity, phrase.excerpt, phrase.excerpt.part) == ("12", "xhis hand", (1, 9))
