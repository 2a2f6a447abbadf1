"""Connected components of a whole stack of maps at once, which never see each other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8


class Connected(NamedTuple):
    """The 8-connected components of a stack of maps, in reading order within each map and map after map."""

    cells: Int[np.ndarray, "cell"]
    """Where the True cells lie in the stack, were it flat: in reading order."""
    of_cells: Int[np.ndarray, "cell"]
    """Of each of them, its component's place in the stack."""
    owner: Int[np.ndarray, "component"]
    """The map of each component."""
    areas: Int[np.ndarray, "component"]
    """Cells of each component."""


def connected(cells: Bool[np.ndarray, "n row col"]) -> Connected:
    """The components of the True cells, which touch by side or corner."""
    import cv2  # only here: the settings' classes load this file, and --help must answer at once

    if not cells.size:
        return Connected(*np.zeros((4, 0), np.int64))
    # Of OpenCV's algorithms the one that numbers components in reading order.
    _, tall = cv2.connectedComponentsWithAlgorithm(canvas(cells), 8, cv2.CV_32S, cv2.CCL_WU)
    numbered = tall.reshape(len(cells), -1)[:, : cells[0].size].ravel()
    # In this order the highest number so far tells how many there are up to each map.
    so_far = np.maximum.accumulate(numbered.reshape(len(cells), -1).max(axis=1))
    owner = np.repeat(np.arange(len(cells)), np.diff(so_far, prepend=0))
    at = np.flatnonzero(cells)
    of_cells = numbered[at] - 1
    return Connected(at, of_cells, owner, np.bincount(of_cells, minlength=len(owner)))


def canvas(cells: Bool[np.ndarray, "n row col"]) -> UInt8[np.ndarray, "tall col"]:
    """One tall image of all maps; an empty row below each keeps maps apart."""
    n, rows, cols = cells.shape
    tall = np.zeros((n, rows + 1, cols), dtype=np.uint8)
    tall[:, :-1] = cells
    return tall.reshape(-1, cols)
