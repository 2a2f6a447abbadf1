"""Pairs of maps by hand, and RefCOCO's own refs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.dependence.overlaps import PairTable
from locheads.types import ImageGroup, Sample

REFS = Path(__file__).resolve().parents[4] / "shared" / "data" / "refcoco_unc_val.json"


@pytest.fixture(scope="session")
def refcoco_unc_val() -> list[ImageGroup]:
    """RefCOCO's val, of UNC, without images."""
    if not REFS.exists():
        pytest.skip(f"{REFS} is not here: RefCOCO's refs are not part of the project")
    images: dict[int, list[Sample]] = {}
    for ref in json.loads(REFS.read_text()):
        x, y, width, height = ref["bbox"]
        images.setdefault(ref["image_id"], []).extend(
            Sample(f"{ref['ref_id']} {i}", str(ref["ref_id"]), text, (x, y, x + width, y + height), {}, "")
            for i, text in enumerate(ref["sentences"])
        )
    return [ImageGroup(str(key), Path(f"{key}.jpg"), 640, 480, tuple(samples)) for key, samples in images.items()]


@pytest.fixture
def random_table() -> Callable[..., PairTable]:
    """Pairs of some images with random flags, overlaps and peaks."""

    def make(n: int = 200, images: int = 20, heads: tuple[int, ...] = (2, 3), seed: int = 0) -> PairTable:
        rng = np.random.default_rng(seed)
        return PairTable(
            rng.integers(0, images, n),
            rng.random(n) < 0.4,
            rng.random(n) < 0.3,
            rng.random(n) < 0.8,
            rng.random((n, *heads)).astype(np.float16),
            rng.random((n, *heads)) < 0.5,
        )

    return make
