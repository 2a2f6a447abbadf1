"""How well a map lies on a true heat map: KLD, SIM and NSS as the papers on AGD20K report them.

As in lhc1224/Cross-View-AG `code/cvpr/test.py`, `utils/evaluation.py` (AGD20K's authors) and Reagan1311/LOCATE
`test.py`, `utils/evaluation.py`: map and truth are resized to 224 x 224 pixels linearly, whatever the image's shape;
the map is scaled to 0..1 by its extremes; std is that of the population. They are not `map_metrics`, which compare a
map with a mask on the patch grid. Two things are ours, because a division by 0 is nothing to average: a constant map is
one of zeros, and its NSS is 0.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from locheads.geometry import Geometry
from locheads.grounding.config import GroundingConfig, Resolution, Upsampling
from locheads.grounding.lattice import lattice, upsample

SIDE = 224
EPSILON = 1e-12
FIXATED = 0.1
"""NSS counts the pixels whose truth, scaled to 0..1 by its extremes, is above this."""

OF_NO_HEAT = {"agd_kld": -float(np.log(EPSILON)), "agd_sim": 0.0, "agd_nss": 0.0}
"""What a failed map scores, so that it is counted in every mean: of KLD, whose 0 is perfect, the largest that its
formula gives (27.63: a truth in a single pixel, which the map leaves out), a SIM of 0, and an NSS of 0: chance."""

HEAT_METRICS = tuple(OF_NO_HEAT)

_LINEAR = GroundingConfig(resolution=Resolution.image, upsampling=Upsampling.bilinear)
Square = Float[np.ndarray, "*#n side side"]
"""Of SIDE pixels a side."""
PerMap = Any
"""[*n], which numpy gives as a number of its own for a single map."""


def heat_scores(maps: Square, truth: Square) -> dict[str, PerMap]:
    """All of HEAT_METRICS, of maps from `on_square` and truths from `truth_on_square`."""
    return {"agd_kld": kld(maps, truth), "agd_sim": sim(maps, truth), "agd_nss": nss(maps, truth)}


def on_square(maps: Float[np.ndarray, "*n row col"], geometry: Geometry) -> Square:
    """The maps where their image lies, on 224 x 224 pixels, scaled to 0..1 by each one's extremes.

    Bars of padding fall outside. What a crop cut off was not looked at: it has the map's least value. Where the grid is
    the whole image this is `cv2.resize` of the map.
    """
    across, down = geometry.width / SIDE, geometry.height / SIDE
    scale = geometry.scale[0] * across, geometry.scale[1] * down
    square = replace(geometry, width=SIDE, height=SIDE, scale=scale)
    seen = lattice(square, _LINEAR)
    x, y = (-int(start) for start in seen.offset)
    values = upsample(np.asarray(maps, dtype=np.float64), square, _LINEAR)
    whole = np.empty((*values.shape[:-2], SIDE, SIDE))
    whole[:] = values.min(axis=(-2, -1), keepdims=True)
    whole[..., y : y + seen.rows, x : x + seen.cols] = values
    return _unit(whole, 0.0)


def truth_on_square(heat: Float[np.ndarray, "row col"]) -> Square:
    """A true heat map, 0..1, resized as the map is."""
    return cv2.resize(np.asarray(heat, dtype=np.float64), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def kld(maps: Square, truth: Square) -> PerMap:
    """sum g ln(g / (p + eps) + eps), of map p and truth g over their sums + eps; 0 is perfect."""
    p, g = _distribution(maps), _distribution(truth)
    return (g * np.log(g / (p + EPSILON) + EPSILON)).sum(axis=(-2, -1))


def sim(maps: Square, truth: Square) -> PerMap:
    """sum min(p, g), 0 to 1."""
    return np.minimum(_distribution(maps), _distribution(truth)).sum(axis=(-2, -1))


def nss(maps: Square, truth: Square) -> PerMap:
    """The mean standard score of the map over the pixels that the truth counts as fixated; 0 is chance."""
    fixated = _unit(truth, EPSILON) > FIXATED
    away = np.where(fixated, maps - maps.mean(axis=(-2, -1), keepdims=True), 0.0).sum(axis=(-2, -1))
    count, spread = (fixated + EPSILON).sum(axis=(-2, -1)), maps.std(axis=(-2, -1))
    varies = np.ptp(maps, axis=(-2, -1)) > 0  # the spread of equal numbers may be rounding, not 0
    return np.divide(away, count * spread, out=np.zeros(np.shape(away)), where=varies)


def _unit(values: Square, epsilon: float) -> Square:
    """Scaled to 0..1 by its own extremes; zeros where it is constant."""
    low, high = values.min(axis=(-2, -1), keepdims=True), values.max(axis=(-2, -1), keepdims=True)
    return np.divide(values - low, high - low + epsilon, out=np.zeros_like(values), where=high > low)


def _distribution(values: Square) -> Square:
    return values / (values.sum(axis=(-2, -1), keepdims=True) + EPSILON)
