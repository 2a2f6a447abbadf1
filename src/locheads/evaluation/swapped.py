"""Do the maps follow the words, or the image? The control that swaps the expression and keeps the image.

For every sample, the map of another expression about the same image (one that means another object) is held
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
    """Sample id -> id of the next sample of its image that means another object. Absent where there is none."""
    found = {}
    for group in groups:
        for i, sample in enumerate(group.samples):
            after = group.samples[i + 1 :] + group.samples[:i]
            other = next((s for s in after if s.box != sample.box), None)
            if other is not None:
                found[sample.sample_id] = other.sample_id
    return found


def swapped_pointing(
    predictions: pd.DataFrame, true_boxes: Float[np.ndarray, "n 4"], partner_of: dict[str, str]
) -> Float[np.ndarray, "n"]:
    """Per row of `predictions` 1 where its partner's peak lies in the row's own object, else 0.

    NaN where the sample has no partner, or the table no row of that partner by the same method and draw.
    """
    methods, draws, ids = (predictions[key].tolist() for key in ("method", "draw", "sample_id"))
    row_of = {key: row for row, key in enumerate(zip(methods, draws, ids, strict=True))}
    others = (partner_of.get(sample_id) for sample_id in ids)
    partner = np.array([row_of.get(key, -1) for key in zip(methods, draws, others, strict=True)], dtype=int)
    peaks = predictions[["peak_x", "peak_y"]].to_numpy(dtype=float)[partner]
    return np.where(partner < 0, np.nan, inside(peaks, true_boxes))


def box_shares(samples: Iterable[Sample]) -> Float[np.ndarray, "n"]:
    """Share of its image that each sample's box covers: how often a random point of it would lie in the box."""
    shares = []
    for sample in samples:
        height, width = np.array(sample.mask["size"], dtype=float)
        # Within the image: boxes of data sets may leave it, but no point does.
        x0, y0, x1, y1 = np.clip(sample.box, 0, [width, height, width, height])
        shares.append((x1 - x0) * (y1 - y0) / (height * width))
    return np.array(shares)
