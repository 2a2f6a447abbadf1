"""Small images and masks for the tests of the readers."""

from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from locheads.types import ImageGroup, Sample

WIDTH, HEIGHT = 40, 30


def make_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """A JPEG or PNG of noise; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


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
