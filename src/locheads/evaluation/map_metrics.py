"""How well a raw map, before any threshold, lies on its object: pure functions on the patch grid.

A map's cells that lie on padding bars count as off the object: what a head spends there it does not spend on the
object. A failed map takes part with `OF_NOTHING`, so it is counted in every mean.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Real

from locheads.geometry import Geometry

EPSILON = float(np.finfo(np.float64).eps)
"""2^-52, as in the MIT saliency benchmark's code."""

OF_NOTHING = {"map_energy": 0.0, "map_kld": -float(np.log(EPSILON)), "map_sim": 0.0, "map_nss": 0.0}
"""What a failed map scores: 0, and of the KL divergence, whose 0 is perfect, the largest that its formula gives
(36.04: a distribution in a single cell, which the map leaves out). An NSS of 0 is chance."""

MAP_METRICS = tuple(OF_NOTHING)

PerMap = Any
"""[*n], which numpy gives as a number of its own for a single map."""


def map_scores(
    maps: Float[np.ndarray, "*n row col"],
    geometry: Geometry,
    boxes: Real[np.ndarray, "*n 4"],
    coverage: Float[np.ndarray, "*n row col"],
) -> dict[str, PerMap]:
    """All of MAP_METRICS. `coverage` is the object's mask on the grid: `geometry.coverage`, in pixels per cell."""
    return {
        "map_energy": energy_in_box(maps, geometry, boxes),
        "map_kld": kl_divergence(maps, coverage),
        "map_sim": similarity(maps, coverage),
        "map_nss": nss(maps, coverage),
    }


def energy_in_box(maps: Float[np.ndarray, "*n row col"], geometry: Geometry, boxes: Real[np.ndarray, "*n 4"]) -> PerMap:
    """Share (0 to 1) of a map's sum that lies in an xyxy box in pixels; a cell's energy is even over its area.

    The energy-based pointing game (Wang et al., "Score-CAM", CVPR Workshops 2020): sum in the box / sum. 0 for a map
    that sums to 0.
    """
    ends = geometry.to_cells(boxes)
    rows = _overlap(ends[..., 1], ends[..., 3], maps.shape[-2])
    cols = _overlap(ends[..., 0], ends[..., 2], maps.shape[-1])
    return np.einsum("...rc,...r,...c", _distribution(maps), rows, cols)


def kl_divergence(maps: Float[np.ndarray, "*n row col"], truth: Float[np.ndarray, "*n row col"]) -> PerMap:
    """KLD in nats: sum Q log(eps + Q / (eps + P)), P the map and Q the truth, each divided by its sum; 0 is perfect.

    Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", TPAMI 2019.
    Where the truth has no cell (a crop cut it off) there is nothing to find: OF_NOTHING's.
    """
    p, q = _distribution(maps), _distribution(truth)
    found = (q * np.log(EPSILON + q / (EPSILON + p))).sum(axis=(-2, -1))
    return np.where(q.any(axis=(-2, -1)), found, OF_NOTHING["map_kld"])


def similarity(maps: Float[np.ndarray, "*n row col"], truth: Float[np.ndarray, "*n row col"]) -> PerMap:
    """SIM: sum min(P, Q), the intersection of the two distributions, 0 to 1 (Bylinskii et al.)."""
    return np.minimum(_distribution(maps), _distribution(truth)).sum(axis=(-2, -1))


def nss(maps: Float[np.ndarray, "*n row col"], truth: Float[np.ndarray, "*n row col"]) -> PerMap:
    """NSS: the mean over the object's pixels of (P - mean P) / std P; 0 is chance (Bylinskii et al.).

    Their fixations are the object's pixels here; every pixel has the value of its cell. 0 for a constant map, and
    where the truth has no cell.
    """
    values = np.asarray(maps, dtype=np.float64)
    on_object = (_distribution(truth) * (values - values.mean(axis=(-2, -1), keepdims=True))).sum(axis=(-2, -1))
    # The spread of equal numbers may be rounding, not 0.
    varies = np.ptp(values, axis=(-2, -1)) > 0
    return np.divide(on_object, values.std(axis=(-2, -1)), out=np.zeros(on_object.shape), where=varies)


def _distribution(maps: Float[np.ndarray, "*n row col"]) -> Float[np.ndarray, "*n row col"]:
    """Divided by its sum; zeros where that is not positive."""
    values = np.asarray(maps, dtype=np.float64)
    total = values.sum(axis=(-2, -1), keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def _overlap(low: np.ndarray, high: np.ndarray, cells: int) -> Float[np.ndarray, "*n cell"]:
    """Share of each cell [j, j + 1) that lies in [low, high)."""
    edges = np.arange(cells)
    return np.clip(np.minimum(edges + 1, high[..., None]) - np.maximum(edges, low[..., None]), 0, None)
