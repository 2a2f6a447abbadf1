"""Predictions against the truth -> one score row per prediction -> metrics with intervals."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from locheads.config import EvaluationConfig
from locheads.evaluation.intervals import Interval, ratio_interval
from locheads.evaluation.methods import METHODS, WITHOUT_MAP
from locheads.evaluation.metrics import box_iou, inside, mask_intersection_union
from locheads.evaluation.swapped import box_shares, partners, swapped_pointing
from locheads.types import ImageGroup, Sample

THRESHOLDS = (0.25, 0.5, 0.75)


def score_predictions(predictions: pd.DataFrame, groups: Iterable[ImageGroup]) -> pd.DataFrame:
    """Adds box_iou, intersection, union (pixels), pointed, swapped, chance and the true box to rows of `predict`.

    A prediction without a box or mask scores 0: its union is the object's own area. `swapped`: whether the map of
    another expression points at this object (see `swapped_pointing`); `chance`: the share of the picture in its box.
    """
    groups = list(groups)
    truth = {sample.sample_id: sample for group in groups for sample in group.samples}
    samples = [truth[sample_id] for sample_id in predictions["sample_id"]]
    boxes = predictions[["x0", "y0", "x1", "y1"]].astype(float)
    true_boxes = np.array([sample.box for sample in samples]).reshape(-1, 4)
    masks = [_mask_overlap(row, sample) for row, sample in zip(_records(predictions), samples, strict=True)]
    scores = predictions[["method", "draw", "sample_id", "image_id", "error"]].copy()
    scores["answered"] = boxes.notna().all(axis=1)
    scores["box_iou"] = box_iou(boxes.to_numpy(), true_boxes)
    scores["intersection"] = [intersection for intersection, _ in masks]
    scores["union"] = [union for _, union in masks]
    scores["pointed"] = [_pointed(row, sample) for row, sample in zip(_records(predictions), samples, strict=True)]
    scores["swapped"] = swapped_pointing(predictions, truth, partners(groups))
    scores["chance"] = box_shares(samples)
    scores[["true_x0", "true_y0", "true_x1", "true_y1"]] = true_boxes
    return scores


def summarise(scores: pd.DataFrame, config: EvaluationConfig, seed: int) -> dict[str, dict[str, Any]]:
    """Per method and metric {"value", "low", "high"}, 0 to 1; intervals resample pictures.

    Draws of the random baseline count as rows of their own: the value is the mean over the draws.
    """
    by_method = dict(iter(scores.groupby("method", sort=False)))
    return {method: _metrics(method, by_method[method], config, seed) for method in METHODS if method in by_method}


def _metrics(method: str, rows: pd.DataFrame, config: EvaluationConfig, seed: int) -> dict[str, Any]:
    one = np.ones(len(rows))
    ratios: dict[str, tuple[Any, Any]]
    iou = rows["intersection"] / rows["union"].where(rows["union"] > 0, 1)
    ratios = {f"rec_acc@{t}": (rows["box_iou"] >= t, one) for t in THRESHOLDS}
    ratios |= {
        "rec_mean_iou": (rows["box_iou"], one),
        "res_ciou": (rows["intersection"], rows["union"]),
        "res_miou": (iou, one),
    }
    if method not in WITHOUT_MAP:
        ratios["pointing"] = (rows["pointed"], one)
        ratios["pointing_swapped"] = (rows["swapped"].fillna(0), rows["swapped"].notna())
        ratios["pointing_chance"] = (rows["chance"], one)
    return {name: _interval(top, bottom, rows, config, seed) for name, (top, bottom) in ratios.items()}


def _interval(top: Any, bottom: Any, rows: pd.DataFrame, config: EvaluationConfig, seed: int) -> dict[str, float]:
    result: Interval = ratio_interval(
        np.asarray(top, dtype=float),
        np.asarray(bottom, dtype=float),
        rows["image_id"].to_numpy(),
        confidence=config.confidence,
        resamples=config.resamples,
        seed=seed,
    )
    return {"value": result.value, "low": result.low, "high": result.high}


def _mask_overlap(row: Any, sample: Sample) -> tuple[int, int]:
    if not isinstance(row["mask_counts"], str):
        return 0, int(coco.area(sample.mask))
    code = {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]}
    return mask_intersection_union(code, sample.mask)


def _pointed(row: Any, sample: Sample) -> bool:
    point = (row["peak_x"], row["peak_y"])
    return inside(None if any(pd.isna(v) for v in point) else point, sample.box)


def _records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.to_dict("records")
