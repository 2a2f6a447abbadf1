"""How the run's own method differs from each other one, on the same expressions: paired differences with intervals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from locheads.errors import StoreError
from locheads.evaluation.intervals import difference_ends, sum_ratio, sums_per_image
from locheads.evaluation.metric_table import Metric, measured
from locheads.records.metrics_file import MetricsRecord
from locheads.records.receipt_file import refuse_changed
from locheads.records.record_base import own_file
from locheads.text import reason

SCORES = "scores.parquet"
Pairs = Mapping[str, Mapping[str, tuple[float, float, float]]]
"""Method -> metric -> (own - method's, low, high), unscaled."""


def read_pairs(folder: Path, metrics: MetricsRecord) -> Pairs:
    """The paired differences of a run, from its scores.parquet.

    Raises StoreError where that is not there, is not what the run wrote, or cannot be read.
    """
    if not (folder / SCORES).exists():
        raise StoreError(f"{folder} has no {SCORES}: finish the run with stage=evaluate or later.")
    refuse_changed(folder, [SCORES])
    own = metrics.own()
    try:
        scores = pd.read_parquet(own_file(folder, SCORES))
        return {} if own is None else paired(scores, own, metrics.confidence)
    # pyarrow raises its own errors, OSError or ValueError, by where the damage is; a column that lacks is a KeyError.
    except Exception as error:
        raise StoreError(f"{folder / SCORES} cannot be read ({reason(error)}): run that evaluation again.") from error


def paired(scores: pd.DataFrame, own: str, confidence: float) -> Pairs:
    """Rows of `Truth.score` of several methods -> the differences of `own` from each other method that answered the
    very same expressions, in the metrics that lie in [0, 1] and that both have.

    Draws of random heads are averaged per expression.
    """
    rows = {str(method): of_it for method, of_it in scores.groupby("method", sort=False)}
    ours = rows.pop(own)
    images = pd.Index(np.unique(ours["image_id"]))
    of_ours = {metric.key: metric for metric in measured(own, scores.columns) if metric.bounded}
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for method, theirs in rows.items():
        if set(theirs["sample_id"]) != set(ours["sample_id"]):
            continue
        both = [metric for metric in measured(method, scores.columns) if metric.key in of_ours]
        found[method] = {m.key: _difference(m, theirs, ours, images, confidence) for m in both}
    return found


def _difference(
    metric: Metric, theirs: pd.DataFrame, ours: pd.DataFrame, images: pd.Index, confidence: float
) -> tuple[float, float, float]:
    a, b = (_sums(metric, rows, images) for rows in (theirs, ours))
    low, high = map(float, difference_ends(a, b, confidence))
    return float(sum_ratio(*b) - sum_ratio(*a)), low, high


def _sums(metric: Metric, rows: pd.DataFrame, images: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators per image."""
    draws = len(rows) / rows["sample_id"].nunique()
    top, bottom = sums_per_image(*metric.parts(rows), images.get_indexer(pd.Index(rows["image_id"])))
    return top / draws, bottom / draws
