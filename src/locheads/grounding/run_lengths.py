"""Masks on a lattice of cells as COCO's run-length code, without drawing them.

A pixel belongs to the cell of its centre, so the pixel columns of a column of cells are equal.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int
from pycocotools import mask as coco

from locheads.geometry import Geometry


def mask_codes(cells: Bool[np.ndarray, "n row col"], geometry: Geometry) -> list[str]:
    """The counts that pycocotools gives of `geometry.upsample` of each."""
    size = [geometry.height, geometry.width]
    runs = [{"size": size, "counts": counts} for counts in _runs(cells, geometry)]
    return [code["counts"].decode("ascii") for code in coco.frPyObjects(runs, *size)]


def _runs(cells: Bool[np.ndarray, "n row col"], geometry: Geometry) -> list[Int[np.ndarray, "run"]]:
    """Lengths of the runs of each mask, down the columns, the first of them outside."""
    n, pixels = len(cells), geometry.height * geometry.width
    # A mask takes a place more than it has pixels, so that no run ends where another mask begins.
    starts = np.arange(n) * (pixels + 1)
    ends = _ends(cells, geometry, starts)
    # A run that ends where the next begins, below a cell without pixels or across columns, is one run.
    same = np.flatnonzero(ends[1:] == ends[:-1])
    ends = np.delete(ends, np.concatenate([same, same + 1]))
    firsts = np.searchsorted(ends, starts)
    lengths = np.diff(np.insert(ends, firsts, starts), append=n * (pixels + 1))
    bounds = [*(firsts + np.arange(n)).tolist(), len(lengths)]
    parts = [lengths[start:end] for start, end in pairwise(bounds)]
    for part in parts:
        part[-1] -= 1
    return [part[:-1] if len(part) > 1 and part[-1] == 0 else part for part in parts]


def _ends(
    cells: Bool[np.ndarray, "n row col"], geometry: Geometry, starts: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "end"]:
    """Where cells' runs begin and end by turns, counted down the pixel columns of all masks."""
    rows, cols = geometry.edges()
    padded = np.zeros((len(cells), cells.shape[2], cells.shape[1] + 2), dtype=bool)
    padded[:, :, 1:-1] = (cells & (np.diff(rows) > 0)[:, None]).transpose(0, 2, 1)
    column, edge = np.nonzero((padded[:, :, 1:] != padded[:, :, :-1]).reshape(-1, len(rows)))
    per_column = np.bincount(column, minlength=len(cells) * cells.shape[2])
    # Every column of cells as often as it has pixel columns, with all its ends.
    times = np.tile(np.diff(cols), len(cells))
    first, many = np.repeat(np.cumsum(per_column) - per_column, times), np.repeat(per_column, times)
    across = np.arange(cols[0], cols[-1]) * geometry.height
    which = np.repeat(first - (np.cumsum(many) - many), many)
    which += np.arange(len(which))
    ends = np.repeat((starts[:, None] + across).ravel(), many)
    ends += rows[edge][which]
    return ends
