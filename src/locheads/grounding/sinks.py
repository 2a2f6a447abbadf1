"""Cells that draw attention whatever the image: where the mean map of a head over many samples stands out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from locheads.types import Attention, HeadIndex

Grid = tuple[int, int]


@dataclass(frozen=True)
class SinkCells:
    """Per grid (rows, cols) the sinks of every head, and those of the mean over all heads."""

    of_heads: Mapping[Grid, Bool[np.ndarray, "layer head row col"]]
    of_mean: Mapping[Grid, Bool[np.ndarray, "row col"]]

    def get(self, grid: Grid, heads: Sequence[HeadIndex] | None) -> Bool[np.ndarray, "head row col"] | None:
        """Of some heads (None: of the mean over all); None for a grid that no discovery sample had."""
        if grid not in self.of_heads:
            return None
        if heads is None:
            return self.of_mean[grid][None]
        return self.of_heads[grid][[h.layer for h in heads], [h.head for h in heads]]


Totals = Mapping[Grid, Float[np.ndarray, "layer head row col"]]
"""The sum of every head's maps over samples, per grid: not divided, because no comparison depends on their number."""


def total_maps(attentions: Iterable[Attention]) -> Totals:
    """Summed up in one pass. Give it discovery samples: nothing of the evaluated split may take part.

    Raises ValueError where not all maps are there.
    """
    totals: dict[Grid, np.ndarray] = {}
    for attention in attentions:
        if attention.heads is not None:
            raise ValueError("the mean map needs the maps of all heads")
        grid = (attention.maps.shape[-2], attention.maps.shape[-1])
        totals[grid] = totals.get(grid, 0.0) + attention.maps.sum(axis=0, dtype=np.float64)
    return totals


def sinks_of(totals: Totals, factor: float) -> SinkCells:
    """Cells whose mean weight over the samples exceeds `factor` times the mean of that mean map."""
    return SinkCells(
        {grid: _stands_out(total, factor) for grid, total in totals.items()},
        {grid: _stands_out(total.sum(axis=(0, 1)), factor) for grid, total in totals.items()},
    )


def _stands_out(total: np.ndarray, factor: float) -> np.ndarray:
    return total > factor * total.mean(axis=(-2, -1), keepdims=True)
