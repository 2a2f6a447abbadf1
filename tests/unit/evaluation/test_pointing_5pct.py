"""Pointing within 5 % of the diagonal, against a search of the nearest point of the box, and by hand."""

import numpy as np
import pandas as pd
import pytest

from locheads.evaluation.metric_table import METRIC, measured
from locheads.evaluation.metrics import inside

NEAR = METRIC["pointing_5pct"]
BOX = (10.0, 10.0, 20.0, 20.0)


def rows(peaks: list, width: float = 30, height: float = 40) -> pd.DataFrame:
    frame = pd.DataFrame(peaks, columns=["peak_x", "peak_y"], dtype=float)
    frame[["true_x0", "true_y0", "true_x1", "true_y1"]] = BOX
    return frame.assign(image_width=width, image_height=height, pointed=inside(peaks, [BOX] * len(peaks)))


def test_by_hand() -> None:
    """The diagonal of 30 x 40 is 50, so 2.5 pixels are allowed: in every direction, also off a corner."""
    cases = {
        (15.0, 15.0): 1, (10.0, 10.0): 1, (20.0, 20.0): 1, (22.5, 15.0): 1, (22.51, 15.0): 0, (7.5, 12.0): 1,
        (15.0, 7.49): 0, (21.5, 22.0): 1, (22.0, 22.0): 0, (np.nan, np.nan): 0,
    }  # fmt: skip
    above, below = NEAR.parts(rows(list(cases)))
    assert above.tolist() == list(cases.values()) and below.tolist() == [1] * len(cases)


def test_the_tolerance_grows_with_the_image() -> None:
    assert NEAR.parts(rows([(40.0, 15.0)], 300, 400))[0] == 1
    assert NEAR.parts(rows([(40.0, 15.0)], 200, 300))[0] == 0


def test_against_a_search_of_the_nearest_point() -> None:
    peaks = np.random.default_rng(0).uniform(0, 40, (2_000, 2))
    side = np.linspace(10, 20, 201)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 1, 2)
    nearest = np.min([np.linalg.norm(part - peaks, axis=2).min(axis=0) for part in np.array_split(grid, 40)], axis=0)
    clear = np.abs(nearest - 2.5) > 0.01  # what the grid cannot settle
    found = NEAR.parts(rows(peaks.tolist()))[0]
    np.testing.assert_array_equal(found[clear], nearest[clear] <= 2.5)
    square = ((peaks >= 7.5) & (peaks <= 22.5)).all(axis=1)  # not this: its corners are too far
    assert (found[clear] != square[clear]).any() and clear.mean() > 0.99


@pytest.mark.parametrize(
    ("method", "without", "has"),
    [("localization_heads", [], True), ("points", [], True), ("predictions", [], False), ("centre_box", [], False),
     ("localization_heads", ["peak_x"], False)],
)  # fmt: skip
def test_it_needs_a_point_and_its_columns(method: str, without: list[str], has: bool) -> None:
    columns = rows([(0.0, 0.0)]).columns.difference(without)
    assert (NEAR in list(measured(method, columns))) == has
