"""How much each head depends on the words, from pairs of its maps (docs/dependence.md)."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float

from locheads.dependence.overlaps import PairTable


@dataclass(frozen=True)
class HeadDependence:
    """Of every head; NaN where there are no pairs to tell it from."""

    dependence: Float[np.ndarray, "*head"]
    """D = 1 - mean overlap of other pairs / mean overlap of same pairs. 0: the map is the same whatever is asked; 1:
    the maps of two objects have nothing in common. Below 0 where other words for one object change more than another
    object does."""
    lex: Float[np.ndarray, "*head"]
    """D from same pairs without a common word and other pairs with one: above 0 for heads that follow the object and
    not the wording."""
    auc: Float[np.ndarray, "*head"]
    """Probability that a same pair overlaps more than an other pair; ties count half."""
    stays_same: Float[np.ndarray, "*head"]
    """Share of same pairs whose peaks are at the same place."""
    stays_other: Float[np.ndarray, "*head"]

    @property
    def gap(self) -> Float[np.ndarray, "*head"]:
        """The peak gap: stays_same - stays_other."""
        return np.asarray(self.stays_same - self.stays_other)

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, for what is kept and written."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def head_dependence(table: PairTable) -> HeadDependence:
    """Every number from the pairs whose attention was taken from the same token."""
    pairs = table.only(table.same_token)
    same, other = pairs.same, ~pairs.same
    return HeadDependence(
        dependence=_dependence(pairs, same, other),
        lex=_dependence(pairs, same & ~pairs.shares_word, other & pairs.shares_word),
        auc=_auc(pairs.overlap[same], pairs.overlap[other]),
        stays_same=_mean(pairs.stays[same]),
        stays_other=_mean(pairs.stays[other]),
    )


def _dependence(
    pairs: PairTable, same: Bool[np.ndarray, "pair"], other: Bool[np.ndarray, "pair"]
) -> Float[np.ndarray, "*head"]:
    """0 for a head whose maps are empty: it depends on nothing."""
    of_same, of_other = _mean(pairs.overlap[same]), _mean(pairs.overlap[other])
    return np.asarray(1 - np.divide(of_other, of_same, out=np.ones(of_same.shape), where=of_same != 0))


def _mean(values: np.ndarray) -> Float[np.ndarray, "*head"]:
    if len(values) == 0:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.mean(axis=0, dtype=np.float64))


def _auc(same: Float[np.ndarray, "a *head"], other: Float[np.ndarray, "b *head"]) -> Float[np.ndarray, "*head"]:
    """Mann and Whitney's U over the number of pairs of pairs."""
    heads = same.shape[1:]
    if len(same) == 0 or len(other) == 0:
        return np.full(heads, np.nan)
    columns = zip(same.reshape(len(same), -1).T, other.reshape(len(other), -1).T, strict=True)
    return np.array([_larger(np.sort(b), a) for a, b in columns]).reshape(heads)


def _larger(ordered: Float[np.ndarray, "b"], values: Float[np.ndarray, "a"]) -> float:
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(ordered)))
