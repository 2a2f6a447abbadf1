"""Attention maps in 16 bits: half the disk, and what everything downstream sees."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PackedMaps:
    """Maps in 16 bits over the peak of each, because the weights of faint heads would be subnormal otherwise."""

    scaled: Float[np.ndarray, "*n row col"]
    """In float16, the largest weight of a map being 1."""
    peaks: Float[np.ndarray, "*n 1 1"]

    @classmethod
    def of(cls, maps: Float[np.ndarray, "*n row col"]) -> "PackedMaps":
        """The maps, rounded to 11 bits."""
        peaks = maps.max(axis=(-2, -1), keepdims=True) if maps.size else np.zeros((*maps.shape[:-2], 1, 1), np.float32)
        return cls(_converted(maps / np.where(peaks > 0, peaks, 1), np.float16), peaks.astype(np.float32))

    def unpacked(self) -> Float[np.ndarray, "*n row col"]:
        """In float32: what comes back of the maps once they were stored."""
        maps = _converted(self.scaled, np.float32)
        return np.multiply(maps, self.peaks, out=maps)


def _converted(maps: np.ndarray, to: type[np.float16] | type[np.float32]) -> np.ndarray:
    """As `maps.astype(to)` to the bit; NumPy does it in software and takes 10 times as long."""
    if not maps.size:
        return maps.astype(to)
    kind = cv2.CV_16F if to == np.float16 else cv2.CV_32F
    return cv2.add(maps.reshape(1, -1), 0.0, dtype=kind).reshape(maps.shape)


def rounded(maps: np.ndarray) -> np.ndarray:
    """What comes back of the maps [..., row, col] once they were stored in 16 bits."""
    return PackedMaps.of(maps).unpacked()
