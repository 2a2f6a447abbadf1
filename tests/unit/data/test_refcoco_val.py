"""The whole of RefCOCO val's text and boxes, as REFER files, through the real reader."""

import json
import pickle
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from refer_files import read_refer, refer

from locheads.data.checks import CheckState, check_samples, official_counts
from locheads.data.config import DatasetConfig
from locheads.data.refer import ReferDataSet
from locheads.data.tally import Tally
from locheads.errors import DataError

SOURCE = Path(__file__).parents[4] / "shared" / "data" / "refcoco_unc_val.json"


@pytest.fixture(scope="module")
def refcoco_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `refcoco`; the source holds no masks, so the boxes stand for them."""
    if not SOURCE.is_file():
        pytest.skip(f"{SOURCE} is not there: the shared test data is needed")
    refs, images, annotations = [], {}, []
    sent_id = 0
    for record in json.loads(SOURCE.read_text()):
        sentences = []
        for text in record["sentences"]:
            sentences.append({"sent_id": sent_id, "sent": text, "raw": text, "tokens": text.split()})
            sent_id += 1
        image_id, ref_id = record["image_id"], record["ref_id"]
        file_name = f"COCO_train2014_{image_id:012d}.jpg"
        size = {"width": record["width"], "height": record["height"]}
        images[image_id] = {"id": image_id, "file_name": file_name, **size}
        x, y, w, h = record["bbox"]
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        ids = {"image_id": image_id, "category_id": 1}
        annotations.append({"id": ref_id, "bbox": record["bbox"], "segmentation": [polygon], **ids})
        refs.append({"ref_id": ref_id, "ann_id": ref_id, "split": "val", "sentences": sentences, **ids})
    folder = tmp_path_factory.mktemp("data") / "refcoco"
    folder.mkdir()
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    categories = [{"id": 1, "name": "thing"}]
    content = {"images": list(images.values()), "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def test_counts_are_the_published_ones(refcoco_val: Path) -> None:
    groups = read_refer(refcoco_val, refcoco_val, "val")
    samples = [sample for group in groups for sample in group.samples]
    assert len(groups) == 1500
    assert len({sample.ref_id for sample in samples}) == 3811
    assert len(samples) == len({sample.sample_id for sample in samples}) == 10834
    first = {sample.ref_id: sample for sample in samples}["77"]
    assert first.box == pytest.approx((468.3, 0.91, 640, 117.03))


def test_the_table_holds_the_same(refcoco_val: Path, tmp_path: Path) -> None:
    direct = read_refer(refcoco_val, refcoco_val, "val")
    data = refer(refcoco_val, refcoco_val, tmp_path)
    assert data.read("val") == direct
    assert len(list(tmp_path.rglob("val.parquet"))) == 1
    assert data.read("val") == direct


def test_the_checks_know_it(refcoco_val: Path) -> None:
    tally = Tally(counting=True)
    groups = read_refer(refcoco_val, refcoco_val, "val", tally)
    official = official_counts("refcoco/unc")["val"]
    verdicts = {
        v.question: v for v in check_samples("val", groups, tally, official, open_images=False, folders=[refcoco_val])
    }
    assert verdicts["counts"].text == "3,811 refs, 1,500 images, 10,834 expressions, as published"
    # The images are not part of the shared data.
    assert {question for question, v in verdicts.items() if v.state is CheckState.fail} == {"images"}


def test_a_review_of_all_captions_is_joined(refcoco_val: Path, tmp_path: Path) -> None:
    """Objects in any order, as the join is by ids; expected flags are counted off the source, without the reader."""
    records = json.loads(SOURCE.read_text())
    images, annotations = [], []
    expected: dict[str, list[bool]] = defaultdict(list)
    for i in np.random.default_rng(0).permutation(len(records)):
        record = records[i]
        for number, text in enumerate(record["sentences"]):
            quality = int(crc32(f"{record['ref_id']} {number}".encode()) % 7 > 0)
            images.append({"id": len(images), "original_id": record["image_id"], "caption": text})
            about = {"image_id": len(annotations), "original_id": record["ref_id"], "bbox": record["bbox"]}
            annotations.append(about | {"caption_quality": quality})
            expected[str(record["ref_id"])].append(quality == 0)
    path = tmp_path / "refcoco_val_reviewed.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    config = DatasetConfig(
        folder=str(refcoco_val), images=str(refcoco_val), review=f"{tmp_path}/refcoco_{{split}}_reviewed.json"
    )
    samples = [s for group in ReferDataSet(config, tmp_path).read("val") for s in group.samples]
    found: dict[str, list[bool | None]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: int(sample.sample_id)):
        found[sample.ref_id].append(sample.faulty)
    assert found == expected and len(samples) == 10_834
    assert 1_300 < sum(map(sum, expected.values())) < 1_800  # so that flags at the wrong place would show
    images[77]["caption"] += "?"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    tally = Tally(counting=True)
    assert sum(len(group.samples) for group in ReferDataSet(config, tmp_path).read("val", tally)) == 10_834
    assert tally.rejected == 1 and repr(images[77]["caption"])[:-2] in tally.examples[0]
    with pytest.raises(DataError, match="take both files from the same release"):
        ReferDataSet(config, tmp_path).read("val")
