"""How much of a head's map stays where it was when the words change: overlaps and peaks of pairs of maps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from locheads.dependence.pairs import Pairs
from locheads.grounding.config import GroundingConfig, Normalise
from locheads.grounding.fuse import normalise, smoothing_matrices
from locheads.types import Overlaps


@dataclass(frozen=True)
class PairTable:
    """What was measured of pairs of expressions, for several heads (or several fused maps)."""

    image: Int[np.ndarray, "pair"]
    """Of each pair, the number of its image."""
    same: Bool[np.ndarray, "pair"]
    shares_word: Bool[np.ndarray, "pair"]
    same_token: Bool[np.ndarray, "pair"]
    """These three: see `Pairs`."""
    overlap: Float[np.ndarray, "pair *head"]
    """sum of min(P_i, P_j) of the smoothed maps P over their own sums, in [0, 1], in 16 bits."""
    stays: Bool[np.ndarray, "pair *head"]
    """Whether the peaks of both maps are at the same place, within the tolerance."""

    def only(self, pairs: Bool[np.ndarray, "pair"] | Int[np.ndarray, "chosen"]) -> "PairTable":
        """Some of the pairs: a mask, or their positions."""
        return PairTable(**{name: values[pairs] for name, values in vars(self).items()})


SHARES = GroundingConfig(normalise=Normalise.sum)
"""A map over its own sum."""
NO_PAIRS = PairTable(
    np.empty(0, dtype=int), *(np.empty(0, dtype=bool),) * 3, np.empty(0, dtype=np.float16), np.empty(0, dtype=bool)
)
"""Of one head or fused map."""


def overlaps_of(maps: Float[np.ndarray, "sample *head row col"], pairs: Pairs) -> Overlaps:
    """Of one image.

    Args:
        maps: smoothed; a map of zeros overlaps with none.
        pairs: of its samples.
    """
    shares = normalise(maps, SHARES)
    overlap = [np.minimum(shares[i], shares[j]).sum(axis=(-2, -1)) for i, j in _positions(pairs)]
    *heads, rows, cols = maps.shape[1:]
    peaks = maps.reshape(len(maps), *heads, -1).argmax(axis=-1)
    return Overlaps(
        np.array(overlap, np.float16).reshape(-1, *heads),
        peaks.astype(np.min_scalar_type(rows * cols - 1)),
        (rows, cols),
    )


def table_of(overlaps: Overlaps, pairs: Pairs, image: int, tolerance: float) -> PairTable:
    """Of one image.

    Args:
        overlaps: of its samples' maps.
        pairs: those that the overlaps are of.
        image: its number.
        tolerance: see `DependenceConfig`.
    """
    peaks = np.stack(np.divmod(overlaps.peaks.astype(int), overlaps.shape[1]), axis=-1)  # (row, col)
    near = np.maximum(1, np.rint(tolerance * np.array(overlaps.shape))).astype(int)
    stays = (np.abs(peaks[pairs.first] - peaks[pairs.second]) <= near).all(axis=-1)
    found = pairs.same, pairs.shares_word, pairs.same_token, overlaps.overlap, stays
    return PairTable(np.full(len(pairs.same), image), *found)


def joined(tables: Iterable[PairTable]) -> PairTable:
    """The pairs of several images as one. Raises ValueError without any."""
    columns = [vars(table) for table in tables]
    return PairTable(**{name: np.concatenate([column[name] for column in columns]) for name in columns[0]})


def smoothed(maps: Float[np.ndarray, "*n row col"], config: GroundingConfig) -> Float[np.ndarray, "*n row col"]:
    """As grounding smooths them, but for rounding."""
    rows, cols = (matrix.astype(maps.dtype) for matrix in smoothing_matrices(maps.shape[-2:], config))
    return rows @ maps @ cols.T


def _positions(pairs: Pairs) -> Sequence[tuple[int, int]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
