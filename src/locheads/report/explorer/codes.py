"""Attention maps in 8 bits: what the explorer keeps of them."""

import numpy as np
from jaxtyping import Float, UInt8

STEPS = 255


def encode(
    maps: Float[np.ndarray, "head row col"],
) -> tuple[UInt8[np.ndarray, "head row col"], list[float]]:
    """-> (codes, each map's largest value). The codes are linear in the root of the weight.

    A few cells often outweigh the rest a hundredfold, and the threshold lies low, near the mean: equal steps of
    the weight itself would be coarse just there.
    """
    scales = [float(f"{peak:.6g}") for peak in maps.max(axis=(-2, -1)).astype(np.float64)]
    divisor = np.array([scale or 1.0 for scale in scales])[:, None, None]
    shares = np.clip(maps.astype(np.float64) / divisor, 0, 1)
    return np.rint(STEPS * np.sqrt(shares)).astype(np.uint8), scales


def decode(codes: UInt8[np.ndarray, "head row col"], scales: list[float]) -> Float[np.ndarray, "head row col"]:
    """The maps as the page sees them, in the same order of operations: scale * (code / 255)^2."""
    roots = codes / float(STEPS)
    return np.array(scales, dtype=np.float64)[:, None, None] * (roots * roots)
