"""From where each image token looks to the grids that the tokens form: rows, columns, breaks, tiles and views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from locheads.errors import ModelError
from locheads.geometry import Geometry
from locheads.models.painted import FLAT, Places

LEAST_FITTING = 0.8
"""Share of the tokens with a place that must lie within half a cell, on each axis, of where their grid has them."""

Axis = Float[np.ndarray, "token"]
Local = Bool[np.ndarray, "token"]


@dataclass(frozen=True)
class Grid:
    """Image tokens that show the image, or a part of it, in rows and columns."""

    tokens: Int[np.ndarray, "row col"]
    """Indices into the image tokens of the prompt."""
    geometry: Geometry


def find_grids(places: Places, moves: Bool[np.ndarray, "token"], width: int, height: int) -> list[Grid]:
    """The grids in the order of the prompt. Raises ModelError, with the reason, where the tokens form none.

    `moves`: the tokens that anything in the image moves, those on bars among them; the others are breaks between rows.
    """
    local = _with_a_place(places)
    x, y = np.where(local[:, None], places.centres, np.nan).T
    grids, end = [], 0
    moves = moves | local  # a word of a picture vocabulary may stay the same in another image
    below = not moves[: int(local.argmax())].any()
    while local[end:].any():
        start = end + int(local[end:].argmax())
        stride, rows = _best_rows(x[start:], y[start:])
        until = _free_until(local, moves, start + stride * rows, below)
        tokens = _laid_out(moves, local, (end, start, until), stride, rows)
        end = max(int(tokens.max(initial=0)), start + stride * rows - stride) + 1
        if tokens.size > 1:
            grids.append(Grid(tokens, _geometry(tokens, places, local, (width, height))))
    _check_fit(grids, x, y)
    return grids


def whole_view(grids: Sequence[Grid], places: Places, tiles: bool) -> Grid:
    """The coarsest grid that shows all of what the model sees; with `tiles` the finest, or equal tiles side by side.

    Raises ModelError for grids that are neither.
    """
    windows = np.array([grid.geometry.window() for grid in grids])
    seen = np.concatenate([windows[:, :2].min(axis=0), windows[:, 2:].max(axis=0)])
    size = np.tile(seen[2:] - seen[:2], 2)
    whole = (np.abs(windows - seen) < 0.2 * size).all(axis=1)
    views = sorted((grid for grid, all_of_it in zip(grids, whole, strict=True) if all_of_it), key=_cells)
    parts = [grid for grid, all_of_it in zip(grids, whole, strict=True) if not all_of_it]
    if views and (not tiles or len(views) > 1 or not parts):
        return views[-1 if tiles else 0]
    return _side_by_side(parts, places)


def _cells(grid: Grid) -> int:
    return grid.tokens.size


def _with_a_place(places: Places) -> Local:
    """Raises ModelError where nothing in the image moves the tokens, or everything does alike."""
    moved = places.contrast[places.contrast > 0]
    if len(moved) == 0:
        raise ModelError("nothing that is painted on the image reaches the image tokens of its decoder's sequence")
    strong = float(np.quantile(moved, 0.75))
    if strong < FLAT:
        raise ModelError(
            f"its image tokens move alike wherever the image is painted ({strong:.1f} times as much at their own place "
            "as elsewhere), as queries of a Q-Former or resampler do, none of which belongs to a place"
        )
    return places.contrast > max(FLAT, min(strong, 4) ** 0.5)


def _best_rows(x: Axis, y: Axis) -> tuple[int, int]:
    """-> (tokens from one row to the next, how many rows) of the grid that begins with the first token: of the one
    that explains the most tokens, and of several the one with the shorter rows."""
    found = [(stride, _rows_alike(x, y, stride)) for stride in range(1, len(x) + 1)]
    best = max(found, key=lambda one: one[0] * one[1])
    return best if best[1] > 0 else (1, 1)


def _rows_alike(x: Axis, y: Axis, stride: int) -> int:
    """How many rows of `stride` tokens lie below each other; 0 where the first is no row."""
    n = -(-len(x) // stride)
    xs, ys = (np.pad(axis, (0, n * stride - len(axis)), constant_values=np.nan).reshape(n, stride) for axis in (x, y))
    step = _step(xs[0])
    if step is None:
        return 0
    rows = 1
    for row in range(1, n):
        both = np.isfinite(xs[row]) & np.isfinite(xs[row - 1])
        if both.sum() < max(1, np.isfinite(xs[0]).sum() / 2):
            break
        down = float(np.median((ys[row] - ys[row - 1])[both]))
        aside = np.median(np.abs(xs[row] - xs[row - 1])[both])
        if aside > step / 2 or down <= 0:
            break
        rows += 1
    return rows


def _step(row: Axis) -> float | None:
    """From one column to the next; None where the tokens do not go from left to right."""
    cols = np.flatnonzero(np.isfinite(row))
    if len(cols) < 2:
        return None
    slope = np.polyfit(cols, row[cols], 1)[0]
    if slope <= 0 or np.median(np.abs(row[cols] - np.polyval(np.polyfit(cols, row[cols], 1), cols))) > slope / 2:
        return None
    return float(slope)


def _free_until(local: Local, moves: Bool[np.ndarray, "token"], last: int, below: bool) -> int:
    """How far tokens without a place follow that may be cells on a bar below the image: those of the last grid, or of
    any where `below`, since there is none above the first."""
    if not local[last:].any():
        return len(local)
    others = local[last:] | ~moves[last:]
    return last + int(others.argmax()) if below else last


def _laid_out(
    moves: Bool[np.ndarray, "token"],
    local: Local,
    bounds: tuple[int, int, int],
    stride: int,
    rows: int,
) -> Int[np.ndarray, "row col"]:
    """The grid's tokens with those on bars around the image, and without breaks between rows, which nothing moves.

    `bounds`: where the grid may begin, where its first token with a place is, and where it must end.
    """
    begin, start, end = bounds
    index = start + np.arange(rows * stride).reshape(rows, stride)
    inside = index < len(local)
    index, seen = np.where(inside, index, 0), inside & np.append(local, False)[np.where(inside, index, len(local))]
    cell = np.asarray((moves[index] & inside).any(axis=0))
    shown = np.flatnonzero(seen.any(axis=0))
    # What follows the last column that shows the image: bar on the right, break, and the next row's bar on the left.
    before = (start - begin) % stride
    left = before if before <= stride - 1 - shown[-1] and cell[stride - before :].all() else 0
    first = start - left - (start - left - begin) // stride * stride
    n_rows = max((min(end, len(local)) - first) // stride, (start - first) // stride + rows)
    tokens = first + np.arange(n_rows * stride).reshape(n_rows, stride)
    tokens = tokens[:, np.roll(cell, left)]
    return tokens[tokens.max(axis=1) < len(local)]


def _geometry(tokens: Int[np.ndarray, "row col"], places: Places, local: Local, size: tuple[int, int]) -> Geometry:
    """The lines through the places of the grid's tokens."""
    rows, cols = tokens.shape
    at = np.where(local[:, None], places.centres, np.nan)[tokens]
    widths = np.where(local[:, None], places.sizes, np.nan)[tokens]
    # [row or column, the others] of both axes.
    across = _line(at[..., 0].T, widths[..., 0].T, size[0])
    down = _line(at[..., 1], widths[..., 1], size[1])
    # Whoever adds bars keeps the aspect ratio, and on the axis without bars more cells are whole.
    if across.has_bars:
        across = across.with_slope(down.slope)
    elif down.has_bars:
        down = down.with_slope(across.slope)
    scale, offset = (1 / across.slope, 1 / down.slope), (across.offset, down.offset)
    return Geometry(*size, rows, cols, scale, offset)


