"""The two criteria of the paper and the released code's variants of them.

They judge one head's attention map at a time, without ground truth: how much the head looks at the image at
all (`attention_sum`), and how concentrated in space its look is (`spatial_entropy`).
"""

import itertools
from enum import StrEnum
from typing import assert_never

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from locheads.errors import DiscoveryError, chosen


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


class EmptyMaps(StrEnum):
    """A map of which some cells exceed the mean (or twice the mean) and none by more than 0.001."""

    never = "never"
    """Entropy inf: it has no component, so no sample chooses it."""
    zero = "zero"
    """Entropy 0, the best score (released code C0 and C1)."""


class Precision(StrEnum):
    """Which floating-point numbers the entropy is worked out in."""

    float64 = "float64"
    float32 = "float32"
    """As the released code: mean and total of the map by torch, components by NumPy, all in 32 bits. Maps of one
    component have the entropy 0 but for rounding (1e-7, either sign), and there this rounding ranks them."""


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
    maps: Float[np.ndarray, "n row col"],
    *,
    floor: str = "mean",
    weighting: str = "area",
    empty_maps: str = "never",
    precision: str = "float64",
) -> Float[np.ndarray, "n"]:
    """H = -sum P(C) log P(C) over the 8-connected components C of the cells above the floor (the paper's
    criterion 2).

    Args:
        maps: attention maps, one per row.
        floor: which cells count, see `Floor`.
        weighting: P(C), see `Weighting`. With "mass", cells that the 0.001 threshold drops still count in the
            total, as in the released code, so the shares may sum to less than 1.
        empty_maps: the entropy of a map without components, see `EmptyMaps`.
        precision: see `Precision`.

    Returns:
        Entropy in nats, [n], >= 0 (with precision "float32" >= -1e-6). inf, never eligible, for a map of which no
        cell exceeds its floor (a constant map, or one with NaN).

    Raises:
        ConfigError: an option that is not among its choices.
    """
    single, stack = chosen(Precision, precision) == Precision.float32, np.asarray(maps)
    if single:
        stack = stack.astype(np.float32, copy=False)
    level, least = _level(stack, chosen(Floor, floor), single)
    labels, count = ndimage.label(stack > level if least is None else stack - level > least, structure=_EIGHT_CONNECTED)
    sizes, totals = _sizes(stack, level, labels, count, chosen(Weighting, weighting), single)
    # Every component lies in one map: the map of any of its cells.
    owner = np.zeros(count + 1, dtype=np.int64)
    owner[labels.ravel()] = np.repeat(np.arange(len(stack)), stack.shape[1] * stack.shape[2])
    owner = owner[1:]
    share = sizes / totals[owner]
    entropy = np.zeros(len(stack), dtype=share.dtype)
    np.subtract.at(entropy, owner, share * np.log(share))  # one after the other, in reading order
    if not single:
        entropy = np.maximum(entropy, 0.0)
    without = np.bincount(owner, minlength=len(stack)) == 0
    return np.where(without, _of_empty(chosen(EmptyMaps, empty_maps), stack, level), entropy)


def elbow_threshold(values: Float[np.ndarray, "*n"], rule: str = "chord") -> float:
    """tau, the value at the elbow of `values` sorted ascending (the paper's "maximum curvature").

    With "chord", a curve without an elbow (constant, or a straight line) gives its smallest value, which admits
    everything; of several farthest points the first counts.

    Raises:
        DiscoveryError: no values, values that are not finite, or a curve in which `kneed` finds no knee.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    return float(flat[elbow_index(flat, rule)])


def elbow_index(values: Float[np.ndarray, "*n"], rule: str = "chord") -> int:
    """Where, in the order given (flat), the value stands that `elbow_threshold` returns. Raises as that does."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    if len(flat) == 0 or not np.isfinite(flat).all():
        raise DiscoveryError("The elbow needs at least one attention sum and only finite ones.")
    order, rule = np.argsort(flat, kind="stable"), chosen(ElbowRule, rule)
    match rule:
        case ElbowRule.chord:
            at = _farthest_from_chord(flat[order])
        case ElbowRule.kneed:
            at = _kneed(flat[order])
        case _:
            assert_never(rule)
    return int(order[at])


