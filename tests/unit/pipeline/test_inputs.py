"""Images that are named by numbers: COCO's only where the user says so, and a warning where it would matter."""

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image

from locheads.config import Config
from locheads.pipeline.inputs import load_inputs


def _config(root: Path, coco_names: bool) -> Config:
    (root / "own").mkdir()
    for split, name in (("train", "000000000009.jpg"), ("train", "b.jpg"), ("val", "c.jpg")):
        Image.new("RGB", (40, 30)).save(root / "own" / name)
        with (root / "own" / f"{split}.jsonl").open("a") as file:
            print(json.dumps({"image": name, "expression": "it", "box": [1, 2, 30, 20]}), file=file)
    (root / "refs(unc).p").write_bytes(pickle.dumps([{"image_id": 9, "split": "val"}]))
    config = Config()
    config.paths.cache = str(root / "cache")
    d = config.dataset
    d.reader, d.refs, d.guard, d.coco_names = "jsonl", "{split}.jsonl", [str(root / "refs(unc).p")], coco_names
    d.folder = d.images = str(root / "own")
    return config


@pytest.mark.parametrize("coco_names", [False, True])
def test_numbers_as_names(tmp_path: Path, coco_names: bool, caplog: pytest.LogCaptureFixture) -> None:
    inputs = load_inputs(_config(tmp_path, coco_names))
    assert inputs.n_excluded_images == coco_names
    assert len(inputs.discovery) == 2 - coco_names
    warned = "1 images of train are named as images of COCO that are evaluated" in caplog.text
    assert warned is not coco_names
