"""The numbers of a head: what one attention map says without ground truth, as in the paper and in the released code.

How much the head looks at the image at all (`attention_sum`), how concentrated its look is (`spatial_entropy`), and how
much falls on the bottom row. `NUMBERS` is the table of those that are worked out for every head; what a criterion reads
besides stands with the criterion (`discovery/criteria.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from locheads.connected import Connected, connected
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


BLOCK = 256
"""Maps whose components are found at once: what is worked out of so many stays in a processor's cache, which takes half
the time of all maps of an image at once."""
RELU_EPS = 0.001
"""The released code's absolute threshold on the rectified map. It makes C0 and C1 depend on the grid's size."""


def attention_sum(maps: Float[np.ndarray, "*n row col"]) -> Float[np.ndarray, "*n"]:
    """S_img, the attention that a head spends on the image: the sum of its map. In [0, 1]."""
    return maps.sum(axis=(-2, -1))


def bottom_row_peak(maps: Float[np.ndarray, "*n row col"]) -> Float[np.ndarray, "*n"]:
    """The largest weight in the map's bottom row, by which the released code C1 filters."""
    return maps[..., -1, :].max(axis=-1)


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
    options = {"floor": floor, "weighting": weighting, "empty_maps": empty_maps, "precision": precision}
    return spatial_entropies(maps, [options])[0]


def spatial_entropies(
    maps: Float[np.ndarray, "n row col"], ways: Sequence[Mapping[str, str]]
) -> list[Float[np.ndarray, "n"]]:
    """`spatial_entropy` with each of these options, which have to be complete; of those that share a floor and a
    precision, the components are found once."""
    blocks = [_entropies(maps[start : start + BLOCK], ways) for start in range(0, max(len(maps), 1), BLOCK)]
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def _entropies(maps: Float[np.ndarray, "n row col"], ways: Sequence[Mapping[str, str]]) -> list[Float[np.ndarray, "n"]]:
    floors: dict[tuple[Any, ...], _Floored] = {}
    found: dict[tuple[str, str], _Parts] = {}
    entropies = []
    for options in ways:
        floor, precision = chosen(Floor, options["floor"]), chosen(Precision, options["precision"])
        if (floor, precision) not in found:
            times, least = _FLOORS[floor]
            how = times, floor == Floor.mean or precision == Precision.float64, precision == Precision.float32
            floors[how] = floors.get(how) or _Floored.of(maps, *how)
            found[floor, precision] = _Parts(floors[how], least)
        by, of_empty = chosen(Weighting, options["weighting"]), chosen(EmptyMaps, options["empty_maps"])
        entropies.append(found[floor, precision].entropy(by, of_empty))
    return entropies


_FLOORS = {Floor.mean: (1, None), Floor.relu_mean_eps: (1, RELU_EPS), Floor.relu_2mean_eps: (2, RELU_EPS)}
"""How many times the mean the floor is, and by how much a cell must exceed it; None: by anything."""


@dataclass(frozen=True)
class _Floored:
    """A stack of maps and the floor of each; what follows is worked out where it is asked for."""

    maps: Float[np.ndarray, "n row col"]
    level: Float[np.ndarray, "n 1 1"]
    single: bool
    """Whether it is worked out in 32 bits."""

    @staticmethod
    def of(maps: Float[np.ndarray, "n row col"], times: int, raised: bool, single: bool) -> "_Floored":
        stack = np.asarray(maps)
        if single:
            stack = stack.astype(np.float32, copy=False)
        mean = _totals(stack, single)[:, None, None] / (stack.shape[1] * stack.shape[2])
        if raised:
            # A constant map's rounded mean may lie below its cells. (The released code does not look.)
            mean = np.maximum(mean, stack.min(axis=(1, 2), keepdims=True))
        return _Floored(stack, times * mean, single)

    @cached_property
    def excess(self) -> Float[np.ndarray, "n row col"]:
        """By how much a cell exceeds the floor of its map, negative where it does not."""
        return self.maps - self.level

    @cached_property
    def mass(self) -> Float[np.ndarray, "n"]:
        """Of each map what exceeds its floor."""
        return _totals(np.maximum(self.excess, 0), self.single)


