"""Segmenters without weights: what SAM should be compared with."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool
from PIL import Image

from locheads.segmenters.segmenter import Prompt, Segmentation
from locheads.types import Box

ROUNDS = 5
"""Of GrabCut, as in OpenCV's documentation."""


class BoxSegmenter:
    """Fills the box."""

    def segment(self, image: Image.Image, prompts: Sequence[Prompt]) -> list[Segmentation]:
        return [Segmentation(box_mask(prompt.box, image.width, image.height)) for prompt in prompts]


class GrabCutSegmenter:
    """GrabCut (Rother et al. 2004): colour models of the inside and the outside of the box.

    A box that leaves nothing outside, or in which nothing is told apart, stays filled.
    """

    def segment(self, image: Image.Image, prompts: Sequence[Prompt]) -> list[Segmentation]:
        pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        return [Segmentation(_cut(pixels, box_mask(prompt.box, image.width, image.height))) for prompt in prompts]


def box_mask(box: Box, width: int, height: int) -> Bool[np.ndarray, "height width"]:
    """The pixels whose centre lies in the box."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None]


def _cut(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    if inside.all() or not inside.any():
        return inside
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cv2.setRNGSeed(0)  # its colour clusters start at random
    try:
        cv2.grabCut(pixels, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # fewer pixels than colour clusters on one side
        return inside
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return found if found.any() else inside
