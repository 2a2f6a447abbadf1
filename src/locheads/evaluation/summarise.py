"""Predictions against the truth -> one score row per prediction -> metrics with intervals."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.map_metrics import MAP_METRICS, UNBOUNDED
from locheads.evaluation.methods import METHODS, POINTS, WITHOUT_MAP
from locheads.evaluation.slices import slices_of
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup

THRESHOLDS = (0.25, 0.5, 0.75)
"""Of box IoU: REC's Acc@t, the share of expressions whose box IoU is at least t.

At least, not above: so do the data set's authors (MAttNet `eval_dets_utils.py`), TransVG's test, Qwen-VL, InternVL,
lmms-eval and PaliGemma (big_vision `segmentation.py`); Shikra and MiniGPT-4 count `> 0.5`. It matters only where an IoU
is exactly the threshold.
"""
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of mask IoU: RES's Pr@t, the share of expressions whose mask IoU is at least t (LAVT, CVPR 2022)."""
OF_SLICES = ("rec_acc@0.5", "rec_mean_iou", "res_ciou", "res_miou", "pointing")

Ratio = tuple[Any, Any]
"""Numerators and denominators per row: a metric is the ratio of their sums."""


def score_predictions(predictions: pd.DataFrame, groups: Iterable[ImageGroup]) -> pd.DataFrame:
    """Rows of `predict` -> rows of `Truth.score`."""
    return Truth(groups).score(predictions)


def summarise(scores: pd.DataFrame, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """Per method and metric {"value", "low", "high"}, 0 to 1 (UNBOUNDED: on their own scales); intervals are over
    images, None where nothing is known of the spread.

    Draws of the random baseline count as rows of their own: the value is the mean over the draws.
    """
    by_method = dict(iter(scores.groupby("method", sort=False)))
    return {
        method: _intervals(ratios(method, by_method[method]), by_method[method], config)
        for method in METHODS
        if method in by_method
    }


def summarise_slices(scores: pd.DataFrame, method: str, config: EvaluationConfig) -> list[dict[str, Any]]:
    """The same for one method's rows, slice by slice, with the metrics of OF_SLICES."""
    return [
        {
            "by": key,
            "slice": name,
            "n_expressions": int(rows["sample_id"].nunique()),
            "n_images": int(rows["image_id"].nunique()),
            "metrics": _intervals(
                {metric: ratio for metric, ratio in ratios(method, rows).items() if metric in OF_SLICES},
                rows,
                config,
            ),
        }
        for key, name, rows in slices_of(scores[scores["method"] == method])
    ]


def ratios(method: str, rows: pd.DataFrame) -> dict[str, Ratio]:
    """Every metric of a method as numerators and denominators per row.

    cIoU (LISA; LAVT: overall IoU) is the sum of intersections over the sum of unions, so large objects weigh more; mIoU
    (LISA: gIoU) is the mean of their ratios, 0 for an empty union.
    """
    one = np.ones(len(rows))
    if method == POINTS:
        return {"pointing": (rows["pointed"], one), "pointing_chance": (rows["chance"], one)}
    iou = rows["intersection"] / rows["union"].where(rows["union"] > 0, 1)
    found: dict[str, Ratio] = {f"rec_acc@{t}": (rows["box_iou"] >= t, one) for t in THRESHOLDS}
    found |= {
        "rec_mean_iou": (rows["box_iou"], one),
        "res_ciou": (rows["intersection"], rows["union"]),
        "res_miou": (iou, one),
    }
    found |= {f"res_pr@{t}": (iou >= t, one) for t in PRECISIONS}
    if method not in WITHOUT_MAP:
        found["pointing"] = (rows["pointed"], one)
        found["pointing_swapped"] = (rows["swapped"].fillna(0), rows["swapped"].notna())
        found["pointing_chance"] = (rows["chance"], one)
        found |= {metric: (rows[metric], one) for metric in MAP_METRICS}
    return found


def _intervals(
    metrics: dict[str, Ratio], rows: pd.DataFrame, config: EvaluationConfig
) -> dict[str, dict[str, float | None]]:
    # Numbers sort faster than names, and every metric sorts them; sorted, so that the order of the rows is nothing.
    images, _ = pd.factorize(rows["image_id"], sort=True)
    found = {}
    for name, (top, bottom) in metrics.items():
        above, below = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
        bounded = name not in UNBOUNDED
        interval = ratio_interval(above, below, images, confidence=config.confidence, bounded=bounded)
        found[name] = {key: None if np.isnan(value) else value for key, value in vars(interval).items()}
    return found
