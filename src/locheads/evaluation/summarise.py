"""Score rows (`Truth.score`) -> metrics with intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.metric_table import METHODS, OBJECTS, Metric, Place, measured, shown
from locheads.evaluation.slices import slices_of


def summarise(scores: pd.DataFrame, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """Per method and metric {"value", "low", "high"}, unscaled; intervals are over images, None where nothing is known
    of the spread.

    Draws of the random baseline count as rows of their own: the value is the mean over the draws.
    """
    by_method = dict(iter(scores.groupby("method", sort=False)))
    return {
        method: _intervals({m.key: m for m in measured(method, scores.columns)}, by_method[method], config)
        for method in METHODS
        if method in by_method
    }


def summarise_slices(scores: pd.DataFrame, method: str, config: EvaluationConfig) -> list[dict[str, Any]]:
    """The same for one method's rows, slice by slice."""
    metrics = {m.key: m for m in measured(method, scores.columns) if m.key in shown(Place.SLICES)}
    return [
        {
            "by": key,
            "slice": name,
            "n_expressions": int(rows["sample_id"].nunique()),
            "n_images": int(rows["image_id"].nunique()),
            "metrics": _intervals(metrics, rows, config),
        }
        for key, name, rows in slices_of(scores[scores["method"] == method])
    ]


def _intervals(
    metrics: Mapping[str, Metric], rows: pd.DataFrame, config: EvaluationConfig
) -> dict[str, dict[str, float | None]]:
    # Numbers sort faster than names, and every metric sorts them; sorted, so that the order of the rows is nothing.
    images, _ = pd.factorize(rows["image_id"], sort=True)
    found = {}
    for key, metric in metrics.items():
        parts = metric.parts(rows)
        if OBJECTS in rows and not parts[1].any():
            continue  # it speaks of none of these expressions
        interval = ratio_interval(*parts, images, confidence=config.confidence, bounded=metric.bounded)
        found[key] = {end: None if np.isnan(value) else value for end, value in vars(interval).items()}
    return found
