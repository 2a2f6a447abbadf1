"""Connected components of a whole stack of maps at once, which never see each other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8


class Connected(NamedTuple):
    """The 8-connected components of a stack of maps, in reading order within each map and map after map."""

    labels: Int[np.ndarray, "n row col"]
    """0: no component; else the component's number, counted from 1 over the whole stack."""
    owner: Int[np.ndarray, "component"]
    """The map of each component."""
    areas: Int[np.ndarray, "component"]
    """Cells of each component."""


def connected(cells: Bool[np.ndarray, "n row col"]) -> Connected:
    """The components of the True cells, which touch by side or corner."""
    import cv2  # only here: the settings' classes load this file, and --help must answer at once

    if not cells.size:
        return Connected(np.zeros(cells.shape, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    tall = canvas(cells)
    # Of OpenCV's algorithms the one that numbers components in reading order.
    _, numbered = cv2.connectedComponentsWithAlgorithm(tall, 8, cv2.CV_32S, cv2.CCL_WU)
    # In this order the highest number so far tells how many there are up to each map.
    so_far = np.maximum.accumulate(numbered.reshape(len(cells), -1).max(axis=1, initial=0))
    owner = np.repeat(np.arange(len(cells)), np.diff(so_far, prepend=0))
    areas = np.bincount(numbered.ravel(), minlength=len(owner) + 1)[1:]
    return Connected(numbered.reshape(len(cells), -1, cells.shape[2])[:, :-1], owner, areas)


def canvas(cells: Bool[np.ndarray, "n row col"]) -> UInt8[np.ndarray, "tall col"]:
    """One tall image of all maps; an empty row below each keeps maps apart."""
    n, rows, cols = cells.shape
    tall = np.zeros((n, rows + 1, cols), dtype=np.uint8)
    tall[:, :-1] = cells
    return tall.reshape(-1, cols)
