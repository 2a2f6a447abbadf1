"""What a segmenter is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from PIL import Image

from locheads.types import Box


@dataclass(frozen=True)
class Prompt:
    """One object of an image, in pixels of it."""

    box: Box
    point: tuple[float, float] | None = None
    """(x, y) on the object."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """A guess."""

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not (np.isfinite(self.box).all() and x1 > x0 and y1 > y0):
            raise ValueError("its box has no area: there is nothing to segment")


@dataclass(frozen=True)
class Segmentation:
    """The answer to one prompt."""

    mask: Bool[np.ndarray, "height width"]
    score: float | None = None
    """The segmenter's own estimate of its IoU; None where it has none."""


@runtime_checkable
class Segmenter(Protocol):
    """Segments the prompted objects of one image, which it embeds once for all of them."""

    def segment(self, image: Image.Image, prompts: Sequence[Prompt]) -> list[Segmentation]: ...
