"""The two criteria of the paper and the released code's variants of them.

They judge one head's attention map at a time, without ground truth: how much the head looks at the image at
all (`attention_sum`), and how concentrated in space its look is (`spatial_entropy`).
"""

from enum import StrEnum

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from locheads.errors import DiscoveryError


class Floor(StrEnum):
    """Which cells of a map belong to its components, and what weight they carry."""

    mean = "mean"
    """a > mean(a) (the paper)."""
    relu_mean_eps = "relu_mean_eps"
    """ReLU(a - mean(a)) > 0.001 (released code C0)."""
    relu_2mean_eps = "relu_2mean_eps"
    """ReLU(a - 2 mean(a)) > 0.001 (released code C1)."""


class Weighting(StrEnum):
    """The share of a component in the entropy."""

    area = "area"
    """Its number of cells (the paper)."""
    mass = "mass"
    """Its sum of ReLU(a - floor), over that sum on the whole map (released code)."""


class ElbowRule(StrEnum):
    """How the elbow of the sorted attention sums is found."""

    chord = "chord"
    """The point farthest from the line between the curve's ends."""
    kneed = "kneed"
    """The Kneedle algorithm of the package `kneed` for a convex increasing curve: a different rule."""


RELU_EPS = 0.001
"""The released code's absolute threshold on the rectified map. It makes C0 and C1 depend on the grid's size."""

# Cells touch by side or corner within a map and never across maps of the stack.
_EIGHT_CONNECTED = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]).astype(int)


def attention_sum(maps: Float[np.ndarray, "*n row col"]) -> Float[np.ndarray, "*n"]:
    """S_img, the attention that a head spends on the image: the sum of its map. In [0, 1]."""
    return maps.sum(axis=(-2, -1))


def spatial_entropy(
    maps: Float[np.ndarray, "n row col"], *, floor: str = "mean", weighting: str = "area"
) -> Float[np.ndarray, "n"]:
    """H = -sum P(C) log P(C) over the 8-connected components C of the cells above the floor (the paper's
    criterion 2).

    Args:
        maps: attention maps, one per row.
        floor: which cells count, see `Floor`.
        weighting: P(C), see `Weighting`. With "mass", cells that the 0.001 threshold drops still count in the
            total, as in the released code, so the shares may sum to less than 1.

    Returns:
        Entropy in nats, [n], >= 0. A map without any cell above its floor (a constant map, or one with NaN)
        gets inf, so that it is never eligible. (The released code gives some such maps 0, its best score.)
    """
    by_mass = Weighting(weighting) is Weighting.mass
    excess, chosen = _above_floor(np.asarray(maps), Floor(floor), by_mass)
    labels, count = ndimage.label(chosen, structure=_EIGHT_CONNECTED)
    if excess is None or not by_mass:
        weights, totals = None, chosen.sum(axis=(1, 2)).astype(np.float64)
    else:
        weights, totals = excess.ravel(), excess.sum(axis=(1, 2), dtype=np.float64)
    flat = labels.ravel()
    sizes = np.bincount(flat, weights=weights, minlength=count + 1)[1:]
    # Every component lies in one map: the map of any of its cells.
    owner = np.zeros(count + 1, dtype=np.int64)
    owner[flat] = np.repeat(np.arange(len(maps)), maps.shape[1] * maps.shape[2])
    owner = owner[1:]
    share = sizes / totals[owner]
    entropy = np.bincount(owner, weights=-share * np.log(share), minlength=len(maps))
    has_component = np.bincount(owner, minlength=len(maps)) > 0
    # max: a single component gives -1 * log 1 = -0.0.
    return np.where(has_component, np.maximum(entropy, 0.0), np.inf)


def elbow_threshold(values: Float[np.ndarray, "n"], rule: str = "chord") -> float:
    """tau, the value at the elbow of `values` sorted ascending (the paper's "maximum curvature").

    With "chord", a curve without an elbow (constant, or a straight line) gives its smallest value, which admits
    everything; of several farthest points the first counts.

    Raises:
        DiscoveryError: no values, values that are not finite, or a curve in which `kneed` finds no knee.
    """
    curve = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if len(curve) == 0 or not np.isfinite(curve).all():
        raise DiscoveryError("The elbow needs at least one attention sum and only finite ones.")
    if ElbowRule(rule) is ElbowRule.kneed:
        return _kneed(curve)
    # Distance to a fixed line is proportional to the vertical gap, so no scaling of the axes matters.
    gap = np.abs(curve - np.linspace(curve[0], curve[-1], len(curve)))
    if gap.max() <= 1e-12 * max(1.0, abs(curve[-1])):
        return float(curve[0])
    return float(curve[gap.argmax()])


def _above_floor(maps: np.ndarray, floor: Floor, by_mass: bool) -> tuple[np.ndarray | None, np.ndarray]:
    """-> (ReLU(a - floor), the cells that count), both [n, row, col]; no ReLU where nothing reads it."""
    mean = maps.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    if floor is Floor.mean:
        # A constant map's rounded mean may lie below its cells: compare with the extremes, not only the mean.
        not_constant = maps.max(axis=(1, 2), keepdims=True) > maps.min(axis=(1, 2), keepdims=True)
        return np.maximum(maps - mean, 0) if by_mass else None, (maps > mean) & not_constant
    factor = 2.0 if floor is Floor.relu_2mean_eps else 1.0
    excess = np.maximum(maps - factor * mean, 0)
    return excess, excess > RELU_EPS


def _kneed(curve: np.ndarray) -> float:
    from kneed import KneeLocator

    knee = KneeLocator(np.arange(len(curve)), curve, curve="convex", direction="increasing").knee
    if knee is None:
        raise DiscoveryError(
            "kneed finds no knee in the curve of attention sums: use criterion.elbow=chord or set criterion.tau."
        )
    return float(curve[int(knee)])
