"""Which component is the object: the one with the largest convex hull, not the one with most cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from locheads.grounding.boxes import tight_boxes
from locheads.grounding.components import Components, choose, hull_area
from locheads.grounding.config import Component


def largest_hull(grid: np.ndarray) -> np.ndarray:
    return choose(Components.of(grid[None]), grid[None].astype(float), Component.largest_hull)[0]


def tight_box(grid: np.ndarray) -> tuple[int, ...]:
    return tuple(tight_boxes(grid[None])[0].astype(int).tolist())


def cells(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "area"),
    [
        (("#",), 1.0),
        (("##",), 2.0),
        (("#.", ".#"), 3.0),  # the square of 4 less two triangles of 1/2
        (("#..", ".#.", "..#"), 5.0),  # 9 less two triangles of 2
        (("###", "#.#", "###"), 9.0),  # a ring counts what it encloses
        (("#..", "#..", "###"), 7.0),  # an L: 9 less one triangle of 2
        ((".#.", "###", ".#."), 7.0),  # a plus: 9 less four triangles of 1/2
    ],
)
def test_hull_areas_of_unit_squares_by_hand(rows: tuple[str, ...], area: float) -> None:
    assert hull_area(cells(*rows)) == pytest.approx(area, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=12))
def test_hull_area_agrees_with_qhull(points: set[tuple[int, int]]) -> None:
    grid = np.zeros((8, 8), dtype=bool)
    for row, col in points:
        grid[row, col] = True
    corners = [(r + dr, c + dc) for r, c in points for dr in (0, 1) for dc in (0, 1)]
    assert hull_area(grid) == pytest.approx(ConvexHull(corners).volume, abs=1e-4)


def test_a_ring_of_fewer_cells_beats_a_solid_block_by_its_hull() -> None:
    grid = np.zeros((12, 12), dtype=bool)
    grid[0:5, 0:5] = True
    grid[1:4, 1:4] = False
    grid[7:11, 6:11] = True
    ring, block = grid.copy(), grid.copy()
    ring[6:], block[:6] = False, False
    assert (ring.sum(), block.sum()) == (16, 20)
    np.testing.assert_array_equal(largest_hull(grid), ring)
    grid[6, 6:11] = True  # 25 cells: the hulls tie and the ring comes first in reading order
    np.testing.assert_array_equal(largest_hull(grid), ring)
    grid[5, 8] = True  # now the block's hull is larger, and still no neighbour of the ring
    found = largest_hull(grid)
    assert found.sum() == 26
    assert not found[:5, :5].any()


def test_a_bounding_box_is_no_substitute_for_the_hull() -> None:
    # The diagonal's box holds 16 cells, its hull 7; the block's are both 9.
    grid = np.zeros((9, 9), dtype=bool)
    grid[range(4), range(4)] = True
    grid[5:8, 5:8] = True
    assert hull_area(grid[:4, :4]) == pytest.approx(7.0, abs=1e-6)
    assert tight_box(largest_hull(grid)) == (5, 5, 8, 8)


@pytest.mark.parametrize(
    ("rows", "box"),
    [
        (("##.##", ".....", "....."), (0, 0, 2, 1)),
        ((".....", "#...#", "#...#"), (0, 1, 1, 3)),
        (("...##", ".....", "##..."), (3, 0, 5, 1)),
        (("#...#.", ".#...#"), (0, 0, 2, 2)),  # hulls of 3 in boxes of 4
    ],
)
def test_of_equal_hulls_the_first_in_reading_order_counts(
    rows: tuple[str, ...], box: tuple[int, int, int, int]
) -> None:
    assert tight_box(largest_hull(cells(*rows))) == box


def test_cells_that_touch_at_a_corner_are_one_component() -> None:
    grid = cells("#....", ".#...", ".....", "...##")
    assert tight_box(largest_hull(grid)) == (0, 0, 2, 2)


def test_a_hull_holds_no_cell_of_a_neighbour_in_its_box() -> None:
    # The L's hull is 25 less a triangle of 8, so 17; with the cell in its notch it would be all 25.
    grid = np.zeros((12, 12), dtype=bool)
    grid[:5, 0], grid[4, :5], grid[0, 4] = True, True, True
    grid[6:10, 6:11] = True  # 20
    assert tight_box(largest_hull(grid)) == (6, 6, 11, 10)


def test_a_component_inside_the_box_of_another_is_not_part_of_it() -> None:
    grid = cells("#####", "#...#", "#.#.#", "#...#", "#####")
    found = largest_hull(grid)
    assert found.sum() == 16
    assert not found[2, 2]


def test_no_cells_have_no_component() -> None:
    empty = np.zeros((4, 5), dtype=bool)
    assert largest_hull(empty).shape == (4, 5)
    assert largest_hull(empty).sum() == 0


def test_a_tight_box_ends_after_the_last_cell() -> None:
    assert tight_box(cells("....", ".#..", "...#")) == (1, 1, 4, 3)