@dataclass(frozen=True)
class _Line:
    """On one axis: the place of row or column i is `start + slope * i`, in pixels."""

    slope: float
    start: float
    middle: float
    """Of the rows or columns that show a part of the image."""
    has_bars: bool
    """Whether some show none of the image, or the outermost less than others."""

    @property
    def offset(self) -> float:
        """The cell coordinate of the image's edge."""
        return 0.5 - self.start / self.slope

    def with_slope(self, slope: float) -> "_Line":
        """The line of another slope through the middle of what is seen."""
        return _Line(slope, self.start + (self.slope - slope) * self.middle, self.middle, self.has_bars)


def _line(at: Float[np.ndarray, "n m"], widths: Float[np.ndarray, "n m"], pixels: int) -> _Line:
    """The line through the places of n rows of m cells.

    The outermost may lie on the image in part, where it is padded: they are left out where there are others.
    """
    n = len(at)
    seen = np.flatnonzero(np.isfinite(at).any(axis=1))
    if len(seen) < 2:
        size = float(np.nanmedian(widths))
        return _Line(size, float(np.nanmedian(at)) - size * seen[0], float(seen[0]), False)
    wide = np.array([np.nanmedian(widths[i]) for i in seen])
    has_bars = len(seen) < n or (n > 2 and wide[[0, -1]].max() < 0.5 * np.median(wide[1:-1]))
    known = np.isfinite(at)
    if len(seen) > 4:
        known[seen[[0, -1]]] = False
    where = np.broadcast_to(np.arange(n)[:, None], at.shape)
    for _ in range(3):
        if len(np.unique(where[known])) < 2:  # no line fits: these are no rows
            return _Line(pixels / n, pixels / n / 2, (n - 1) / 2, False)
        slope, start = np.polyfit(where[known], at[known], 1)
        known &= np.abs(at - (start + slope * where)) < 0.75 * abs(slope)
    line = _Line(float(slope), float(start), float(seen.mean()), bool(has_bars))
    # Of few cells, some of which convolutions blur over the image's edge, the extent is known better than the slope.
    few = len(seen) == n <= 4 and abs(slope * n / pixels - 1) < 0.15
    return line.with_slope(pixels / n) if few else line


