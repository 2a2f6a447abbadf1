"""What a segmenter is asked, and what it answers; and those without weights, which SAM should be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool
from PIL import Image

from locheads.types import Box

Point = tuple[float, float]
"""(x, y) in pixels of the image."""
ROUNDS = 5
"""Of GrabCut, as in OpenCV's documentation."""


@dataclass(frozen=True)
class Prompt:
    """One object of an image, in pixels of it."""

    box: Box
    point: Point | None = None
    """On the object: the map's peak."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """A guess."""
    points: tuple[Point, ...] = ()
    """On the object, as segmenter.points chooses them."""
    negatives: tuple[Point, ...] = ()
    """Beside it."""
    again: bool = False
    """Of a further round: the box is that of the mask before."""

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not (np.isfinite(self.box).all() and x1 > x0 and y1 > y0):
            raise ValueError("its box has no area: there is nothing to segment")

    @property
    def positives(self) -> tuple[Point, ...]:
        """`points`; where there are none the peak, and without a peak the box's centre."""
        x0, y0, x1, y1 = self.box
        return self.points or (self.point or ((x0 + x1) / 2, (y0 + y1) / 2),)


@dataclass(frozen=True)
class Segmentation:
    """The answer to one prompt."""

    mask: Bool[np.ndarray, "height width"]
    score: float | None = None
    """The segmenter's own estimate of its IoU; None where it has none."""


@runtime_checkable
class Segmenter(Protocol):
    """Segments the prompted objects of one image, which it embeds once for all of them.

    A class of the user's own that offers this is named as segmenter.kind=package.module:Class; it is made with the
    settings of the group and the torch device: Class(config, device).
    """

    def segment(self, image: Image.Image, prompts: Sequence[Prompt]) -> list[Segmentation]:
        """One answer per prompt, in their order; masks in pixels of the image. RuntimeErrors that name the memory are
        recorded with the image's samples."""


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
    mask = np.zeros((height, width), dtype=bool)
    mask[pixels_of(box)] = True
    return mask


def pixels_of(box: Box) -> tuple[slice, slice]:
    """(rows, columns) of the same pixels, also beyond an image's right and lower end."""
    x0, y0, x1, y1 = np.ceil(np.array(box) - 0.5).astype(int).clip(0).tolist()
    return slice(y0, y1), slice(x0, x1)


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
