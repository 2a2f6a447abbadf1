"""Where the threshold applies: on the grid, or on a finer lattice that the fused map is upsampled to.

A lattice is a `Geometry` of its own: its cells are pixels of the processor's input, or of the original image.
"""

from dataclasses import replace
from functools import lru_cache
from typing import assert_never

import numpy as np
from jaxtyping import Float

from locheads.geometry import Geometry, stretched
from locheads.grounding.config import GroundingConfig, Padding, Resolution, Upsampling

CUBIC = -0.75
"""The coefficient of Keys' kernel in OpenCV and torch (Pillow has -0.5)."""


def lattice(geometry: Geometry, config: GroundingConfig) -> Geometry:
    """The lattice's cells in the original image. On the grid: the grid's own geometry."""
    match config.resolution:
        case Resolution.grid:
            return geometry
        case Resolution.input:
            return finer(geometry, config.input_patch)
        case Resolution.image:
            return _pixels_on_grid(geometry)
        case _:
            assert_never(config.resolution)


def framed(geometry: Geometry, config: GroundingConfig) -> Geometry:
    """Where the grid lies in the image, as config.padding reads it."""
    match config.padding:
        case Padding.mapped:
            return geometry
        case Padding.ignored:
            return stretched(geometry.width, geometry.height, geometry.rows, geometry.cols)
        case _:
            assert_never(config.padding)


def finer(geometry: Geometry, times: int) -> Geometry:
    """The same grid with each cell cut into times x times."""
    return replace(
        geometry,
        rows=geometry.rows * times,
        cols=geometry.cols * times,
        scale=(geometry.scale[0] * times, geometry.scale[1] * times),
        offset=(geometry.offset[0] * times, geometry.offset[1] * times),
    )


def upsample(
    fused: Float[np.ndarray, "*n row col"], geometry: Geometry, config: GroundingConfig
) -> Float[np.ndarray, "*n y x"]:
    """The fused map at the centres of the lattice's cells, float64; cells at the border repeat beyond it."""
    match config.resolution:
        case Resolution.grid:
            return fused
        case Resolution.input:
            rows, cols = (_within(n, config.input_patch, config.upsampling) for n in fused.shape[-2:])
        case Resolution.image:
            target = _pixels_on_grid(geometry)
            rows, cols = (
                _weights(
                    (np.arange(n) - start + 0.5) * geometry.scale[axis] + geometry.offset[axis],
                    cells,
                    config.upsampling,
                )
                for n, start, axis, cells in (
                    (target.rows, target.offset[1], 1, geometry.rows),
                    (target.cols, target.offset[0], 0, geometry.cols),
                )
            )
        case _:
            assert_never(config.resolution)
    return rows @ fused.astype(np.float64, copy=False) @ cols.T


def _pixels_on_grid(geometry: Geometry) -> Geometry:
    x0, x1 = _on_grid(geometry.width, geometry.scale[0], geometry.offset[0], geometry.cols)
    y0, y1 = _on_grid(geometry.height, geometry.scale[1], geometry.offset[1], geometry.rows)
    return Geometry(geometry.width, geometry.height, y1 - y0, x1 - x0, (1.0, 1.0), (float(-x0), float(-y0)))


def _on_grid(pixels: int, scale: float, offset: float, cells: int) -> tuple[int, int]:
    """The first and past the last pixel whose centre lies in a cell."""
    centres = (np.arange(pixels) + 0.5) * scale + offset
    inside = np.flatnonzero((centres >= 0) & (centres < cells))
    return int(inside[0]), int(inside[-1]) + 1


@lru_cache(maxsize=32)
def _within(cells: int, times: int, how: Upsampling) -> Float[np.ndarray, "fine coarse"]:
    return _weights((np.arange(cells * times) + 0.5) / times, cells, how)


def _weights(at: Float[np.ndarray, "fine"], cells: int, how: Upsampling) -> Float[np.ndarray, "fine coarse"]:
    """How much each of `cells` counts at the positions `at` (cell j has its centre at j + 0.5)."""
    weights = np.zeros((len(at), cells))
    left = np.floor(at - 0.5)
    match how:
        case Upsampling.nearest:
            taps = [(np.floor(at), np.ones(len(at)))]
        case Upsampling.bilinear:
            taps = [(left + d, _triangle(np.abs(at - 0.5 - left - d))) for d in (0, 1)]
        case Upsampling.bicubic:
            taps = [(left + d, _keys(np.abs(at - 0.5 - left - d))) for d in (-1, 0, 1, 2)]
        case _:
            assert_never(how)
    for cell, weight in taps:
        np.add.at(weights, (np.arange(len(at)), np.clip(cell, 0, cells - 1).astype(int)), weight)
    return weights


def _triangle(distance: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return 1 - distance


def _keys(distance: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Keys' cubic convolution kernel (1981)."""
    near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
    far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)
