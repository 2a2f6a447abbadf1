"""Attention with numbers that are all different, and the groups that it belongs to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.geometry import Preprocess, square_geometry
from locheads.types import Attention, ImageGroup, Sample


@pytest.fixture
def attention() -> Callable[..., Attention]:
    """One image, `samples` expressions named IMAGE/0, IMAGE/1, ..., 2 layers x 3 heads, 4 x 5 cells."""

    def make(image_id: str, samples: int = 2, seed: int = 0, first: int = 0) -> Attention:
        rng = np.random.default_rng([seed, *image_id.encode()])
        # Heads differ by orders of magnitude, as real ones do.
        scale = 10.0 ** rng.uniform(-7, 0, (samples, 2, 3, 1, 1))
        maps = (rng.dirichlet(np.ones(20), (samples, 2, 3)).reshape(samples, 2, 3, 4, 5) * scale).astype(np.float32)
        names = tuple(f"{image_id}/{i}" for i in range(first, first + samples))
        return Attention(image_id, names, maps, maps.sum(axis=(-2, -1)), square_geometry(33, 21, 20, 4, Preprocess.pad))

    return make


@pytest.fixture
def group() -> Callable[..., ImageGroup]:
    """The image with its expressions, as a data set has it."""

    def make(image_id: str, samples: int = 2) -> ImageGroup:
        all_of_them = tuple(
            Sample(f"{image_id}/{i}", f"r{i}", "cup", (0.0, 0.0, 1.0, 1.0), {}, "cup") for i in range(samples)
        )
        return ImageGroup(image_id, Path(f"{image_id}.jpg"), 33, 21, all_of_them)

    return make
