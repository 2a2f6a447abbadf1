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

NEGATIONS = frozenset(
    ["no", "not", "non", "none", "nothing", "nobody", "never", "neither", "nor", "without", "cannot", "cant", "isn",
     "isnt", "aren", "arent", "wasn", "wasnt", "don", "dont", "doesn", "doesnt", "didn", "didnt", "hasn", "hasnt"]
)  # fmt: skip
"""Words that say what an object is not, also as people type them: of "isn't" the letters before the apostrophe."""

SLICES = {
    "objects": "Objects that are named",
    "review": "Review of the expression",
    "area": "Share of the image",
    "distractors": "Distractors",
    "words": "Words of the expression",
    "spatial": "Words of place",
    "negation": "Negation",
}
"""In the order of the tables."""

_INFINITE = float("inf")
_LIMITS = {
    "objects": ("n_objects", {"none": 1, "one": 2, "two": 3, "three and more": _INFINITE}),
    "review": ("faulty", {"clean": 1, "faulty": _INFINITE}),
    "area": ("area_share", {"under 5 %": 0.05, "5 to 10 %": 0.1, "10 to 20 %": 0.2, "20 % and more": _INFINITE}),
    # From 2 on those of Ref-Adv (arXiv 2602.23898), whose expressions have no fewer.
    "distractors": ("distractors", {"0": 1, "1": 2, "2 to 3": 4, "4 to 6": 7, "7 and more": _INFINITE}),
    "words": ("n_words", {"1 to 2": 3, "3 to 4": 5, "5 to 7": 8, "8 and more": _INFINITE}),
    "spatial": ("spatial", {"without": 1, "with": _INFINITE}),
    "negation": ("negation", {"without": 1, "with": _INFINITE}),
}
"""Column, and name of a slice -> what its members stay below; each slice begins where the one before ends."""
_UNKNOWN = "unknown"


def facts(sample: Sample, area: int) -> tuple[float, float, float, int, bool, bool]:
    """The values of FACTS, NaN where nothing is known; `area` of the object in pixels."""
    height, width = np.array(sample.mask["size"], dtype=float)
    letters = re.findall(r"[a-z]+", sample.expression.lower())
    negation = not NEGATIONS.isdisjoint(letters) if sample.negation is None else sample.negation
    spatial = not SPATIAL_WORDS.isdisjoint(letters)
    faulty, others = (np.nan if value is None else float(value) for value in (sample.faulty, sample.distractors))
    share = np.nan if sample.absent else area / (height * width)
    return faulty, others, share, len(sample.expression.split()), spatial, negation


FACTS = ("faulty", "distractors", "area_share", "n_words", "spatial", "negation")
"""The columns of scores.parquet that hold what `facts` returns."""


def slices_of(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(key of SLICES, name of the slice, its rows) of every slice that has rows, in the order of the tables; none of a
    kind of which nothing is known."""
    for key, (column, below) in _LIMITS.items():
        if column not in scores:
            continue
        values = scores[column].to_numpy(dtype=float)
        if np.isnan(values).all():
            continue
        # NaN sorts behind every limit, infinity included.
        places = np.searchsorted([*below.values()], values, side="right")
        for place, name in enumerate((*below, _UNKNOWN)):
            if len(rows := scores[places == place]):
                yield key, name, rows
