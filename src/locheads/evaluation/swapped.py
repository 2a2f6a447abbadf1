"""Do the maps follow the words, or the picture? The control that swaps the expression and keeps the picture.

For every sample, the map of another expression about the same picture (one that means another object) is held
against the sample's own object. Heads that follow the words point at it no more often than chance; heads that mark
whatever stands out do so as often as before. Costs no forward pass: both expressions were asked anyway.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float

from locheads.evaluation.metrics import inside
from locheads.types import ImageGroup, Sample


def partners(groups: Iterable[ImageGroup]) -> dict[str, str]:
    """Sample id -> id of the next sample of its picture that means another object. Absent where there is none."""
    found = {}
    for group in groups:
        for i, sample in enumerate(group.samples):
            after = group.samples[i + 1 :] + group.samples[:i]
            other = next((s for s in after if s.box != sample.box), None)
            if other is not None:
                found[sample.sample_id] = other.sample_id
    return found


def swapped_pointing(
    predictions: pd.DataFrame, truth: dict[str, Sample], partner_of: dict[str, str]
) -> Float[np.ndarray, "n"]:
    """Per row of `predictions` 1 where its partner's peak lies in the row's own object, else 0.

    NaN where the sample has no partner, or the table no row of that partner by the same method and draw.
    """
    keys = zip(predictions["method"], predictions["draw"], predictions["sample_id"], strict=True)
    peaks = dict(zip(keys, zip(predictions["peak_x"], predictions["peak_y"], strict=True), strict=True))
    result = np.full(len(predictions), np.nan)
    for row, (method, draw, sample_id) in enumerate(predictions[["method", "draw", "sample_id"]].to_numpy()):
        point = peaks.get((method, draw, partner_of.get(sample_id)))
        if point is not None:
            result[row] = inside(None if any(pd.isna(v) for v in point) else point, truth[sample_id].box)
    return result


def box_shares(samples: Iterable[Sample]) -> Float[np.ndarray, "n"]:
    """Share of its picture that each sample's box covers: how often a random point would lie in it."""
    shares = []
    for sample in samples:
        x0, y0, x1, y1 = sample.box
        height, width = np.array(sample.mask["size"], dtype=float)
        shares.append((x1 - x0) * (y1 - y0) / (height * width))
    return np.array(shares)
