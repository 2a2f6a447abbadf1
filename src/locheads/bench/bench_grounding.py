"""From the maps of three heads to cells above the threshold, and on to boxes: as one stack, and sample by sample."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from locheads.bench.meters import machine, spread
from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.config import GroundingConfig
from locheads.grounding.fuse import binarise, fuse
from locheads.grounding.ground_maps import ground_stack

EXPRESSIONS, HEADS, GRID = 2000, 3, 24
ROUNDS = 5
CONFIG = GroundingConfig()
GEOMETRY = square_geometry(640, 480, 336, GRID, Preprocess.pad)


def stacked_cells(maps: np.ndarray) -> np.ndarray:
    """[n, head, row, col] -> cells above the threshold, [n, row, col]."""
    return binarise(fuse(maps, CONFIG))


def single_cells(maps: np.ndarray) -> np.ndarray:
    """The same, one sample and one head at a time, with scipy's calls only."""
    found = []
    for sample in maps:
        smooth = [ndimage.gaussian_filter(m, CONFIG.sigma, mode=CONFIG.border.value, radius=3) for m in sample]
        fused = np.sum(smooth, axis=0)
        found.append(fused > fused.mean(dtype=np.float64))
    return np.stack(found)


def stacked_boxes(maps: np.ndarray) -> np.ndarray:
    """[n, head, row, col] -> boxes in pixels, [n, 4]."""
    return ground_stack(maps, (GEOMETRY,) * len(maps), CONFIG).boxes


def single_boxes(maps: np.ndarray) -> np.ndarray:
    """The same by the functions of the library, one sample at a time."""
    return np.concatenate([stacked_boxes(sample[None]) for sample in maps])


def benchmark(rounds: int = ROUNDS) -> dict[str, Any]:
    """Expressions per second on one core with the default choices; the ways take turns."""
    where = machine(torch.device("cpu"))
    maps = np.random.default_rng(0).dirichlet(np.full(GRID * GRID, 0.05), EXPRESSIONS * HEADS)
    maps = maps.reshape(EXPRESSIONS, HEADS, GRID, GRID).astype(np.float32)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "cells, one stack": stacked_cells,
        "cells, sample by sample": single_cells,
        "boxes, one stack": stacked_boxes,
        "boxes, sample by sample": single_boxes,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(maps)
            times[name].append(1e6 * (time.perf_counter() - start) / EXPRESSIONS)
    loops = {name: np.median(times[f"{name.split(',')[0]}, sample by sample"]) for name in ways}
    return {
        "benchmark": "grounding",
        "machine": where,
        "rounds": rounds,
        "unit": f"µs per expression ({HEADS} maps of {GRID} x {GRID})",
        "steps": [
            {
                "name": name,
                "time": spread(found),
                "times_faster": loops[name] / np.median(found),
                "expressions_per_second": 1e6 / np.median(found),
            }
            for name, found in times.items()
        ],
        "largest_difference": float((stacked_cells(maps) != single_cells(maps)).mean()),
        "largest_difference_of_boxes": float(np.nanmax(np.abs(stacked_boxes(maps) - single_boxes(maps)))),
    }
