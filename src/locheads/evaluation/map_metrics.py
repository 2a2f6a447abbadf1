"""How well a raw map, before any threshold, lies on its object: pure functions on the patch grid.

A map's cells that lie on padding bars count as off the object: what a head spends there it does not spend on the
object. A failed map takes part with `OF_NOTHING`, so it is counted in every mean.
"""

import numpy as np
from jaxtyping import Float

from locheads.geometry import Geometry
from locheads.types import Box

EPSILON = float(np.finfo(np.float64).eps)
"""2^-52, as in the MIT saliency benchmark's code."""

OF_NOTHING = {"map_energy": 0.0, "map_kld": -float(np.log(EPSILON)), "map_sim": 0.0, "map_nss": 0.0}
"""What a failed map scores: 0, and of the KL divergence, whose 0 is perfect, the largest that its formula gives
(36.04: a distribution in a single cell, which the map leaves out). An NSS of 0 is chance."""

MAP_METRICS = tuple(OF_NOTHING)


def map_scores(
    map_: Float[np.ndarray, "row col"], geometry: Geometry, box: Box, coverage: Float[np.ndarray, "row col"]
) -> dict[str, float]:
    """All of MAP_METRICS. `coverage` is the object's mask on the grid: `geometry.coverage`, in pixels per cell."""
    return {
        "map_energy": energy_in_box(map_, geometry, box),
        "map_kld": kl_divergence(map_, coverage),
        "map_sim": similarity(map_, coverage),
        "map_nss": nss(map_, coverage),
    }


def energy_in_box(map_: Float[np.ndarray, "row col"], geometry: Geometry, box: Box) -> float:
    """Share (0 to 1) of the map's sum that lies in an xyxy box in pixels; a cell's energy is even over its area.

    The energy-based pointing game (Wang et al., "Score-CAM", CVPR Workshops 2020): sum in the box / sum. 0 for a map
    that sums to 0.
    """
    x0, y0, x1, y1 = geometry.to_cells(np.array(box))
    share = np.outer(_overlap(y0, y1, map_.shape[0]), _overlap(x0, x1, map_.shape[1]))
    return float((_distribution(map_) * share).sum())


def kl_divergence(map_: Float[np.ndarray, "row col"], truth: Float[np.ndarray, "row col"]) -> float:
    """KLD in nats: sum Q log(eps + Q / (eps + P)), P the map and Q the truth, each divided by its sum; 0 is perfect.

    Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", TPAMI 2019.
    Where the truth has no cell (a crop cut it off) there is nothing to find: OF_NOTHING's.
    """
    p, q = _distribution(map_), _distribution(truth)
    if not q.any():
        return OF_NOTHING["map_kld"]
    return float((q * np.log(EPSILON + q / (EPSILON + p))).sum())


def similarity(map_: Float[np.ndarray, "row col"], truth: Float[np.ndarray, "row col"]) -> float:
    """SIM: sum min(P, Q), the intersection of the two distributions, 0 to 1 (Bylinskii et al.)."""
    return float(np.minimum(_distribution(map_), _distribution(truth)).sum())


def nss(map_: Float[np.ndarray, "row col"], truth: Float[np.ndarray, "row col"]) -> float:
    """NSS: the mean over the object's pixels of (P - mean P) / std P; 0 is chance (Bylinskii et al.).

    Their fixations are the object's pixels here; every pixel has the value of its cell. 0 for a constant map, and
    where the truth has no cell.
    """
    values = np.asarray(map_, dtype=np.float64)
    # The spread of equal numbers may be rounding, not 0.
    if not np.ptp(values) > 0:
        return 0.0
    return float((_distribution(truth) * (values - values.mean()) / values.std()).sum())


def _distribution(map_: Float[np.ndarray, "row col"]) -> Float[np.ndarray, "row col"]:
    """Divided by its sum; zeros where that is not positive."""
    values = np.asarray(map_, dtype=np.float64)
    total = values.sum()
    return values / total if total > 0 else np.zeros_like(values)


def _overlap(low: float, high: float, cells: int) -> Float[np.ndarray, "cell"]:
    """Share of each cell [j, j + 1) that lies in [low, high)."""
    edges = np.arange(cells)
    return np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, None)
