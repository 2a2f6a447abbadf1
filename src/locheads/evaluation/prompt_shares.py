"""How good a prompt is that a segmenter is asked with: held against the true mask, whatever is made of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from locheads.data.masks import decoded
from locheads.evaluation.metric_table import WITHOUT_MAP
from locheads.evaluation.metrics import box_iou
from locheads.evaluation.rows import Row
from locheads.segmenters.config import Negatives, SegmenterConfig
from locheads.segmenters.segmenter import Point, Prompt, pixels_of
from locheads.types import ImageGroup, Sample

Mask = Bool[np.ndarray, "height width"]


def asked_shares(config: SegmenterConfig) -> tuple[str, ...]:
    """What can be told of prompts by these settings: `points_inside`, the share of the points on the object that lie in
    its true mask; `points_beside`, the share of those beside it that lie outside; `box_covers`, the share of the true
    mask that the asked box covers; `asked_box_iou`, that box's IoU with the true one."""
    points = ("points_inside",) if config.negatives == Negatives.none else ("points_inside", "points_beside")
    return points * config.asks_points + ("box_covers", "asked_box_iou") * config.asks_box


def prompt_shares(
    rows: Sequence[Row], groups: Sequence[ImageGroup], config: SegmenterConfig
) -> dict[str, Float[np.ndarray, "n"]]:
    """`asked_shares` per row of `segment_rows`.

    A row for which nothing was asked scores 0. `points_beside` is NaN of a method without a map to take them from.
    """
    samples = {sample.sample_id: sample for group in groups for sample in group.samples}
    true = decoded(samples.values())
    found = [share_of(row["asked"], samples[row["sample_id"]], true, config) for row in rows]
    shares = {name: np.array([own[name] for own in found]) for name in asked_shares(config)}
    if "points_beside" in shares:
        shares["points_beside"][[row["method"] in WITHOUT_MAP for row in rows]] = np.nan
    return shares


def share_of(
    prompt: Prompt | None, sample: Sample, masks: dict[str, Mask], config: SegmenterConfig
) -> dict[str, float]:
    """`asked_shares` of one answer, all 0 where nothing was asked. `masks`: see `decoded`."""
    names = asked_shares(config)
    if prompt is None:
        return dict.fromkeys(names, 0.0)
    true = masks[str(sample.mask["counts"])]
    make = {
        "points_inside": lambda: _share(prompt.points, true),
        "points_beside": lambda: _share(prompt.negatives, ~true),
        "box_covers": lambda: float(true[pixels_of(prompt.box)].sum() / max(true.sum(), 1)),
        "asked_box_iou": lambda: float(box_iou(np.array([prompt.box]), np.array([sample.box]))[0]),
    }
    return {name: make[name]() for name in names}


def _share(points: Sequence[Point], mask: Mask) -> float:
    """Of the points in pixels (x, y) those whose pixel is True; a point on the far edge belongs to the last pixel."""
    if not points:
        return 0.0
    at = np.minimum(np.floor(np.array(points)).astype(int), (mask.shape[1] - 1, mask.shape[0] - 1))
    return float(mask[at[:, 1], at[:, 0]].mean())
