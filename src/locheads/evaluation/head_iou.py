"""How well each single head's binarised map covers the object: the paper's Fig. 6, and the best of them.

Uses ground truth, on the discovery samples. Nothing that grounds a sample reads it, except that baseline.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco
from scipy.stats import spearmanr

from locheads.grounding.fuse import binarise
from locheads.types import Attention, CompactAttention, Discovery, HeadIndex, ImageGroup

MIN_FREQUENCY = 0.01
"""Fig. 6 leaves out heads that fewer than 1 % of the samples choose."""


def head_iou(
    attentions: Iterable[Attention | CompactAttention], groups: Iterable[ImageGroup]
) -> Float[np.ndarray, "layer head"]:
    """Mean over the samples of the IoU of each head's map (> mean, no smoothing) with the object's mask.

    Computed on the grid as an exact area integral: every cell counts the object's pixels that it holds. What a
    crop hides of the object counts in the union.
    """
    truth = {sample.sample_id: sample.mask for group in groups for sample in group.samples}
    total, count = None, 0
    for attention in attentions:
        cells = binarise(attention.maps) if isinstance(attention, Attention) else attention.cells
        if cells is None:
            continue
        pixels = attention.geometry.cell_pixels()
        for sample_id, of_sample in zip(attention.sample_ids, cells, strict=True):
            mask = coco.decode(truth[sample_id]).astype(bool)
            iou = _iou(of_sample, attention.geometry.coverage(mask), pixels, int(mask.sum()))
            total, count = iou if total is None else total + iou, count + 1
    if total is None:
        raise ValueError("head_iou needs at least one sample")
    return total / count


def best_heads_by_iou(iou: Float[np.ndarray, "layer head"], k: int) -> list[HeadIndex]:
    """The k heads of the whole model whose own maps cover the objects best; ties by (layer, head). Other heads may
    ground better: a map that covers an object is not yet a box, and the sum of maps is none of them."""
    order = np.argsort(-iou, axis=None, kind="stable")[:k]
    return [HeadIndex(*divmod(int(i), iou.shape[1])) for i in order]


def figure6(discovery: Discovery, iou: Float[np.ndarray, "layer head"]) -> dict[str, Any]:
    """Spearman correlation of selection frequency with IoU over the heads that >= 1 % of the samples choose.

    Positive where heads that are chosen more often cover the object better. None where fewer than three heads
    remain or one of the two is constant.
    """
    heads = [head for head in discovery.ranking() if discovery.frequency_mean[head.layer, head.head] >= MIN_FREQUENCY]
    points = [
        {
            "layer": head.layer,
            "head": head.head,
            "frequency": float(discovery.frequency_mean[head.layer, head.head]),
            "iou": float(iou[head.layer, head.head]),
        }
        for head in heads
    ]
    frequencies, ious = ([point[key] for point in points] for key in ("frequency", "iou"))
    if len(points) < 3 or len(set(frequencies)) == 1 or len(set(ious)) == 1:
        return {"spearman": None, "p_value": None, "n_heads": len(points), "points": points}
    result = spearmanr(frequencies, ious)
    return {
        "spearman": float(result.statistic),
        "p_value": float(result.pvalue),
        "n_heads": len(points),
        "points": points,
    }


def _iou(
    cells: Bool[np.ndarray, "layer head row col"],
    coverage: Float[np.ndarray, "row col"],
    pixels: Float[np.ndarray, "row col"],
    object_pixels: int,
) -> Float[np.ndarray, "layer head"]:
    intersection = np.tensordot(cells, coverage, axes=2)
    union = np.tensordot(cells, pixels, axes=2) + object_pixels - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
