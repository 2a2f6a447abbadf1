"""The true objects of a stack of samples, on whatever lattice the cells lie: overlaps to the pixel, no upsampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from pycocotools import mask as coco

from locheads.geometry import Geometry
from locheads.types import Sample


@dataclass(frozen=True)
class Overlap:
    """How many pixels each lattice cell holds, by the rule that a pixel belongs to the cell of its centre."""

    inside: Int[np.ndarray, "n row col"]
    """Pixels of the object."""
    pixels: Int[np.ndarray, "n row col"]
    """Pixels of the image."""
    areas: Int[np.ndarray, "n"]
    """Pixels of the whole object."""

    @staticmethod
    def of(samples: Sequence[Sample], geometries: Sequence[Geometry]) -> "Overlap":
        """`geometries`: of each sample's lattice, all with the same rows and columns."""
        inside, pixels = [], []
        for sample, geometry in zip(samples, geometries, strict=True):
            rows = _edges(geometry.height, geometry.scale[1], geometry.offset[1], geometry.rows)
            cols = _edges(geometry.width, geometry.scale[0], geometry.offset[0], geometry.cols)
            inside.append(_counts(coco.decode(sample.mask), rows, cols))
            pixels.append(np.outer(np.diff(rows), np.diff(cols)))
        areas = np.array([int(coco.area(sample.mask)) for sample in samples])
        return Overlap(np.array(inside, dtype=np.int32), np.array(pixels, dtype=np.int32), areas)

    def intersection_union(
        self, cells: Bool[np.ndarray, "n row col"]
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """In pixels, of the mask that the cells make with each object."""
        flat = cells.reshape(len(cells), -1).view(np.uint8)
        intersection, area = (
            np.einsum("nc,nc->n", flat, counts.reshape(len(cells), -1), dtype=np.int64)
            for counts in (self.inside, self.pixels)
        )
        return intersection, area + self.areas - intersection


def _edges(pixels: int, scale: float, offset: float, cells: int) -> Int[np.ndarray, "edge"]:
    """The first pixel of each cell, and past the last of the last."""
    cell_of = np.floor((np.arange(pixels) + 0.5) * scale + offset)
    return np.searchsorted(cell_of, np.arange(cells + 1))


def _counts(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> Int[np.ndarray, "row col"]:
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    corners = total[np.ix_(rows, cols)]
    return np.diff(np.diff(corners, axis=0), axis=1)
