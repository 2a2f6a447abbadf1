"""Damaged refs, instances and JSONL: a run gets one named sentence, a check counts, nobody gets a traceback."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_files import jsonl, make_image, samples_of
from refer_files import REFS, TinyRefer, read_refer

from locheads.data.config import BoxFormat
from locheads.data.tally import Tally
from locheads.errors import DataError

Damage = Callable[[Any], object]

# Of ref 12 (annotation 3, image 25): the other two refs of val stay good.
REFER: dict[str, Damage] = {
    "ref names no annotation": lambda t: t.refs[0].update(ann_id=99),
    "ref names no image": lambda t: t.refs[0].update(image_id=77),
    "ref lies in another image": lambda t: t.refs[0].update(image_id=9),
    "ref id is text": lambda t: t.refs[0].update(ref_id="twelve"),
    "ref id is missing": lambda t: t.refs[0].pop("ref_id"),
    "ref id is huge": lambda t: t.refs[0].update(ref_id=10**30),
    "sentences are missing": lambda t: t.refs[0].pop("sentences"),
    "sentences are text": lambda t: t.refs[0].update(sentences="the woman"),
    "sentence has no id": lambda t: t.refs[0]["sentences"][0].pop("sent_id"),
    "sentence id is a float": lambda t: t.refs[0]["sentences"][0].update(sent_id=1.5),
    "sentence is a number": lambda t: t.refs[0]["sentences"][0].update(sent=5),
    "sentence id is in another split": lambda t: t.refs[3]["sentences"][0].update(sent_id=32),
    "box has NaN": lambda t: t.instances["annotations"][2].update(bbox=[1, 2, math.nan, 4]),
    "box has infinity": lambda t: t.instances["annotations"][2].update(bbox=[1, 2, math.inf, 4]),
    "box has three numbers": lambda t: t.instances["annotations"][2].update(bbox=[1, 2, 3]),
    "box is huge": lambda t: t.instances["annotations"][2].update(bbox=[1, 2, 10**400, 3]),
    "box has no area": lambda t: t.instances["annotations"][2].update(bbox=[1, 2, 0, 3]),
    "box is text": lambda t: t.instances["annotations"][2].update(bbox="1 2 3 4"),
    "category is unknown": lambda t: t.instances["annotations"][2].update(category_id=5),
    "polygon has NaN": lambda t: t.instances["annotations"][2].update(segmentation=[[1, 1, 5, math.nan, 1, 5]]),
    "polygon is far outside": lambda t: t.instances["annotations"][2].update(segmentation=[[1, 1, 5, 1e300, 1, 5]]),
    "polygon is odd": lambda t: t.instances["annotations"][2].update(segmentation=[[1, 1, 5, 5, 1, 5, 9]]),
    "mask is empty": lambda t: t.instances["annotations"][2].update(segmentation=[]),
    "mask is missing": lambda t: t.instances["annotations"][2].pop("segmentation"),
    "run-length code is damaged": lambda t: t.instances["annotations"][2]["segmentation"].update(counts="0o"),
    "run-length code is of another size": lambda t: t.instances["annotations"][2]["segmentation"].update(size=[1, 2]),
}


@pytest.mark.parametrize("case", REFER)
def test_damaged_refer_records(tiny: TinyRefer, case: str) -> None:
    REFER[case](tiny)
    tiny.write()
    with pytest.raises(DataError, match=r"(refs\(unc\)\.p|instances\.json).*\.$") as caught:
        read_refer(tiny.folder, tiny.images, "val")
    tally = Tally(counting=True)
    left = samples_of(read_refer(tiny.folder, tiny.images, "val", tally))
    assert tally.rejected == 1
    assert tally.examples == [str(caught.value)]
    assert {"40", "32"} <= {sample.sample_id for sample in left}


WHOLE_FILES: dict[str, Damage] = {
    "refs are cut": lambda t: (t.folder / REFS).write_bytes((t.folder / REFS).read_bytes()[:-9]),
    "refs are empty": lambda t: (t.folder / REFS).write_bytes(b""),
    "refs are JSON": lambda t: (t.folder / REFS).write_text("[]"),
    "refs are a mapping": lambda t: (t.folder / REFS).write_bytes(pickle.dumps({"a": 1})),
    "refs hold a float": lambda t: (t.folder / REFS).write_bytes(pickle.dumps([1.5])),
    "instances are cut": lambda t: (t.folder / "instances.json").write_text('{"images": ['),
    "instances are a list": lambda t: (t.folder / "instances.json").write_text("[]"),
    "instances are nested without end": lambda t: (t.folder / "instances.json").write_text("[" * 10**5),
    "instances are an image": lambda t: (t.folder / "instances.json").write_bytes(b"\xff\xd8\xff\xe0"),
    "instances hold a number of many digits": lambda t: (t.folder / "instances.json").write_text("9" * 5000),
}


@pytest.mark.parametrize("case", WHOLE_FILES)
def test_damaged_refer_files(tiny: TinyRefer, case: str) -> None:
    tiny.write()
    WHOLE_FILES[case](tiny)
    for tally in (None, Tally(counting=True)):
        with pytest.raises(DataError, match=r"(refs\(unc\)\.p|instances\.json).*\.$"):
            read_refer(tiny.folder, tiny.images, "val", tally)


GOOD = '{"image": "a.jpg", "expression": "it", "box": [1, 2, 3, 4]}'
LINES: dict[str, str] = {
    "cut": GOOD[:-9],
    "not JSON": "image: a.jpg",
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "nested without end": "[" * 10**5,
    "no image": '{"expression": "it", "box": [1, 2, 3, 4]}',
    "image is a number": GOOD.replace('"a.jpg"', "3"),
    "image is not there": GOOD.replace("a.jpg", "b.jpg"),
    "image name is no name": GOOD.replace("a.jpg", "a" * 5000),
    "image name holds NUL": GOOD.replace("a.jpg", "a\\u0000.jpg"),
    "no expression": '{"image": "a.jpg", "box": [1, 2, 3, 4]}',
    "expression is a list": GOOD.replace('"it"', '["it"]'),
    "neither box nor mask": '{"image": "a.jpg", "expression": "it"}',
    "box has NaN": GOOD.replace("4]", "NaN]"),
    "box has infinity": GOOD.replace("4]", "Infinity]"),
    "box is huge": GOOD.replace("4]", "1e300]"),
    "box has a number of many digits": GOOD.replace("4]", "9" * 5000 + "]"),
    "box has three numbers": GOOD.replace(", 4]", "]"),
    "box has text": GOOD.replace("4]", '"4"]'),
    "box has true": GOOD.replace("4]", "true]"),
    "box is a mapping": GOOD.replace("[1, 2, 3, 4]", '{"x": 1}'),
    "box has no area": GOOD.replace("4]", "0]"),
    "box is outside the image": GOOD.replace("[1, 2", "[900, 2"),
    "mask is a number": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": 5'),
    "mask is an empty list": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": []'),
    "mask file is not there": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": "m.png"'),
    "mask file is of another size": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": "small.png"'),
    "mask code is damaged": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": {"size": [30, 40], "counts": "0"}'),
    "mask code is of another size": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": {"size": [3, 4], "counts": [0, 12]}'),
    "polygon has NaN": GOOD.replace('"box": [1, 2, 3, 4]', '"mask": [[1, 1, 9, 9, NaN, 5]]'),
}


@pytest.mark.parametrize("case", LINES)
def test_damaged_lines(tmp_path: Path, case: str) -> None:
    make_image(tmp_path / "a.jpg")
    make_image(tmp_path / "small.png", (3, 3))
    content = "\n".join([GOOD, LINES[case], GOOD.replace("it", "that")])
    (tmp_path / "val.jsonl").write_text(content)
    data = jsonl(tmp_path, images=str(tmp_path), box_format=BoxFormat.xywh)
    with pytest.raises(DataError, match=r"\.$") as caught:
        data.read("val")
    assert "val.jsonl, line 2" in str(caught.value)
    assert len(str(caught.value)) < 1000
    tally = Tally(counting=True)
    assert [s.expression for s in samples_of(data.read("val", tally))] == ["it", "that"]
    assert tally.rejected == 1


def test_an_id_that_is_used_twice(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    line = json.loads(GOOD) | {"id": 3}
    (tmp_path / "val.jsonl").write_text("\n".join([json.dumps(line)] * 2))
    data = jsonl(tmp_path, images=str(tmp_path), box_format=BoxFormat.xywh)
    with pytest.raises(DataError, match=r"val\.jsonl holds the sample id '3' twice"):
        data.read("val")
    tally = Tally(counting=True)
    assert len(samples_of(data.read("val", tally))) == tally.rejected == 1
