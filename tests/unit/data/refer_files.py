"""A REFER data set of three images, written as its publishers write it, that a test can damage first."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from locheads.data.config import DatasetConfig
from locheads.data.refer import ReferDataSet
from locheads.data.tally import Tally
from locheads.types import ImageGroup

REFS = "refs(unc).p"


def refer(folder: Path, images: Path, cache: Path = Path("cache")) -> ReferDataSet:
    return ReferDataSet(DatasetConfig(folder=str(folder), refs=REFS, images=str(images)), cache)


def read_refer(folder: Path, images: Path, split: str, tally: Tally | None = None) -> list[ImageGroup]:
    """From the files themselves, not from a table of them."""
    return refer(folder, images)._read_files(split, tally or Tally())


def block_mask(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A mask that is True in the xyxy box."""
    mask = np.zeros((height, width), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO code, by a loop: columns first, starting with the run of zeros."""
    counts, current, length = [], False, 0
    for value in mask.T.ravel():
        if value != current:
            counts.append(length)
            current, length = value, 0
        length += 1
    return [*counts, length]


def _instances() -> dict[str, Any]:
    compressed = coco.encode(np.asfortranarray(block_mask(40, 30, (5, 10, 25, 30)), dtype=np.uint8))
    return {
        "images": [
            {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 60, "height": 40},
            {"id": 25, "file_name": "COCO_train2014_000000000025.jpg", "width": 30, "height": 40},
            {"id": 3, "file_name": "COCO_train2014_000000000003.jpg", "width": 50, "height": 50},
        ],
        "annotations": [
            # Two overlapping squares: a sum of polygons would count the overlap twice.
            {
                "id": 1,
                "image_id": 9,
                "category_id": 18,
                "bbox": [10, 5, 20, 15],
                "segmentation": [[10, 5, 20, 5, 20, 15, 10, 15], [15, 10, 30, 10, 30, 20, 15, 20]],
            },
            {
                "id": 2,
                "image_id": 25,
                "category_id": 1,
                "bbox": [4.5, 2.25, 10, 12],
                "segmentation": {"size": [40, 30], "counts": runs(block_mask(40, 30, (4, 2, 14, 14)))},
            },
            {
                "id": 3,
                "image_id": 25,
                "category_id": 1,
                "bbox": [5, 10, 20, 20],
                "segmentation": {"size": [40, 30], "counts": compressed["counts"].decode()},
            },
            {
                "id": 4,
                "image_id": 3,
                "category_id": 18,
                "bbox": [0, 0, 50, 50],
                "segmentation": [[0, 0, 50, 0, 50, 50, 0, 50]],
            },
            # Like most of the published annotations: no ref is about it.
            {"id": 5, "image_id": 3, "category_id": 18, "bbox": None, "segmentation": None},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }


def _ref(ref_id: int, ann_id: int, image_id: int, split: str, sentences: dict[int, str]) -> dict[str, Any]:
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "split": split,
        # As in the published files: it belongs to no image there is.
        "file_name": f"COCO_train2014_{image_id + 1:012d}_{ref_id}.jpg",
        "sent_ids": list(sentences),
        "sentences": [
            {"sent_id": key, "sent": text, "raw": text.upper(), "tokens": text.split()}
            for key, text in sentences.items()
        ],
    }


def _refs() -> list[dict[str, Any]]:
    return [
        _ref(12, 3, 25, "val", {31: "right one", 30: "the woman"}),
        _ref(11, 2, 25, "val", {32: "man"}),
        _ref(10, 1, 9, "val", {40: "brown dog"}),
        _ref(13, 4, 3, "train", {50: "the dog"}),
    ]


@dataclass
class TinyRefer:
    """The data set, in memory until `write`; `read` writes it first."""

    root: Path
    refs: list[dict[str, Any]] = field(default_factory=_refs)
    instances: dict[str, Any] = field(default_factory=_instances)

    @property
    def folder(self) -> Path:
        return self.root / "refcoco"

    @property
    def images(self) -> Path:
        return self.root / "train2014"

    def write(self, protocol: int = 2) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / REFS).write_bytes(pickle.dumps(self.refs, protocol=protocol))
        (self.folder / "instances.json").write_text(json.dumps(self.instances))

    def write_images(self) -> None:
        self.images.mkdir(exist_ok=True)
        for record in self.instances["images"]:
            colour = (record["id"], 100, 200)
            image = Image.new("RGB", (record["width"], record["height"]), colour)
            image.save(self.images / record["file_name"], quality=95)

    def read(self, split: str = "val") -> list[ImageGroup]:
        self.write()
        return read_refer(self.folder, self.images, split)