def _check_fit(grids: Sequence[Grid], x: Axis, y: Axis) -> None:
    """Raises ModelError where too many tokens with a place lie elsewhere than their grid has them.

    Cells whose middle lies on a bar do not count: a tower of convolutions sees the image from there, too.
    """
    fitting, known, all_known = 0, 0, int(np.isfinite(x).sum())
    for grid in grids:
        geometry = grid.geometry
        row, col = np.divmod(np.arange(grid.tokens.size), geometry.cols)
        places = np.stack([x[grid.tokens.flat], y[grid.tokens.flat]], axis=1)
        cells = np.stack([col, row], axis=1) + 0.5
        middles = (cells - geometry.offset) / geometry.scale
        counted = np.isfinite(places[:, 0]) & ((middles > 0) & (middles < (geometry.width, geometry.height))).all(
            axis=1
        )
        known += int(counted.sum())
        fitting += int((np.abs(places * geometry.scale + geometry.offset - cells)[counted] < 0.5).all(axis=1).sum())
    if fitting < LEAST_FITTING * known or known < all_known / 2:
        raise ModelError(
            f"only {fitting} of the {all_known} image tokens that answer to a place lie where rows and columns, in "
            "reading order, would have them"
        )


def _side_by_side(parts: Sequence[Grid], places: Places) -> Grid:
    """Equal tiles as one grid. Raises ModelError where they are not, or leave gaps."""
    first = parts[0].geometry
    rows, cols = (sorted({_tile(grid, axis) for grid in parts}) for axis in (1, 0))
    by_place = {(_tile(grid, 1), _tile(grid, 0)): grid for grid in parts}
    if len({grid.tokens.shape for grid in parts}) > 1 or len(by_place) != len(rows) * len(cols) != len(parts):
        raise ModelError(f"its {len(parts)} views of the image are neither the whole image nor equal tiles of it")
    tokens = np.block([[by_place[row, col].tokens for col in cols] for row in rows])
    return Grid(tokens, _geometry(tokens, places, _with_a_place(places), (first.width, first.height)))


def _tile(grid: Grid, axis: int) -> int:
    """Which of the equal tiles it is along an axis."""
    geometry = grid.geometry
    return round(-geometry.offset[axis] / (geometry.cols, geometry.rows)[axis])
