"""Small images and masks for the tests of the readers."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from locheads.data.config import BoxFormat, DatasetConfig
from locheads.data.jsonl import JsonlDataSet
from locheads.types import ImageGroup, Sample

WIDTH, HEIGHT = 40, 30


def make_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """A JPEG or PNG of noise; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def jsonl(folder: Path, **settings: Any) -> JsonlDataSet:
    """A folder of JSON lines, with its images in `images`."""
    usual = {"refs": "{split}.jsonl", "images": str(folder / "images"), "box_format": BoxFormat.xyxy}
    return JsonlDataSet(DatasetConfig(folder=str(folder), **usual | settings), folder / "cache")  # type: ignore[arg-type]


def ragged_mask(seed: int) -> np.ndarray:
    """[HEIGHT, WIDTH], True on some scattered pixels: no polygon and no box could stand for it."""
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3


def rle(mask: np.ndarray) -> dict[str, object]:
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def decoded(sample: Sample) -> np.ndarray:
    return coco.decode(sample.mask).astype(bool)


def samples_of(groups: list[ImageGroup]) -> list[Sample]:
    return [sample for group in groups for sample in group.samples]
