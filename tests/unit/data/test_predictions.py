"""Files of predictions: every convention means the same box, and what is no prediction is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from own_files import ragged_mask, rle
from pycocotools import mask as coco
from refer_files import runs

from locheads.data.boxes import to_xyxy
from locheads.data.choices import BoxFormat, PredictionsConfig
from locheads.data.predictions import Answer, read_predictions
from locheads.errors import ConfigError, DataError, LocHeadsError

SIZES = {"1": (40, 30), "2": (80, 30), "x": (40, 30)}
BOX = (8.0, 3.0, 24.0, 18.0)
"""On the picture of 40 x 30 pixels."""
WRITTEN = {
    BoxFormat.xyxy: [8, 3, 24, 18],
    BoxFormat.xywh: [8, 3, 16, 15],
    BoxFormat.xyxy_relative: [0.2, 0.1, 0.6, 0.6],
    BoxFormat.xywh_relative: [0.2, 0.1, 0.4, 0.5],
    BoxFormat.xyxy_1000: [200, 100, 600, 600],
    BoxFormat.xywh_1000: [200, 100, 400, 500],
}
XYXY = PredictionsConfig(box_format=BoxFormat.xyxy)


def read(path: Path, form: PredictionsConfig = XYXY) -> list[Answer]:
    return list(read_predictions(path, form, SIZES, "the split val of mine"))


def jsonl(folder: Path, *lines: str | dict) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "p.jsonl").write_bytes("\n".join(texts).encode(errors="surrogateescape"))
    return folder / "p.jsonl"


def csv(folder: Path, text: str) -> Path:
    (folder / "p.csv").write_text(text)
    return folder / "p.csv"


def test_every_format_is_in_the_table() -> None:
    assert set(WRITTEN) == set(BoxFormat)


@pytest.mark.parametrize("form", WRITTEN)
def test_every_format_means_the_same_box(form: BoxFormat, tmp_path: Path) -> None:
    (answer,) = read(jsonl(tmp_path, {"id": 1, "box": WRITTEN[form]}), PredictionsConfig(box_format=form))
    assert answer.sample_id == "1"
    assert answer.box == pytest.approx(BOX, abs=1e-9)
    assert to_xyxy(WRITTEN[form], form, 40, 30, "it") == pytest.approx(BOX, abs=1e-9)  # the data sets' own reader
    # The negative control: read in any other way it is another box, or none.
    for other in set(BoxFormat) - {form}:
        (wrong,) = read(jsonl(tmp_path, {"id": 1, "box": WRITTEN[form]}), PredictionsConfig(box_format=other))
        assert wrong.box != pytest.approx(BOX, abs=1e-3)


def test_shares_are_of_the_samples_own_picture(tmp_path: Path) -> None:
    line = {"id": "2", "box": [0.5, 0.5, 1, 1]}
    (answer,) = read(jsonl(tmp_path, line), PredictionsConfig(box_format=BoxFormat.xyxy_relative))
    assert answer.box == (40, 15, 80, 30)


def test_a_box_alone_stands_for_its_mask(tmp_path: Path) -> None:
    (answer,) = read(jsonl(tmp_path, {"id": 1, "box": [8.5, 3, 24.2, 99]}))
    expected = np.zeros((30, 40), dtype=np.uint8)
    expected[3:30, 8:25] = 1
    assert answer.mask is not None
    np.testing.assert_array_equal(coco.decode(answer.mask), expected)
    assert answer.box == (8.5, 3, 24.2, 99)  # as it was answered


@pytest.mark.parametrize("kind", ["compressed", "runs", "polygons"])
def test_a_mask_alone_has_its_tight_box(kind: str, tmp_path: Path) -> None:
    mask = ragged_mask(4)
    if kind == "polygons":
        mask[:] = False
        mask[3:18, 8:24] = True
    written = {
        "compressed": rle(mask),
        "runs": {"size": [30, 40], "counts": runs(mask)},
        "polygons": [[8, 3, 24, 3, 24, 18, 8, 18]],
    }[kind]
    (answer,) = read(jsonl(tmp_path, {"id": 1, "mask": written}), PredictionsConfig())
    assert answer.mask is not None
    np.testing.assert_array_equal(coco.decode(answer.mask).astype(bool), mask)
    rows, cols = np.nonzero(mask)
    assert answer.box == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)


def test_box_and_mask_are_kept_apart(tmp_path: Path) -> None:
    both = {"id": 1, "box": list(BOX), "mask": rle(ragged_mask(1))}
    lines = [both, both | {"id": 2, "box": None, "mask": None}, both | {"id": "x", "mask": None}]
    first, second, third = read(jsonl(tmp_path, *lines))
    assert first.box == BOX and first.mask == rle(ragged_mask(1))
    assert (second.box, second.mask) == (None, None)
    assert (third.box, third.mask) == (BOX, None)  # a model of both that gave no mask: a box does not stand for it


@pytest.mark.parametrize(
    "line",
    [
        {"id": 1, "box": None}, {"id": 1, "box": [8, 3, 8, 18]}, {"id": 1, "box": [24, 3, 8, 18]},
        {"id": 1, "box": [0, 0, 0, 0]}, {"id": 1, "mask": None}, {"id": 1, "mask": []},
        {"id": 1, "mask": {"size": [30, 40], "counts": [1200]}},
    ],
)  # fmt: skip
def test_what_answers_nothing_is_no_error(line: dict, tmp_path: Path) -> None:
    assert read(jsonl(tmp_path, line)) == [Answer("1", None, None)]


def test_csv_reads_as_jsonl(tmp_path: Path) -> None:
    mask = json.dumps(rle(ragged_mask(2)))
    quoted = mask.replace('"', '""')
    expected = read(jsonl(tmp_path, {"id": 1, "box": list(BOX), "mask": json.loads(mask)}, {"id": "x", "box": None,
                                                                                         "mask": None}))  # fmt: skip
    text = f'id,box,mask\n1,"[8, 3, 24, 18]","{quoted}"\nx,,\n'
    assert read(csv(tmp_path, text)) == expected
    four = PredictionsConfig(box_format=BoxFormat.xyxy, id="sample", box="x0,y0,x1,y1")
    text = f'\ufeffx0,y0,x1,y1,sample,mask\r\n8,3,24,18.0,1,"{quoted}"\r\n,,,,x,\r\n'
    assert read(csv(tmp_path, text), four) == expected


GOOD = '{"id": 1, "box": [8, 3, 24, 18]}'
LINES: dict[str, tuple[str, str]] = {
    "cut": (GOOD[:-3], "is not complete JSON"),
    "a list": ("[1]", "is not a mapping but list"),
    "not UTF-8": (GOOD.replace("id", "i\udcff"), "is not complete JSON"),
    "nested without end": ("[" * 10**5, "is not complete JSON"),
    "no id": ('{"box": [8, 3, 24, 18]}', "no text or whole number at 'id': set predictions_format.id"),
    "id is a float": (GOOD.replace("1,", "1.0,", 1), "no text or whole number at 'id'"),
    "id is true": (GOOD.replace("1,", "true,", 1), "no text or whole number at 'id'"),
    "unknown id": (GOOD.replace("1,", "77,", 1), "sample '77', which the split val of mine does not hold"),
    "id twice": (GOOD.replace("1,", '"2",', 1), "sample '2', which an earlier line has"),
    "neither box nor mask": ('{"id": 1, "bbox": [1, 2, 3, 4]}', "has neither 'box' nor 'mask': set predictions_format"),
    "only a mask": ('{"id": 1, "mask": null}', "has mask, but the lines before have box: give every line the same"),
    "a mask besides": (GOOD.replace("}", ', "mask": null}'), "has box and mask, but the lines before have box"),
    "three numbers": (GOOD.replace(", 18", ""), "is not four finite numbers"),
    "text": (GOOD.replace("18", '"18"'), "is not four finite numbers"),
    "a mapping": (GOOD.replace("[8, 3, 24, 18]", '{"x": 1}'), "is not four finite numbers"),
    "NaN": (GOOD.replace("18", "NaN"), "is not four finite numbers"),
    "infinity": (GOOD.replace("18", "Infinity"), "is not four finite numbers"),
    "huge": (GOOD.replace("18", "9" * 400), "is not four finite numbers"),
}
MASKS: dict[str, tuple[str, str]] = {
    "mask of another size": ('{"id": 1, "mask": {"size": [3, 4], "counts": [12]}}', "run-length code for size [3, 4]"),
    "damaged mask": ('{"id": 1, "mask": {"size": [30, 40], "counts": "0"}}', "damaged run-length code"),
    "mask is a number": ('{"id": 1, "mask": 3}', "has a segmentation of type int"),
    "odd polygon": ('{"id": 1, "mask": [[1, 2, 3, 4, 5, 6, 7]]}', "not a list of x, y pairs"),
}


@pytest.mark.parametrize("case", [*LINES, *MASKS])
def test_what_is_no_prediction_is_named(case: str, tmp_path: Path) -> None:
    line, sentence = (LINES | MASKS)[case]
    first = '{"id": 2, "mask": null}' if case in MASKS else GOOD.replace("1,", "2,", 1)
    with pytest.raises(DataError, match=r"\.$") as caught:
        read(jsonl(tmp_path, first, line))
    assert f"{tmp_path / 'p.jsonl'}, line 2 " in str(caught.value)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,box\n1\n", "line 2 has not as many cells as the first line has names"),
        ("id,box\n1,2,3\n", "line 2 has not as many cells as the first line has names"),
        ("id,box\n1,eight\n", "line 2 is not complete JSON"),
        ('id,box\n1,"[8\n', "is no CSV"),
        ("name,box\n1,\n", "no text or whole number at 'id'"),
        ("id,boxes\n1,\n", "has neither 'box' nor 'mask'"),
    ],
)
def test_what_is_no_csv_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.$") as caught:
        read(csv(tmp_path, text))
    assert sentence in str(caught.value)


def test_the_format_is_stated_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not stated: choose predictions_format=FORMAT, one of xywh, xyxy, xywh_rel"):
        read(jsonl(tmp_path, GOOD), PredictionsConfig())


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_file_of_another_kind_or_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(LocHeadsError, match=r"neither \*\.jsonl nor \*\.csv|cannot be read"):
        read(tmp_path / name)
