"""How good the points are that a segmenter is asked with: held against the true mask, whatever is made of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco

from locheads.evaluation.metric_table import WITHOUT_MAP
from locheads.evaluation.rows import Row
from locheads.segmenters.config import Negatives, SegmenterConfig
from locheads.segmenters.segmenter import Point
from locheads.types import ImageGroup


def point_shares(
    rows: Sequence[Row], groups: Sequence[ImageGroup], config: SegmenterConfig
) -> dict[str, Float[np.ndarray, "n"]]:
    """Per row of `segment_rows`: `points_inside`, the share of the points on the object that lie in its true mask, and
    `points_beside`, the share of those beside it that lie outside. Nothing where such points are not asked.

    A row for which nothing was asked scores 0. The second is NaN of a method without a map to take such points from.
    """
    if not config.asks_points:
        return {}
    # Several expressions mean one object.
    codes = {sample.sample_id: sample.mask for group in groups for sample in group.samples}
    masks = {str(code["counts"]): coco.decode(code).astype(bool) for code in codes.values()}
    true = [masks[str(codes[row["sample_id"]]["counts"])] for row in rows]
    prompts = [row["asked"] for row in rows]
    inside = [0.0 if p is None else _share(p.points, mask) for p, mask in zip(prompts, true, strict=True)]
    if config.negatives == Negatives.none:
        return {"points_inside": np.array(inside)}
    beside = [
        np.nan if row["method"] in WITHOUT_MAP else 0.0 if prompt is None else _share(prompt.negatives, ~mask)
        for row, prompt, mask in zip(rows, prompts, true, strict=True)
    ]
    return {"points_inside": np.array(inside), "points_beside": np.array(beside)}


def _share(points: Sequence[Point], mask: Bool[np.ndarray, "height width"]) -> float:
    """Of the points in pixels (x, y) those whose pixel is True; a point on the far edge belongs to the last pixel."""
    at = np.minimum(np.floor(np.array(points)).astype(int), (mask.shape[1] - 1, mask.shape[0] - 1))
    return float(mask[at[:, 1], at[:, 0]].mean())