@dataclass(frozen=True)
class _Parts:
    """The components of the cells that exceed the floor by more than `least`."""

    floored: _Floored
    least: float | None

    @cached_property
    def cells(self) -> Bool[np.ndarray, "n row col"]:
        """Those of the components."""
        over = self.floored
        return over.maps > over.level if self.least is None else over.excess > self.least

    @cached_property
    def components(self) -> Connected:
        return connected(self.cells)

    def entropy(self, by: Weighting, empty_maps: EmptyMaps) -> Float[np.ndarray, "n"]:
        owner, n = self.components.owner, len(self.cells)
        sizes, totals = self._sizes(by)
        share = sizes / totals[owner]
        entropy = np.zeros(n, dtype=share.dtype)
        np.subtract.at(entropy, owner, share * np.log(share))  # one after the other, in reading order
        if not self.floored.single:
            entropy = np.maximum(entropy, 0.0)
        of_empty = np.full(n, np.inf)
        if empty_maps == EmptyMaps.zero:
            of_empty[(self.floored.maps > self.floored.level).any(axis=(1, 2))] = 0.0
        return np.where(np.bincount(owner, minlength=n) == 0, of_empty, entropy)

    def _sizes(self, by: Weighting) -> tuple[Float[np.ndarray, "component"], Float[np.ndarray, "n"]]:
        """-> (the weight of each component, of which whole)."""
        components = self.components
        if by == Weighting.area:
            areas = components.areas.astype(np.float64)
            return areas, np.bincount(components.owner, weights=areas, minlength=len(self.cells)).astype(np.float64)
        over = self.floored
        return _masses(over.excess.ravel()[components.cells], components, over.single), over.mass


def _totals(maps: Float[np.ndarray, "n row col"], single: bool) -> Float[np.ndarray, "n"]:
    """Sum of each map. In 32 bits the order of the additions shows, and the released code leaves it to torch."""
    if not single:
        return maps.sum(axis=(1, 2), dtype=np.float64)
    import torch  # only here: the settings' classes load this file

    return torch.from_numpy(maps.reshape(len(maps), -1)).sum(dim=1).numpy()


def _masses(excess: Float[np.ndarray, "cell"], components: Connected, single: bool) -> Float[np.ndarray, "component"]:
    """Sum of each component's cells."""
    if not single:
        masses = np.bincount(components.of_cells, weights=excess, minlength=len(components.areas))
        return masses.astype(np.float64, copy=False)  # of no cells NumPy gives integers
    cells = excess[np.argsort(components.of_cells, kind="stable")]
    ends = np.cumsum(components.areas)
    # NumPy's own sum of each component's cells in reading order, as the released code has it.
    return np.array([cells[b - a : b].sum() for a, b in zip(components.areas, ends, strict=True)], dtype=np.float32)


@dataclass(frozen=True)
class Number:
    """A number of every head and sample, worked out from its attention map."""

    name: str
    of_maps: Callable[..., np.ndarray]
    """(maps [n, row, col], **options) -> [n]."""
    options: tuple[str, ...] = ()
    """Settings of the criterion, by name, that `of_maps` takes and on which the number depends."""
    dtype: type = np.float64

    def of(self, maps: Float[np.ndarray, "*n row col"], settings: object) -> Float[np.ndarray, "*n"]:
        """The number of each map; `settings` has the options as attributes.

        Raises:
            DiscoveryError: `of_maps` does not give one number per map.
        """
        flat = maps.reshape(-1, *maps.shape[-2:])
        found: np.ndarray = np.asarray(
            self.of_maps(flat, **{name: getattr(settings, name) for name in self.options}), self.dtype
        )
        if found.shape != (len(flat),):
            raise DiscoveryError(
                f"The number {self.name} of {len(flat)} attention maps has the shape {found.shape}: its function must "
                "return one number per map."
            )
        return found.reshape(maps.shape[:-2])


ENTROPY = Number("entropy", spatial_entropy, ("floor", "weighting", "empty_maps", "precision"))
NUMBERS = (
    Number("sums", attention_sum, dtype=np.float32),
    ENTROPY,
    Number("bottom_row", bottom_row_peak, dtype=np.float32),
)
"""Those of every head, whatever the criterion."""
