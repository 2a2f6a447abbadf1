"""Copies of the hub, as parquet files with the columns that conf/dataset declares."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from own_files import HEIGHT, WIDTH, decoded, ragged_mask, rle, samples_of
from PIL import Image
from refer_files import block_mask

from locheads.data.config import DatasetConfig
from locheads.data.hub import HubDataSet, check_columns
from locheads.data.image_files import open_image
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError

CONF = Path(__file__).parents[3] / "conf" / "dataset"
XYWH, XYXY = [3.25, 4.5, 16.875, 20.5], (3.25, 4.5, 20.125, 25.0)
SQUARE = [5.0, 6.0, 15.0, 6.0, 15.0, 16.0, 5.0, 16.0]
INFO = {"file_name": "COCO_train2014_000000000009.jpg", "width": WIDTH, "height": HEIGHT}


def _jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def _image(name: str = "9.jpg") -> dict[str, Any]:
    return {"bytes": _jpeg(), "path": name}


def _sentences() -> list[dict[str, Any]]:
    return [
        {"raw": "A", "sent": "a", "sent_id": 1, "tokens": ["a"]},
        {"raw": "B", "sent": "b", "sent_id": 2, "tokens": []},
    ]


def _jxu124() -> list[dict[str, Any]]:
    annotation = {"bbox": XYWH, "segmentation": rle(ragged_mask(3)), "iscrowd": 1}
    return [
        {
            "ref_id": 77,
            "sentences": _sentences(),
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "raw_anns": json.dumps(annotation),
            "raw_image_info": json.dumps(INFO),
        }
    ]


def _benchmark() -> list[dict[str, Any]]:
    annotation = {"bbox": XYWH, "segmentation": [SQUARE], "iscrowd": 0}
    ref = {"ann_info": annotation, "ref_info": {"ref_id": 77, "sentences": _sentences()}}
    return [{"ref_list": [ref], "image_info": INFO, "image": _image()}]


def _lmms() -> list[dict[str, Any]]:
    row = {
        "question_id": "1",
        "image": _image(),
        "answer": ["a", "b"],
        "segmentation": SQUARE,
        "bbox": XYWH,
        "iscrowd": 0,
    }
    return [row | {"file_name": "COCO_train2014_000000000009_12.jpg"}]


def _refcoco_m() -> list[dict[str, Any]]:
    each = {"id": 77, "category": "dog", "sentences": ["a", "b"], "bbox": XYWH, "mask": rle(ragged_mask(3))}
    return [{"image": _image(), "image_id": 9, "file_name": INFO["file_name"], "samples": [each]}]


def _ref_l4() -> list[dict[str, Any]]:
    row = {"id": 1, "caption": "a", "bbox": XYWH, "ori_category_id": "o365_64", "image_id": "o365_9"}
    return [row | INFO | {"file_name": "objects365_v2_00922765.jpg"}]


def _ref_adv() -> list[dict[str, Any]]:
    row = {"image": _image(), "file_name": "000000000009.jpg", "normal_caption": "a", "solution": list(XYXY)}
    more = {"width": WIDTH, "height": HEIGHT, "image_source": "coco_val2017", "human_authored": True}
    return [row | more | {"use_negation": True, "distractors": 5}]


NOISE, BLOCK = ragged_mask(3), block_mask(HEIGHT, WIDTH, (5, 6, 15, 16))
# What the box touches: (3.25, 4.5, 20.125, 25) in whole pixels.
TOUCHED = block_mask(HEIGHT, WIDTH, (3, 4, 21, 25))
FILE = "val-00000-of-00001.parquet"
COPIES: dict[str, tuple[Callable[[], list[dict]], str, np.ndarray, str, list[str]]] = {
    "refcoco_jxu124": (_jxu124, "validation-00000-of-00001-7b2c.parquet", NOISE, "9", ["1", "2"]),
    "refcoco+_jxu124": (_jxu124, "validation-00000-of-00001.parquet", NOISE, "9", ["1", "2"]),
    "refcocog_jxu124": (_jxu124, "validation.parquet", NOISE, "9", ["1", "2"]),
    "refcoco_benchmark": (_benchmark, "refcoco_unc_val-00000-of-00001.parquet", BLOCK, "9", ["1", "2"]),
    "refcoco+_benchmark": (_benchmark, "refcoco_plus_unc_val-00000-of-00001.parquet", BLOCK, "9", ["1", "2"]),
    "refcocog_benchmark": (_benchmark, "refcocog_umd_val-00000-of-00001.parquet", BLOCK, "9", ["1", "2"]),
    "refcoco_lmms": (_lmms, "val-00000-of-00001.parquet", BLOCK, "9", ["val-0-0", "val-0-1"]),
    "refcoco+_lmms": (_lmms, "val-00000-of-00001.parquet", BLOCK, "9", ["val-0-0", "val-0-1"]),
    "refcocog_lmms": (_lmms, "val-00000-of-00001.parquet", BLOCK, "9", ["val-0-0", "val-0-1"]),
    "refcoco_m": (_refcoco_m, "validation-00000-of-00001.parquet", NOISE, "9", ["77-0", "77-1"]),
    "ref_l4": (_ref_l4, "ref-l4-val.parquet", TOUCHED, "objects365_v2_00922765.jpg", ["1-0"]),
    "ref_adv_s": (_ref_adv, FILE, TOUCHED, "9", ["0"]),
}


def _declared(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    (base,) = content.pop("defaults", [None])
    return {**(_declared(base) if base else {}), **content}


def _open(name: str, root: Path, rows: list[dict] | None = None, file: str = "") -> HubDataSet:
    declared = _declared(name)
    if rows is not None:
        (root / "copy" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), root / "copy" / "data" / file)
    return HubDataSet(
        DatasetConfig(
            folder=str(root / "copy") if rows is not None else "",
            images=str(root / "images"),
            **{key: declared[key] for key in ("hub", "columns", "split_names", "box_format", "notes")},
        ),
        root / "cache",
    )


def test_every_copy_that_is_declared_is_tested() -> None:
    declared = {path.stem for path in CONF.glob("*.yaml") if _declared(path.stem)["reader"] == "hub"}
    assert declared == set(COPIES)


@pytest.mark.parametrize("name", COPIES)
def test_round_trip(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, file, mask, image_id, ids = COPIES[name]
    data = _open(name, tmp_path, make(), file)
    (group,) = data.read("val")
    assert (group.image_id, group.width, group.height) == (image_id, WIDTH, HEIGHT)
    assert [s.sample_id for s in group.samples] == ids
    assert [s.expression for s in group.samples] == ["a", "b"][: len(ids)]
    for sample in group.samples:
        assert sample.box == XYXY
        np.testing.assert_array_equal(decoded(sample), mask)
    for note in _declared(name)["notes"]:
        assert note in caplog.text
        assert f"{_declared(name)['hub']}: {note}" in data.notes


@pytest.mark.parametrize("name", ["refcoco_benchmark", "refcoco_lmms", "refcoco_m"])
def test_images_of_the_table_are_kept_as_they_are(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, file, *_ = COPIES[name]
    (group,) = _open(name, tmp_path, make(), file).read("val")
    assert group.path.name == "COCO_train2014_000000000009.jpg"
    assert group.path.read_bytes() == _jpeg()
    assert open_image(group).size == (WIDTH, HEIGHT)
    written = group.path.stat().st_mtime_ns
    _open(name, tmp_path, make(), file).read("val")
    assert group.path.stat().st_mtime_ns == written
    for damaged in (b"half", _jpeg()[:-50] + bytes(50)):
        group.path.write_bytes(damaged)
        caplog.clear()
        _open(name, tmp_path, make(), file).read("val")
        assert group.path.read_bytes() == _jpeg()
        assert f"{group.path} is damaged" in caplog.text


def test_a_damaged_table_of_datasets_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, file, *_ = COPIES["refcoco_m"]
    data = _open("refcoco_m", tmp_path, make(), file)
    first = data.read("val")
    (table,) = (tmp_path / "cache" / "datasets").rglob("*.arrow")
    whole = table.read_bytes()
    at = whole.index(b"dog")
    table.write_bytes(whole[:at] + b"cat" + whole[at + 3 :])
    assert data.read("val") == first
    assert f"The table that is kept in {table.parent} is damaged and is made again" in caplog.text
    caplog.clear()
    assert data.read("val") == first
    assert "damaged" not in caplog.text


def test_another_image_of_the_same_name_and_size_is_another_file(tmp_path: Path) -> None:
    contents = []
    for colour in ("red", "tan"):
        stream = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT), colour).save(stream, "BMP")
        contents.append(stream.getvalue())
    groups = []
    for content in contents:
        rows = _refcoco_m()
        rows[0]["image"]["bytes"] = content
        groups += _open("refcoco_m", tmp_path, rows, "validation.parquet").read("val")
    assert len(contents[0]) == len(contents[1])
    assert [group.path.read_bytes() for group in groups] == contents
    rows = [_refcoco_m()[0] | {"image": {"bytes": content, "path": "x"}} for content in contents]
    rows[1]["samples"][0]["id"] = 78
    with pytest.raises(DataError, match="moondream/refcoco-m val has two images of the id 9, "):
        _open("refcoco_m", tmp_path, rows, "validation.parquet").read("val")


def test_crowds_and_missing_masks_are_counted(tmp_path: Path) -> None:
    tally = Tally(counting=True)
    _open("refcoco_jxu124", tmp_path / "a", _jxu124(), "validation.parquet").read("val", tally)
    assert tally.seen["crowd"] == 1
    data = _open("ref_l4", tmp_path / "b", _ref_l4(), "ref-l4-val.parquet")
    data.read("val", tally)
    assert tally.seen["no mask"] == 1
    assert any(note.startswith("1 samples have no mask: their box stands for it") for note in data.notes)


def test_other_splits_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    _open("refcoco_benchmark", tmp_path, [], "refcocog_umd_val-00000-of-00001.parquet")
    data = _open("refcoco_benchmark", tmp_path, _benchmark(), "refcoco_unc_val-00000-of-00001.parquet")
    assert len(samples_of(data.read("val"))) == 2
    with pytest.raises(DataError, match=r"copy holds no parquet files of the split 'refcoco_unc_testA' of jxu124"):
        data.read("testA")


def test_the_digest_tells_content(tmp_path: Path) -> None:
    digests = set()
    for number, box in enumerate((XYWH, XYWH, [1.0, 2.0, 3.0, 4.0])):
        rows = _ref_l4()
        rows[0]["bbox"] = box
        data = _open("ref_l4", tmp_path / str(number), rows, "ref-l4-val.parquet")
        data.read("val")
        digests.add(data.digest)
    assert len(digests) == 2


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'validation' of moondream/refcoco-m cannot be had from the hub .*dataset\.folder"
    ):
        _open("refcoco_m", tmp_path).read("val")


WRONG: dict[str, tuple[Callable[[dict], object], str]] = {
    "no such column": (lambda row: row.pop("samples"), "has no 'samples' on the way 'samples', only"),
    "no such field": (lambda row: row["samples"][0].pop("bbox"), "has no 'bbox' on the way 'bbox'"),
    "objects are a number": (lambda row: row.update(samples=5), "has no list of objects at 'samples'"),
    "objects are numbers": (lambda row: row.update(samples=[5]), "has no 'bbox' on the way|has no 'id' on the way"),
    "box of NaN": (lambda row: row["samples"][0].update(bbox=[1.0, 2.0, float("nan"), 4.0]), "has the box"),
    "expression is null": (lambda row: row["samples"][0].update(sentences=["a", None]), "has the expression None"),
    "file name is a number": (lambda row: row.update(file_name=5), "has the file name 5, which is no text"),
    "image is null": (lambda row: row.update(image={"bytes": b"", "path": ""}), "holds no image at 'image'"),
    "image is text": (lambda row: row.update(image={"bytes": b"404", "path": ""}), "an image that cannot be read"),
    "mask of another size": (
        lambda row: row["samples"][0]["mask"].update(size=[3, 4]),
        r"run-length code for size \[3, 4\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rows_are_named_or_counted(tmp_path: Path, case: str) -> None:
    change, text = WRONG[case]
    rows = _refcoco_m()
    change(rows[0])
    data = _open("refcoco_m", tmp_path, rows, "validation.parquet")
    with pytest.raises(DataError, match=f"row 0 of moondream/refcoco-m val.*{text}|{text}"):
        data.read("val")
    tally = Tally(counting=True)
    assert data.read("val", tally) == []
    assert tally.rejected == 1


@pytest.mark.parametrize(
    ("written", "count"), [(5, 5), (None, None), ([1, 2, 3], 3), ("[4, 7]", 2), ("6", 6), ("1; 4; 7", 3), ("", 0)]
)
def test_distractors_are_a_number_or_things_to_count(tmp_path: Path, written: Any, count: int | None) -> None:
    (sample,) = samples_of(_open("ref_adv_s", tmp_path, [_ref_adv()[0] | {"distractors": written}], FILE).read("val"))
    assert (sample.distractors, sample.negation) == (count, True)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("distractors", 1.5, "the distractors 1.5, neither a number nor a list"),
        ("distractors", -1, "the distractors -1, neither"),
        ("distractors", '{"a": 1}', "the distractors {'a': 1}, neither"),
        ("use_negation", "False", "the negation 'False', which is neither true nor false"),
    ],
)
def test_what_a_flag_or_a_count_cannot_be(tmp_path: Path, column: str, value: Any, text: str) -> None:
    data = _open("ref_adv_s", tmp_path, [_ref_adv()[0] | {column: value}], FILE)
    with pytest.raises(DataError, match=f"row 0 of dddraxxx/ref-adv-s val has {text}"):
        data.read("val")


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    data = _open("ref_l4", tmp_path, _ref_l4(), "ref-l4-val.parquet")
    (tmp_path / "copy" / "data" / "ref-l4-val.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(
        DataError, match=r"parquet files of JierunChen/Ref-L4 in .* cannot be read .*download them again"
    ):
        data.read("val")


def test_text_that_is_no_json_is_named(tmp_path: Path) -> None:
    rows = _jxu124()
    rows[0]["raw_anns"] = "{"
    with pytest.raises(DataError, match=r"row 0 .* holds text on the way 'raw_anns\.bbox' that is not JSON"):
        _open("refcoco_jxu124", tmp_path, rows, "validation.parquet").read("val")


def test_columns_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.columns\.boxes means nothing: there are objects, "):
        check_columns({"boxes": "bbox"})
    with pytest.raises(ConfigError, match=r"dataset\.columns\.box is not declared: name the column that holds four"):
        check_columns({"file_name": "a", "expressions": "b"})
