"""Scores by hand, and attention with a planted localization head."""

from collections.abc import Callable

import numpy as np
import pytest

from locheads.geometry import Preprocess, square_geometry
from locheads.types import Attention, HeadScores

LAYERS, HEADS, GRID = 4, 4, 12
PLANT = (2, 1)


@pytest.fixture
def scores() -> Callable[..., HeadScores]:
    """Scores of samples s0, s1, ... from arrays [sample][layer][head]; what is not given does not matter."""

    def make(sums: object, entropy: object = None, bottom_row: object = None) -> HeadScores:
        table = np.array(sums, dtype=np.float64)
        other = [np.zeros_like(table) if x is None else np.array(x, float) for x in (entropy, bottom_row)]
        return HeadScores(
            tuple(f"s{i}" for i in range(len(table))),
            dict(zip(("sums", "entropy", "bottom_row"), (table, *other), strict=True)),
        )

    return make


@pytest.fixture
def attentions() -> Callable[..., list[Attention]]:
    """One sample per image. Every head scatters noise; the planted one puts a block somewhere, and its sum is
    high. Five other heads have a higher sum, so that the sum alone does not give the plant away."""

    def make(n: int, *, planted: bool, seed: int = 0) -> list[Attention]:
        rng = np.random.default_rng(seed)
        level = np.full((LAYERS, HEADS), 0.1)
        level[[2, 3, 3, 3, 1], [3, 0, 2, 3, 0]] = 0.52
        level[PLANT] = 0.5
        return [_attention(i, rng, level, planted) for i in range(n)]

    return make


def _attention(i: int, rng: np.random.Generator, level: np.ndarray, planted: bool) -> Attention:
    maps = rng.dirichlet(np.full(GRID * GRID, 0.2), (1, LAYERS, HEADS)).reshape(1, LAYERS, HEADS, GRID, GRID)
    if planted:
        row, col = rng.integers(0, GRID - 3, 2)
        block = np.zeros((GRID, GRID))
        block[row : row + 3, col : col + 3] = 1 / 9
        maps[0, *PLANT] = block
    maps = (maps * level[..., None, None]).astype(np.float32)
    geometry = square_geometry(96, 96, 96, GRID, Preprocess.pad)
    return Attention(f"p{i}", (f"s{i}",), maps, maps.sum(axis=(-2, -1)), geometry)
