"""Heads to compare chosen ones with: others of the same layers, because what a head can change depends on its layer."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from locheads.types import HeadIndex


def others_of_layers(chosen: Sequence[HeadIndex], values: Float[np.ndarray, "layer head"]) -> tuple[HeadIndex, ...]:
    """Of every layer as many heads as are chosen there, none of them chosen: those of the lowest values (NaN last).

    Fewer where a layer has no more heads.
    """
    found = []
    for layer in sorted({head.layer for head in chosen}):
        taken = {head.head for head in chosen if head.layer == layer}
        free = [int(head) for head in np.argsort(values[layer], kind="stable") if head not in taken]
        found += [HeadIndex(layer, head) for head in free[: len(taken)]]
    return tuple(found)
