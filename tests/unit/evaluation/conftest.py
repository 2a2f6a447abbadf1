"""An image with two objects, attention by hand, and discoveries from tables of frequencies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from locheads.geometry import Preprocess, square_geometry
from locheads.types import Attention, Box, Discovery, ImageGroup, Sample

WIDTH, HEIGHT, GRID = 80, 40, 8


def code(mask: np.ndarray) -> dict[str, object]:
    """COCO run-length code with text, as a data set has it."""
    made = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(made["size"]), "counts": made["counts"].decode()}


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """An object that fills its box."""

    def make(sample_id: str, box: tuple[int, int, int, int], width: int = WIDTH, height: int = HEIGHT) -> Sample:
        mask = np.zeros((height, width), dtype=bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        exact: Box = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        return Sample(sample_id, f"ref of {sample_id}", f"the {sample_id}", exact, code(mask), "thing")

    return make


@pytest.fixture
def group(sample: Callable[..., Sample]) -> ImageGroup:
    """80 x 40 pixels. Padded to 80 x 80 and cut into 8 x 8 cells, each is 10 x 10 pixels and the image lies in
    the rows 2 to 5."""
    samples = (sample("left", (10, 10, 30, 30)), sample("right", (50, 0, 70, 20)))
    return ImageGroup("p", Path("p.jpg"), WIDTH, HEIGHT, samples)


@pytest.fixture
def attention() -> Attention:
    """2 layers x 2 heads for both objects. L1H0 looks exactly at the object, L0H0 at its left half, L0H1 at a bar
    above the image, and L1H1 everywhere alike."""
    maps = np.zeros((2, 2, 2, GRID, GRID), dtype=np.float32)
    for i, (row, col) in enumerate([(3, 1), (2, 5)]):
        maps[i, 1, 0, row : row + 2, col : col + 2] = 0.2
        maps[i, 0, 0, row : row + 2, col] = 0.3
        maps[i, 0, 1, 0, 3:5] = 0.25
        maps[i, 1, 1] = 0.01
    geometry = square_geometry(WIDTH, HEIGHT, GRID * 4, GRID, Preprocess.pad)
    return Attention("p", ("left", "right"), maps, maps.sum(axis=(-2, -1)), geometry)


@pytest.fixture
def discovery() -> Callable[..., Discovery]:
    """From selection frequencies [layer][head]; every head is eligible unless the second table says otherwise."""

    def make(frequency: list[list[float]], eligible: list[list[bool]] | None = None) -> Discovery:
        mean = np.array(frequency, dtype=np.float64)
        admitted = np.ones(mean.shape, dtype=bool) if eligible is None else np.array(eligible, dtype=bool)
        return Discovery(mean, np.zeros_like(mean), mean[None], mean, None, (None,), admitted)

    return make
