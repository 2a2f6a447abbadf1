"""Files of predictions: every convention means the same box, and what is no prediction is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from own_files import ragged_mask, rle
from pycocotools import mask as coco
from refer_files import runs

from locheads.data.box_text import frame_in
from locheads.data.config import BoxFormat, Frame, PointFormat, PredictionsConfig
from locheads.data.coordinate_frames import BoxFault, smart_size, to_xyxy
from locheads.data.prediction_files import Answer, frame_of, read_predictions
from locheads.errors import ConfigError, DataError, LocHeadsError
from locheads.geometry import Preprocess, square_geometry

SIZES = {"1": (40, 30), "2": (80, 30), "x": (40, 30)}
BOX = (8.0, 3.0, 24.0, 18.0)
"""On the image of 40 x 30 pixels."""
WRITTEN = {
    BoxFormat.xyxy: [8, 3, 24, 18],
    BoxFormat.xywh: [8, 3, 16, 15],
    BoxFormat.xyxy_relative: [0.2, 0.1, 0.6, 0.6],
    BoxFormat.xywh_relative: [0.2, 0.1, 0.4, 0.5],
    BoxFormat.xyxy_1000: [200, 100, 600, 600],
    BoxFormat.xywh_1000: [200, 100, 400, 500],
    BoxFormat.yxyx: [3, 8, 18, 24],
    BoxFormat.yxyx_relative: [0.1, 0.2, 0.6, 0.6],
    BoxFormat.yxyx_1000: [100, 200, 600, 600],
    BoxFormat.xyxy_100: [20, 10, 60, 60],
    BoxFormat.xyxy_999: [199.8, 99.9, 599.4, 599.4],
    BoxFormat.yxyx_1024: [102.4, 204.8, 614.4, 614.4],
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
        assert wrong.box != pytest.approx(BOX, abs=1e-3)  # 999 and 1000 differ by 0.024 pixels here


def test_shares_are_of_the_samples_own_image(tmp_path: Path) -> None:
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


FOUR = PredictionsConfig(box_format=BoxFormat.xyxy, box="x0,y0,x1,y1")
EXCEL = {
    "as it should be": "id,x0,y0,x1,y1\n1,8,3,24,18\nx,,,,\n",
    "semicolons": "id;x0;y0;x1;y1\n1;8;3;24;18\nx;;;;\n",
    "decimal commas": "id;x0;y0;x1;y1\r\n1;8,0;3,0;24,00;18\r\nx;;;;\r\n",
    "tabs": "id\tx0\ty0\tx1\ty1\n1\t8\t3\t24\t18\nx\t\t\t\t\n",
    "sep=": "sep=;\nid;x0;y0;x1;y1\n1;8;3;24;18\nx;;;;\n",
    "pandas": "id,x0,y0,x1,y1\n1.0,8.0,3.0,24.0,18.0\nx,nan,NaN,,None\n",
    "spaces": "id, x0, y0, x1, y1\n 1, 8, 3, 24, 18\n x, , , , \n",
    "blank rows": "id,x0,y0,x1,y1\n\n1,8,3,24,18\n,,,,\n  \nx,,,,\n\n",
    "quoted": '"id","x0","y0","x1","y1"\n"1","8","3","24","18"\n"x","","","",""\n',
    "one column more": "id,x0,y0,x1,y1\n1,8,3,24,18,\nx,,,,,\n",
    "an index": ",id,x0,y0,x1,y1\n0,1,8,3,24,18\n1,x,,,,\n",
}
"""What spreadsheets and pandas write."""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("case", EXCEL)
def test_tables_as_spreadsheets_write_them(case: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(EXCEL[case].encode(encoding))
    first, second = read(tmp_path / "p.csv", FOUR)
    assert (first.sample_id, first.box) == ("1", BOX)
    assert second == Answer("x", None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "1,8,3,,18",
            "line 2, column x1 holds '', which is no finite number: correct the cell, or leave all of them empty",
        ),
        ("1,8,3,nan,18", "line 2, column x1 holds 'nan'"),
        ("1,8,3,inf,18", "line 2, column x1 holds 'inf'"),
        ("1,8,3,2x,18", "line 2, column x1 holds '2x'"),
        ("1,8,0,3,0,24,0,18,0", "line 2 has not as many cells as the first line has names (9, not 5)"),
        ("1,8,3,24,18\n1.0,8,3,24,18", "line 3 is about the sample '1', which line 2 is about, too"),
        ("1e5,8,3,24,18", "is about the sample '1e5', which the split val of mine does not hold"),
    ],
)
def test_a_cell_that_is_no_number_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(csv(tmp_path, f"id,x0,y0,x1,y1\n{text}\n"), FOUR)
    assert sentence in str(caught.value) and str(tmp_path / "p.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,box\n1,\n".encode("utf-16-le"), "holds NUL bytes): save it as UTF-8"),
        ("id,box,who\n1,,Jürgen\n".encode("latin-1"), "is neither UTF-8 nor UTF-16"),
        ('{"id": 1, "box": null}\n'.encode("utf-16")[:-1], "is neither UTF-8 nor UTF-16"),
    ],
)
def test_a_file_in_another_encoding_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / ("p.csv" if b"id,box" in content.replace(b"\0", b"") else "p.jsonl")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"\.$") as caught:
        read(path)
    assert sentence in str(caught.value)


def test_lines_in_utf16_and_ids_that_became_floats(tmp_path: Path) -> None:
    lines = (
        '{"id": 1.0, "box": [8, 3, 24, 18]}\n\n{"id": "2.0", "box": NaN}\n{"id": "x", "box": [NaN, NaN, NaN, NaN]}\n'
    )
    (tmp_path / "p.jsonl").write_bytes(lines.encode("utf-16"))
    answers = read(tmp_path / "p.jsonl")
    assert [(answer.sample_id, answer.box) for answer in answers] == [("1", BOX), ("2", None), ("x", None)]


@pytest.mark.parametrize(
    "written",
    [
        [[8, 3, 24, 18]],
        [[8, 3], [24, 18]],
        "[8, 3, 24, 18]",
        "<think>[0, 0, 40, 30]</think> <answer>(8,3),(24,18)</answer>",
    ],
)
def test_a_box_may_be_corners_or_words(written: object, tmp_path: Path) -> None:
    (answer,) = read(jsonl(tmp_path, {"id": 1, "box": written}))
    assert answer.box == BOX and answer.mask is not None


def test_words_in_a_table(tmp_path: Path) -> None:
    tokens = PredictionsConfig(box_format=BoxFormat.yxyx_1024)
    (answer,) = read(csv(tmp_path, "id;box\n1;<loc0256><loc0000><loc0512><loc1023> cup\n"), tokens)
    assert answer.box == pytest.approx((0, 7.5, 1023 / 1024 * 40, 15))


def test_words_without_a_box_are_a_miss_with_a_reason(tmp_path: Path) -> None:
    lines = ["I see no cup.", "<think>[8, 3, 24, 18]", "[24, 3, 8, 18]", "[8, 3, 24, 9999]"]
    faults = []
    for line in lines:
        (answer,) = read(jsonl(tmp_path, {"id": 1, "box": line}))
        assert answer.box is None and answer.mask is None and answer.written is not None
        faults.append(answer.written.fault)
    assert faults == [BoxFault.no_numbers, BoxFault.unfinished, BoxFault.reversed, BoxFault.outside]


MODELS: dict[str, tuple[str, float]] = {
    "qwen2_vl": ("<|box_start|>(217,350),(492,737)<|box_end|>", 0.5),
    "qwen2_5_vl": ('```json\n[{"bbox_2d": [140, 167, 317, 351], "label": "cup"}]\n```', 0.6),  # of 644 x 476
    "qwen3_vl": ('{"bbox_2d": [217, 350, 492, 737], "label": "cup"}', 0.5),
    "internvl": ("<ref>cup</ref><box>[[217, 350, 492, 737]]</box>", 0.5),
    "glm_v": (
        "<think>It is [1, 2, 3, 4].</think><answer><|begin_of_box|>[[217,350,492,737]]<|end_of_box|></answer>",
        0.5,
    ),
    "cogvlm": ("cup [[217,350,492,737]]", 0.5),
    "deepseek_vl2": ("<|ref|>cup<|/ref|><|det|>[[217, 350, 492, 737]]<|/det|>", 0.5),
    "gemini": ('[{"box_2d": [350, 217, 737, 492], "label": "cup"}]', 0.5),
    "paligemma": ("<loc0358><loc0222><loc0755><loc0504> cup", 0.5),
    "florence2": ("cup<loc_217><loc_350><loc_492><loc_737>", 0.5),
    "llava": ("[0.217, 0.388, 0.492, 0.678]", 0.5),  # of 640 x 640, 80 of which lie above the image
}
"""What each writes of the box 139, 168, 315, 354 on an image of 640 x 480; by how many pixels it may be rounded."""
MEMBERS = {path.stem: path for path in (Path(__file__).parents[3] / "conf" / "predictions_format").glob("*.yaml")}


def member(name: str) -> PredictionsConfig:
    settings = OmegaConf.merge(OmegaConf.structured(PredictionsConfig), OmegaConf.load(MEMBERS[name]))
    return OmegaConf.to_object(settings)  # type: ignore[return-value]


@pytest.mark.parametrize("name", MODELS)
def test_the_words_of_todays_models(name: str, tmp_path: Path) -> None:
    text, rounded = MODELS[name]
    path = jsonl(tmp_path, {"id": 1, "box": text})
    (answer,) = read_predictions(path, member(name), {"1": (640, 480)}, "it")
    assert answer.box == pytest.approx((139, 168, 315, 354), abs=rounded)


def test_every_member_is_a_model_of_the_table_or_a_format() -> None:
    assert set(MEMBERS) == {*MODELS, *BoxFormat, "molmo"}
    for name in BoxFormat:
        assert member(name) == PredictionsConfig(box_format=BoxFormat(name))
    docs = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    assert all(f"| `{name}`" in docs for name in MODELS)


MOLMO = PredictionsConfig(point_format=PointFormat.xy_100, box="point")


@pytest.mark.parametrize(
    ("written", "point"),
    [
        ([25, 50.0], (10, 15)), ('<point x="25.0" y="50" alt="cup">cup</point>', (10, 15)), ("(25, 50)", (10, 15)),
        ('<points x1="25" y1="50" x2="1" y2="2" alt="cups">cups</points>', (10, 15)), ("no cup", None), (None, None),
        ([25, 300], None), ('<point x="25" y="300">', None), ("<think>(1, 2)</think> [25, 50]", (10, 15)),
    ],
)  # fmt: skip
def test_points(written: object, point: tuple[float, float] | None, tmp_path: Path) -> None:
    (answer,) = read(jsonl(tmp_path, {"id": 1, "point": written}), MOLMO)
    assert (answer.box, answer.mask) == (None, None)
    assert answer.point == (None if point is None else pytest.approx(point))


def test_points_in_two_columns_and_what_is_none(tmp_path: Path) -> None:
    (answer,) = read(csv(tmp_path, "id;x;y\n1;25,0;50\n"), replace(MOLMO, box="x,y"))
    assert answer.point == (10, 15)
    with pytest.raises(DataError, match=r"has the point \[1, 2, 3, 4\], which is not two finite numbers"):
        read(jsonl(tmp_path, {"id": 1, "point": [1, 2, 3, 4]}), MOLMO)
    with pytest.raises(DataError, match=r"has a mask, but predictions_format\.point_format says"):
        read(jsonl(tmp_path, {"id": 1, "point": [1, 2], "mask": None}), MOLMO)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"side": 0}, "predictions_format.side must be at least 1, not 0."),
        ({"multiple": -28}, "predictions_format.multiple must be at least 1, not -28."),
        ({"min_pixels": 10, "max_pixels": 5}, "min_pixels (10) is above predictions_format.max_pixels (5)"),
        ({"box_format": BoxFormat.xyxy, "point_format": PointFormat.xy}, "are both set"),
        ({"box_format": BoxFormat.yxyx, "frame": Frame.input}, "set predictions_format.multiple (Qwen2.5-VL: 28)"),
        ({"point_format": PointFormat.xy, "frame": Frame.input}, "needs the input's size"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"\.$") as caught:
        PredictionsConfig(**settings)
    assert sentence in str(caught.value)


SQUARE = square_geometry(40, 30, 336, 24, Preprocess.pad)


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        # The image of 40 x 30 lies 5 pixels below the top of its square.
        (PredictionsConfig(box_format=BoxFormat.xyxy_relative, frame=Frame.padded_square), [0.2, 0.2, 0.6, 0.575]),
        (PredictionsConfig(box_format=BoxFormat.xyxy_1000, frame=Frame.padded_square), [200, 200, 600, 575]),
        (PredictionsConfig(box_format=BoxFormat.xyxy, frame=Frame.padded_square), [8, 8, 24, 23]),
        (PredictionsConfig(box_format=BoxFormat.xyxy, frame=Frame.padded_square, side=336), [67.2, 67.2, 201.6, 193.2]),
        (PredictionsConfig(box_format=BoxFormat.xyxy, frame=Frame.input, side=448), [89.6, 44.8, 268.8, 268.8]),
        # 56 x 56 pixels: multiples of 28, grown by the least factor that reaches an area of 1568.
        (PredictionsConfig(box_format=BoxFormat.xyxy, frame=Frame.input, multiple=28, min_pixels=1568),
         [11.2, 5.6, 33.6, 33.6]),
        (PredictionsConfig(box_format=BoxFormat.yxyx_1000, frame=Frame.input, multiple=28), [100, 200, 600, 600]),
    ],
)  # fmt: skip
def test_frames(form: PredictionsConfig, numbers: list[float], tmp_path: Path) -> None:
    (answer,) = read(jsonl(tmp_path, {"id": 1, "box": numbers}), form)
    assert answer.box == pytest.approx(BOX, abs=1e-9)
    (other,) = read(jsonl(tmp_path, {"id": 1, "box": numbers}), replace(form, frame=Frame.image))
    assert other.box != pytest.approx(BOX, abs=0.1) or form.box_format is BoxFormat.yxyx_1000


def test_the_padded_square_is_the_one_of_the_attention_pass() -> None:
    """The same frame from the geometry that the adapters use."""
    own = frame_of(PredictionsConfig(frame=Frame.padded_square, side=336), 40, 30)
    of_model = frame_in(SQUARE, Frame.input, 14)
    for key in ("origin", "extent", "size"):
        assert getattr(own, key) == pytest.approx(getattr(of_model, key), abs=1e-9)


@pytest.mark.parametrize("size", [(640, 480), (427, 640), (33, 20), (3000, 2000), (5000, 4000), (1000, 10), (90, 92)])
@pytest.mark.parametrize(
    ("multiple", "least", "most"), [(28, 3136, 12845056), (28, 200704, 1003520), (32, 65536, 16777216)]
)
def test_the_resized_image_is_the_one_of_the_processor(
    size: tuple[int, int], multiple: int, least: int, most: int
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    width, height = size
    assert smart_size(width, height, multiple, least, most) == smart_resize(height, width, multiple, least, most)[::-1]


GOOD = '{"id": 1, "box": [8, 3, 24, 18]}'
LINES: dict[str, tuple[str, str]] = {
    "cut": (GOOD[:-3], "is not complete JSON"),
    "a list": ("[1]", "is not a mapping but list"),
    "not UTF-8": (GOOD.replace("id", "i\udcff"), "is not complete JSON"),
    "nested without end": ("[" * 10**5, "is not complete JSON"),
    "no id": ('{"box": [8, 3, 24, 18]}', "no text or whole number at 'id': set predictions_format.id"),
    "id is a broken float": (GOOD.replace("1,", "1.5,", 1), "no text or whole number at 'id'"),
    "id is empty": (GOOD.replace("1,", '" ",', 1), "no text or whole number at 'id'"),
    "id is true": (GOOD.replace("1,", "true,", 1), "no text or whole number at 'id'"),
    "unknown id": (GOOD.replace("1,", "77,", 1), "sample '77', which the split val of mine does not hold"),
    "id twice": (GOOD.replace("1,", '"2",', 1), "sample '2', which line 1 is about, too: remove one"),
    "neither box nor mask": ('{"id": 1, "bbox": [1, 2, 3, 4]}', "has neither 'box' nor 'mask': set predictions_format"),
    "only a mask": ('{"id": 1, "mask": null}', "has mask, but the lines before have box: give every line the same"),
    "a mask besides": (GOOD.replace("}", ', "mask": null}'), "has box and mask, but the lines before have box"),
    "three numbers": (GOOD.replace(", 18", ""), "is not four finite numbers"),
    "text": (GOOD.replace("18", '"18"'), "is not four finite numbers"),
    "a mapping": (GOOD.replace("[8, 3, 24, 18]", '{"x": 1}'), "is not four finite numbers"),
    "NaN": (GOOD.replace("18", "NaN"), "is not four finite numbers"),
    "one of two boxes": (GOOD.replace("[8, 3, 24, 18]", "[[8, 3, 24, 18], [1, 2, 3]]"), "[1, 2, 3], which is not four"),
    "no box among boxes": (GOOD.replace("[8, 3, 24, 18]", "[[8, 3, 24, 18], null]"), "is not four finite numbers"),
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
        ("id,box\n1,eight\n", "line 2, column box holds 'eight', which is no box: correct the cell"),
        ("id,mask\n1,eight\n", "line 2, column mask is not complete JSON"),
        ("id;box\n1;[8\n", "line 2, column box holds '[8', which is no box"),
        ('id,box\n1,"[8\n', "is no CSV"),
        ("name,box\n1,\n", "line 1 has the columns ['name', 'box'], but not 'id': set predictions_format.id"),
        ("id,boxes\n1,\n", "line 1 has the columns ['id', 'boxes'], but neither 'box' nor 'mask'"),
        ("id;boxes\n1;\n", "line 1 has the columns ['id', 'boxes'], but neither 'box' nor 'mask'"),
        ("", "line 1 has the columns [], but not 'id'"),
        ("id,box,box\n1,,\n", "of which 'box' is there twice"),
        ("id,box\n,[8 3 24 18]\n", "line 2 has no text or whole number at 'id'"),
    ],
)
def test_what_is_no_csv_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.$") as caught:
        read(csv(tmp_path, text))
    assert sentence in str(caught.value)


def test_the_format_is_stated_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="not stated: choose predictions_format=FORMAT, one of xywh, xyxy, yxyx, xywh_rel"
    ):
        read(jsonl(tmp_path, GOOD), PredictionsConfig())


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_file_of_another_kind_or_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(LocHeadsError, match=r"neither \*\.jsonl nor \*\.csv|cannot be read"):
        read(tmp_path / name)
