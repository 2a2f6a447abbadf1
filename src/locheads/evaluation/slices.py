"""Groups of expressions that are reported apart, because a mean over a split hides what a method cannot do."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from locheads.types import Sample

SPATIAL_WORDS = frozenset(
    [
        "left", "leftmost", "right", "rightmost", "top", "bottom", "upper", "lower", "middle", "center", "centre",
        "central", "front", "back", "background", "foreground", "behind", "far", "farthest", "furthest", "near",
        "nearest", "close", "closest", "next", "beside", "between", "above", "below", "under", "beneath", "over",
        "side", "corner", "edge", "end", "row",
    ]
)  # fmt: skip
"""Words of place. "in" and "on" are not among them: people in RefCOCO say "in red", too."""

SLICES = {
    "area": "Share of the image",
    "same_category": "Objects of its category",
    "words": "Words of the expression",
    "spatial": "Words of place",
}
"""In the order of the tables."""

_INFINITE = float("inf")
_LIMITS = {
    "area": ("area_share", {"under 5 %": 0.05, "5 to 10 %": 0.1, "10 to 20 %": 0.2, "20 % and more": _INFINITE}),
    "same_category": ("same_category", {"1": 2, "2": 3, "3": 4, "4 and more": _INFINITE}),
    "words": ("n_words", {"1 to 2": 3, "3 to 4": 5, "5 to 7": 8, "8 and more": _INFINITE}),
    "spatial": ("not_spatial", {"with": 1, "without": _INFINITE}),
}
"""Column, and name of a slice -> what its members stay below; each slice begins where the one before ends."""
_UNKNOWN = "unknown"


def facts(sample: Sample, area: int) -> tuple[float, float, int, bool]:
    """(share of the image, objects of its category or NaN, words, whether one is of place); `area` in pixels."""
    height, width = np.array(sample.mask["size"], dtype=float)
    same = np.nan if sample.same_category is None else float(sample.same_category)
    words = sample.expression.split()
    spatial = not SPATIAL_WORDS.isdisjoint(re.findall(r"[a-z]+", sample.expression.lower()))
    return area / (height * width), same, len(words), spatial


FACTS = ("area_share", "same_category", "n_words", "spatial")
"""The columns of scores.parquet that hold what `facts` returns."""


def slices_of(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(key of SLICES, name of the slice, its rows) of every slice that has rows, in the order of the tables."""
    values = scores.assign(not_spatial=~scores["spatial"].astype(bool))
    for key, (column, below) in _LIMITS.items():
        # NaN sorts behind every limit, infinity included.
        places = np.searchsorted([*below.values()], values[column].to_numpy(dtype=float), side="right")
        for place, name in enumerate((*below, _UNKNOWN)):
            if len(rows := scores[places == place]):
                yield key, name, rows