def _level(maps: Float[np.ndarray, "n row col"], floor: Floor, single: bool) -> tuple[np.ndarray, float | None]:
    """-> (the floor of each map [n, 1, 1], by how much a cell must exceed it; None: by anything)."""
    mean = _totals(maps, single)[:, None, None] / (maps.shape[1] * maps.shape[2])
    if floor == Floor.mean or not single:
        # A constant map's rounded mean may lie below its cells. (The released code does not look.)
        mean = np.maximum(mean, maps.min(axis=(1, 2), keepdims=True))
    match floor:
        case Floor.mean:
            return mean, None
        case Floor.relu_mean_eps:
            return mean, RELU_EPS
        case Floor.relu_2mean_eps:
            return 2 * mean, RELU_EPS
        case _:
            assert_never(floor)


def _sizes(
    maps: np.ndarray, level: np.ndarray, labels: Int[np.ndarray, "n row col"], count: int, by: Weighting, single: bool
) -> tuple[Float[np.ndarray, "component"], Float[np.ndarray, "n"]]:
    """-> (the weight of each component, of which whole)."""
    match by:
        case Weighting.area:
            areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
            return areas.astype(np.float64), (labels > 0).sum(axis=(1, 2)).astype(np.float64)
        case Weighting.mass:
            excess = np.maximum(maps - level, 0)
            return _masses(excess, labels, count, single), _totals(excess, single)
        case _:
            assert_never(by)


def _totals(maps: Float[np.ndarray, "n row col"], single: bool) -> Float[np.ndarray, "n"]:
    """Sum of each map. In 32 bits the order of the additions shows, and the released code leaves it to torch."""
    if not single:
        return maps.sum(axis=(1, 2), dtype=np.float64)
    import torch  # only here: the settings' classes load this file

    return torch.from_numpy(maps.reshape(len(maps), -1)).sum(dim=1).numpy()


def _masses(
    excess: Float[np.ndarray, "n row col"], labels: Int[np.ndarray, "n row col"], count: int, single: bool
) -> Float[np.ndarray, "component"]:
    """Sum of each component's cells."""
    if not single:
        return np.bincount(labels.ravel(), weights=excess.ravel(), minlength=count + 1)[1:]
    order = np.argsort(labels, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=count + 1))
    cells = excess.ravel()[order]
    # NumPy's own sum of each component's cells in reading order, as the released code has it.
    return np.array([cells[a:b].sum() for a, b in itertools.pairwise(ends)], dtype=np.float32)


def _of_empty(rule: EmptyMaps, maps: Float[np.ndarray, "n row col"], level: np.ndarray) -> Float[np.ndarray, "n"]:
    """The entropy of each map, had it no component."""
    match rule:
        case EmptyMaps.never:
            return np.full(len(maps), np.inf)
        case EmptyMaps.zero:
            return np.where((maps > level).any(axis=(1, 2)), 0.0, np.inf)
        case _:
            assert_never(rule)


def _farthest_from_chord(curve: Float[np.ndarray, "n"]) -> int:
    # Distance to a fixed line is proportional to the vertical gap, so no scaling of the axes matters.
    gap = np.abs(curve - np.linspace(curve[0], curve[-1], len(curve)))
    if gap.max() <= 1e-12 * max(1.0, abs(curve[-1])):
        return 0
    return int(gap.argmax())


def _kneed(curve: Float[np.ndarray, "n"]) -> int:
    from kneed import KneeLocator

    knee = KneeLocator(np.arange(len(curve)), curve, curve="convex", direction="increasing").knee
    if knee is None:
        raise DiscoveryError(
            "kneed finds no knee in the curve of attention sums: use criterion.elbow=chord or set criterion.tau."
        )
    return int(knee)
