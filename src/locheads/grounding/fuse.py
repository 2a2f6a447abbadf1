"""The chosen heads' maps -> one fused map -> the cells above its threshold (paper, grounding steps 1 and 2)."""

from collections.abc import Sequence
from math import floor
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from locheads.grounding.config import SMOOTHING_SIDE, GroundingConfig, Normalise, Sinks, SmoothingScale, ThresholdRule


def fuse(
    maps: Float[np.ndarray, "*n head row col"],
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "*#n head row col"] | None = None,
) -> Float[np.ndarray, "*n row col"]:
    """Smooths every head's map with a Gaussian and sums them, element by element.

    `sinks`: cells that config.sinks=mean_map sets to zero. Other rows of the stack never change a row's result.
    """
    return smooth(normalise(without_sinks(maps, config, sinks), config), config).sum(axis=-3)


def without_sinks(
    maps: Float[np.ndarray, "*n head row col"],
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "*#n head row col"] | None = None,
) -> Float[np.ndarray, "*n head row col"]:
    """The maps with zeros where config.sinks says; a grid of which no mean map is known keeps all cells."""
    match config.sinks:
        case Sinks.keep:
            return maps
        case Sinks.mean_map:
            return maps if sinks is None else np.where(sinks, maps.dtype.type(0), maps)
        case Sinks.border_rows:
            maps = maps.copy()
            maps[..., [0, -1], :] = 0
            return maps
        case _:
            assert_never(config.sinks)


def normalise(
    maps: Float[np.ndarray, "*n head row col"], config: GroundingConfig
) -> Float[np.ndarray, "*n head row col"]:
    """Each map over its sum or maximum; a map of zeros stays one."""
    flat = np.ascontiguousarray(maps).reshape(*maps.shape[:-2], -1)
    match config.normalise:
        case Normalise.none:
            return maps
        case Normalise.sum:
            size = flat.sum(axis=-1)[..., None, None]
        case Normalise.max:
            size = flat.max(axis=-1)[..., None, None]
        case _:
            assert_never(config.normalise)
    return np.divide(maps, size, out=np.zeros_like(maps), where=size > 0)


def smooth(maps: Float[np.ndarray, "*n row col"], config: GroundingConfig) -> Float[np.ndarray, "*n row col"]:
    """The window is `kernel` cells wide and renormalised, as OpenCV's and torchvision's Gaussian blur are. Which
    border the paper uses is not documented; it matters for objects that touch the image's edge."""
    return _gaussian(maps, maps.shape[-2:], config, (-2, -1))


def smoothing_matrices(
    grid: Sequence[int], config: GroundingConfig
) -> tuple[Float[np.ndarray, "row row"], Float[np.ndarray, "col col"]]:
    """What `smooth` does along each axis of maps [row, col], as products from the left: many times faster for the maps
    of all heads, and the same but for rounding."""
    rows, cols = grid
    return _gaussian(np.eye(rows), grid, config, (0,)), _gaussian(np.eye(cols), grid, config, (0,))


def window(grid: Sequence[int], config: GroundingConfig) -> tuple[float, int]:
    """-> (sigma, how far the window reaches on either side), both in cells of maps of this shape."""
    match config.smoothing_scale:
        case SmoothingScale.cells:
            return config.sigma, config.kernel // 2
        case SmoothingScale.grid:
            factor = max(grid) / SMOOTHING_SIDE
            return config.sigma * factor, floor(config.kernel // 2 * factor + 0.5)
        case _:
            assert_never(config.smoothing_scale)


def _gaussian(
    values: Float[np.ndarray, "*any"], grid: Sequence[int], config: GroundingConfig, axes: tuple[int, ...]
) -> Float[np.ndarray, "*any"]:
    sigma, reach = window(grid, config)
    if sigma == 0 or reach == 0:
        return values
    return ndimage.gaussian_filter(values, sigma, mode=config.border.value, radius=reach, axes=axes)


def binarise(
    fused: Float[np.ndarray, "*n row col"], rule: ThresholdRule = ThresholdRule.mean, level: float = 1.0
) -> Bool[np.ndarray, "*n row col"]:
    """Cells above their own map's threshold, by default its mean. A constant map has none."""
    flat = np.ascontiguousarray(fused).reshape(-1, fused.shape[-2] * fused.shape[-1])
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    match rule:
        case ThresholdRule.mean:
            above = flat > _mean(flat, level)
        case ThresholdRule.otsu:
            above = flat > _otsu(flat)
        case ThresholdRule.quantile:
            above = flat > _quantile(flat, level)
        case ThresholdRule.max_fraction:
            above = flat > _fraction(flat, level)
        case ThresholdRule.fixed_area:
            above = flat >= _weakest_of_share(flat, level)
        case _:
            assert_never(rule)
    return (above & (high > low)).reshape(fused.shape)


def _mean(flat: Float[np.ndarray, "n cell"], level: float) -> Float[np.ndarray, "n 1"]:
    return level * flat.astype(np.float64, copy=False).mean(axis=1, keepdims=True)


def _otsu(flat: Float[np.ndarray, "n cell"]) -> Float[np.ndarray, "n 1"]:
    """Otsu's threshold on the values themselves, not on a histogram: the best of all splits of the sorted cells."""
    ordered = np.sort(flat.astype(np.float64, copy=False), axis=1)
    total = np.cumsum(ordered, axis=1)
    below = np.arange(1, ordered.shape[1])
    above = ordered.shape[1] - below
    gap = total[:, :-1] / below - (total[:, -1:] - total[:, :-1]) / above
    # Equal cells cannot be parted.
    variance = np.where(ordered[:, :-1] < ordered[:, 1:], below * above * gap**2, -1.0)
    return np.take_along_axis(ordered, variance.argmax(axis=1)[:, None], axis=1)


def _quantile(flat: Float[np.ndarray, "n cell"], level: float) -> Float[np.ndarray, "n 1"]:
    return np.quantile(flat.astype(np.float64, copy=False), level, axis=1)[:, None]


def _fraction(flat: Float[np.ndarray, "n cell"], level: float) -> Float[np.ndarray, "n 1"]:
    return level * flat.max(axis=1, keepdims=True).astype(np.float64)


def _weakest_of_share(flat: Float[np.ndarray, "n cell"], share: float) -> Float[np.ndarray, "n 1"]:
    """The weakest of the strongest cells that make up this share, at least one."""
    kept = max(1, round(share * flat.shape[1]))
    return np.partition(flat, flat.shape[1] - kept, axis=1)[:, [flat.shape[1] - kept]]
