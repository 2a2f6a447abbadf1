"""The geometry of a family against its model: a painted block of cells must change those cells' tokens most.

The whole way of an image is in it: processor, vision tower, projector. A block is painted where the geometry says that
its cells lie; then the place on the grid is sought where the tokens answer as such a block would. No weight is trusted:
a tower's tokens look at each other, and some answer to anything, so what counts is how much more a token changes than
it does for blocks elsewhere.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.geometry import Geometry
from locheads.models.adapters.family import PARTS
from locheads.models.attend import model_inputs
from locheads.models.batching import collate, single
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import ASPECTS, PROMPT, decoder_input, noise, response

Box = tuple[int, int, int, int]
BLOCKS = 3
"""Along each axis."""
STEP = 0.5
"""Of a cell, in which the place that answers is sought; further away is wrong."""
ALLOWED = 1
"""Of the blocks of an image may be wrong: a tower may answer to one of them somewhere else."""


def check_geometry(lvlm: Lvlm, sizes: Mapping[str, tuple[int, int]] = ASPECTS) -> list[Finding]:
    """A finding per image, `sizes` of them by name: (width, height) in pixels.

    Raises:
        DataError, ModelError: an image cannot be prepared or looked at.
    """
    return [_check(lvlm, f"geometry, {name} image", *size) for name, size in sizes.items()]


def _check(lvlm: Lvlm, name: str, width: int, height: int) -> Finding:
    image = noise(width, height, seed=0)
    prepared = lvlm.adapter.prepare(image, ["it"], PROMPT)
    geometry, boxes, ground = prepared.geometry, blocks(prepared.geometry), cell_vectors(lvlm, image)
    answers = np.array([response(partial(cell_vectors, lvlm), image, ground, box) for box in boxes])
    grids = answers.reshape(len(boxes), geometry.rows, geometry.cols)
    away = np.array([misplaced(grid, geometry, box) for grid, box in zip(own_answers(grids), boxes, strict=True)])
    right = int((away <= STEP + 1e-6).sum())
    text = f"{geometry.rows} x {geometry.cols} cells: {right} of {len(boxes)} painted blocks answer where they lie"
    if right >= len(boxes) - ALLOWED:
        return Finding(name, Outcome.passed, text)
    return Finding(
        name,
        Outcome.failed,
        f"{text}; the others up to {away.max():.1f} cells away",
        "the boxes of this model would be wrong: its image processor or vision tower is another than its family's; "
        "compare preprocessor_config.json with the family's, or write an adapter (models/adapters/TEMPLATE.md).",
    )


def cell_vectors(lvlm: Lvlm, image: Image.Image) -> Float[Tensor, "cell hidden"]:
    """What the decoder is given for the cells of the grid."""
    prepared = lvlm.adapter.prepare(image, ["it"], PROMPT)
    inputs = model_inputs(lvlm, collate(single(prepared), shared=False))
    with boundary("The model's forward pass failed", ModelError, PARTS):
        return decoder_input(lvlm.model, inputs)[0, prepared.image_tokens]


def blocks(geometry: Geometry) -> list[Box]:
    """Pixels (whole ones) of nine blocks of cells, far apart from each other where the grid allows it."""
    x0, y0, x1, y1 = geometry.to_cells(np.array([0, 0, geometry.width, geometry.height]))
    across, down = _spans(x0, x1, geometry.cols), _spans(y0, y1, geometry.rows)
    return [_pixels(geometry, (left, top, right, bottom)) for (top, bottom), (left, right) in product(down, across)]


def _spans(low: float, high: float, cells: int) -> list[tuple[int, int]]:
    """Of one axis: where blocks begin and end, in cells that lie within the image, which spans `low` to `high`."""
    first, end = max(0, int(np.ceil(low - 0.01))), min(cells, int(np.floor(high + 0.01)))
    if end <= first:  # bars leave no whole cell
        first, end = max(0, int(np.floor(low))), min(cells, int(np.ceil(high)))
    size = max(1, (end - first) // (2 * BLOCKS))
    return [(at, at + size) for at in sorted({int(at) for at in np.linspace(first, end - size, BLOCKS).round()})]


def _pixels(geometry: Geometry, cells: tuple[int, int, int, int]) -> Box:
    x0, y0, x1, y1 = (int(side) for side in geometry.to_visible_pixels(np.array(cells)).round())
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def own_answers(grids: Float[np.ndarray, "box row col"]) -> Float[np.ndarray, "box row col"]:
    """How much more each token answers to a block than to the blocks on the whole."""
    usual = np.median(grids, axis=0) + grids.mean() + np.finfo(grids.dtype).tiny
    return grids / usual


def misplaced(grid: Float[np.ndarray, "row col"], geometry: Geometry, box: Box) -> float:
    """How many cells lie between the box and the place where a box of its size fits the answers best, on the longer
    axis. The fit is Pearson's correlation of the answers with how much of each cell the box covers."""
    x0, y0, x1, y1 = geometry.to_cells(np.array(box))
    rows, cols = _covers(y0, y1, geometry.rows), _covers(x0, x1, geometry.cols)
    # A few tokens that answer by far the most count no more than the weakest of as many as the box covers.
    cells = max(1, round((y1 - y0) * (x1 - x0)))
    fit = _correlations(np.minimum(grid, np.sort(grid, axis=None)[-cells]), rows, cols)
    best = np.unravel_index(np.argmax(fit), fit.shape)
    rows_away = _places(y0, y1, geometry.rows)[best[0]] - y0
    cols_away = _places(x0, x1, geometry.cols)[best[1]] - x0
    return float(max(abs(rows_away), abs(cols_away)))


def _places(low: float, high: float, cells: int) -> Float[np.ndarray, "place"]:
    """Where the span from `low` to `high` may begin on an axis, in steps from where it does, its middle on the grid."""
    middle = (low + high) / 2
    return low + STEP * np.arange(np.ceil(-middle / STEP), np.floor((cells - middle) / STEP) + 1)


def _covers(low: float, high: float, cells: int) -> Float[np.ndarray, "place cell"]:
    """How much of each cell the span covers, at each of its places."""
    begin = _places(low, high, cells)[:, None]
    edge = np.arange(cells)
    return np.clip(np.minimum(begin + high - low, edge + 1) - np.maximum(begin, edge), 0, 1)


def _correlations(
    grid: Float[np.ndarray, "row col"], rows: Float[np.ndarray, "y row"], cols: Float[np.ndarray, "x col"]
) -> Float[np.ndarray, "y x"]:
    """Of the grid with the box at each place; a box covers a cell by its row's share times its column's."""
    centred = grid - grid.mean()
    mean = np.outer(rows.mean(axis=1), cols.mean(axis=1))
    spread = np.sqrt(np.outer((rows**2).mean(axis=1), (cols**2).mean(axis=1)) - mean**2)
    return (rows @ centred @ cols.T) / np.where(spread > 0, spread, np.inf)
