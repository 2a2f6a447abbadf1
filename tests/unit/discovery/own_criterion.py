"""A user's own criterion, as it stands in docs/ablations.md: criterion.score=own_criterion:narrow."""

import numpy as np

from locheads.discovery.criteria import Criterion
from locheads.map_numbers import Number


def spread(maps: np.ndarray) -> np.ndarray:
    """How far the attention lies from its centre of mass, in cells: maps [n, row, col] -> [n]."""
    weights = maps.astype(np.float64) / np.maximum(maps.sum(axis=(1, 2), keepdims=True), 1e-12)
    rows, cols = np.mgrid[: maps.shape[1], : maps.shape[2]]
    variance = [(weights * place**2).sum((1, 2)) - (weights * place).sum((1, 2)) ** 2 for place in (rows, cols)]
    return np.sqrt(np.maximum(sum(variance), 0))


narrow = Criterion(values=lambda scores: scores["spread"], thresholded=True, numbers=(Number("spread", spread),))
