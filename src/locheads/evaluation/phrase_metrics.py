"""How phrases of captions are scored: Flickr30k Entities by boxes, Panoptic Narrative Grounding (PNG) by masks."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools import mask as coco
from scipy.sparse import csr_array

from locheads.evaluation.metrics import box_iou
from locheads.types import Box


def best_box_iou(boxes: Float[np.ndarray, "n 4"], truths: Sequence[Sequence[Box]]) -> Float[np.ndarray, "n"]:
    """IoU of box i with whichever of `truths[i]` it fits best; 0 for none."""
    counts = np.array([len(truth) for truth in truths], dtype=int)
    flat = np.array([box for truth in truths for box in truth], dtype=np.float64).reshape(-1, 4)
    owner = np.repeat(np.arange(len(truths)), counts)
    best = np.zeros(len(truths))
    np.maximum.at(best, owner, box_iou(boxes[owner], flat))
    return best


def resized_mask_iou(prediction: dict[str, Any], truth: dict[str, Any], side: int) -> float:
    """IoU of two masks in run-length code that were resized to a square of this side and back, and are soft: the sum of
    p t over that of p + t - p t (PNG's `compute_mask_IoU`, `Resize((256, 256))` of torchvision 0.8: bilinear, without
    smoothing before it). 0 where both are empty."""
    window = _window([prediction, truth], side)
    p, t = (_resized(coco.decode(code), side, window) for code in (prediction, truth))
    shared = float((p * t).sum())
    union = float(p.sum() + t.sum()) - shared
    return shared / union if union > 0 else 0.0


def _window(codes: list[dict[str, Any]], side: int) -> tuple[slice, slice]:
    """Rows and columns around the masks, beyond which they stay 0 when they are resized: time goes with this area."""
    boxes = np.array([coco.toBbox(code) for code in codes])
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    height, width = codes[0]["size"]
    reach = [math.ceil(n / side) + 3 for n in (width, height)]
    (x0, y0), (x1, y1) = np.maximum(low - reach, 0).astype(int), (high + reach).astype(int)
    return slice(y0, min(y1, height)), slice(x0, min(x1, width))


def _resized(mask: np.ndarray, side: int, window: tuple[slice, slice]) -> Float[np.ndarray, "rows columns"]:
    """The soft mask in the window."""
    rows, columns = (_there_and_back(n, side)[part, part] for n, part in zip(mask.shape, window, strict=True))
    return np.asarray(columns @ (rows @ mask[window].astype(np.float64)).T).T


@lru_cache(maxsize=256)
def _there_and_back(n: int, side: int) -> csr_array:
    """[n, n]: n pixels resized to `side` and back."""
    return csr_array(_bilinear(side, n) @ _bilinear(n, side))


def _bilinear(n: int, to: int) -> csr_array:
    """[to, n]: resizes n pixels to `to` by linear interpolation between their centres; the first and last go on."""
    at = np.clip((np.arange(to) + 0.5) * n / to - 0.5, 0, n - 1)
    low = np.minimum(at.astype(int), n - 1)
    high, share = np.minimum(low + 1, n - 1), at - low
    places = np.arange(to)
    rows, columns = np.concatenate([places, places]), np.concatenate([low, high])
    return csr_array((np.concatenate([1 - share, share]), (rows, columns)), shape=(to, n))
