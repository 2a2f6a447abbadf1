"""The chosen heads' maps -> one fused map -> the cells above its mean (paper, grounding)."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from locheads.config import GroundingConfig


def fuse(maps: Float[np.ndarray, "*n head row col"], config: GroundingConfig) -> Float[np.ndarray, "*n row col"]:
    """Smooths every head's map with a Gaussian and sums them, element by element.

    The window is `kernel` cells wide and renormalised, as OpenCV's and torchvision's Gaussian blur are. Which
    border the paper uses is not documented; it matters for objects that touch the picture's edge.
    """
    if config.sigma == 0 or config.kernel == 1:
        return maps.sum(axis=-3)
    smooth = ndimage.gaussian_filter(
        maps, config.sigma, mode=config.border.value, radius=config.kernel // 2, axes=(-2, -1)
    )
    return smooth.sum(axis=-3)


def binarise(fused: Float[np.ndarray, "*n row col"]) -> Bool[np.ndarray, "*n row col"]:
    """Cells above their map's mean. A constant map has none."""
    mean = fused.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    low, high = fused.min(axis=(-2, -1), keepdims=True), fused.max(axis=(-2, -1), keepdims=True)
    return (fused > mean) & (high > low)
