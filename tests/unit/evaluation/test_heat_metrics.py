"""KLD, SIM and NSS in AGD20K's form against plain loops over pixels, and where a map lies in its image."""

from collections.abc import Iterator
from math import log, sqrt

import cv2
import numpy as np
import pytest

from locheads.evaluation.heat_metrics import (
    OF_NO_HEAT,
    SIDE,
    heat_scores,
    kld,
    nss,
    on_square,
    truth_on_square,
)
from locheads.evaluation.map_metrics import kl_divergence, similarity
from locheads.evaluation.map_metrics import nss as nss_of_mask
from locheads.geometry import Geometry, square_geometry, stretched

CASES = 210
EPS = 1e-12


def plain(p: list[float], g: list[float]) -> tuple[float, float, float]:
    """(KLD, SIM, NSS) of the pixels of a map and a truth, from the definition."""
    low, high = min(p), max(p)
    p = [(value - low) / (high - low) for value in p]
    of_p, of_g, n = sum(p) + EPS, sum(g) + EPS, len(p)
    divergence = sum(b / of_g * log(b / of_g / (a / of_p + EPS) + EPS) for a, b in zip(p, g, strict=True))
    shared = sum(min(a / of_p, b / of_g) for a, b in zip(p, g, strict=True))
    mean = sum(p) / n
    spread = sqrt(sum((a - mean) ** 2 for a in p) / n)
    least, most = min(g), max(g)
    fixated = [(b - least) / (most - least + EPS) > 0.1 for b in g]
    scored = sum((a - mean) / spread for a, yes in zip(p, fixated, strict=True) if yes)
    return divergence, shared, scored / (sum(fixated) + n * EPS)


def cases() -> Iterator[tuple[np.ndarray, np.ndarray, Geometry]]:
    """Maps and 8-bit truths of many shapes: sparse, flat, with zeros."""
    rng = np.random.default_rng(20)
    for _ in range(CASES):
        grid, (width, height) = int(rng.integers(2, 25)), rng.integers(30, 700, 2).tolist()
        heat = rng.random((grid, grid)) ** float(rng.choice([1, 4, 12])) * float(rng.choice([1e-4, 1.0]))
        truth = np.zeros((height, width))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        away = (np.arange(width) - x) ** 2 + ((np.arange(height) - y) ** 2)[:, None]
        truth = np.rint(255 * np.exp(-away / (2 * (0.05 + 0.3 * rng.random()) ** 2 * max(width, height) ** 2)))
        yield heat, truth / 255, stretched(width, height, grid, grid)


def test_random_maps_agree_with_a_plain_loop_and_not_with_those_of_the_patch_grid() -> None:
    apart, compared = np.zeros(3), 0
    for number, (heat, truth, geometry) in enumerate(cases()):
        square, true_square = on_square(heat, geometry), truth_on_square(truth)
        # What AGD20K's own code is given.
        resized = cv2.resize(heat, (SIDE, SIDE)), cv2.resize(truth, (SIDE, SIDE))
        assert np.abs(square - _scaled(resized[0])).max() < 1e-9 and np.array_equal(true_square, resized[1])
        found = [float(value) for value in heat_scores(square, true_square).values()]
        # Loops over all pixels of all cases take minutes: but for one case, over a sieve of them.
        step = 1 if number < 1 else int(number % 9 + 6)
        few, few_true = square[::step, ::step], true_square[::step, ::step]
        if np.ptp(few) > 0 and np.ptp(few_true) > 0:
            scaled = np.ascontiguousarray(_scaled(few))
            expected = plain(few.ravel().tolist(), few_true.ravel().tolist())
            assert [float(v) for v in heat_scores(scaled, few_true).values()] == pytest.approx(expected, abs=1e-9)
            compared += 1
        on_grid = geometry.coverage(truth > 0.1)
        ours = [float(of(heat, on_grid)) for of in (kl_divergence, similarity, nss_of_mask)]
        apart += np.abs(np.array(found) - ours) > 1e-3
    assert (apart > 0.9 * CASES).all() and compared >= 200


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def test_a_perfect_map_and_none() -> None:
    truth = truth_on_square(np.outer(np.hanning(60), np.hanning(80)))
    found = heat_scores(_scaled(truth), truth)
    assert found["agd_kld"] == pytest.approx(0, abs=1e-6) and found["agd_sim"] == pytest.approx(1)
    assert found["agd_nss"] > 0.5
    constant = heat_scores(on_square(np.ones((6, 6)), stretched(80, 60, 6, 6)), truth)
    assert (constant["agd_sim"], constant["agd_nss"]) == (0, 0)
    # No map scores worse than one that failed.
    point = np.zeros((SIDE, SIDE))
    point[3, 5] = 1
    assert kld(np.zeros_like(point), point) == pytest.approx(OF_NO_HEAT["agd_kld"], rel=1e-9)
    assert constant["agd_kld"] < OF_NO_HEAT["agd_kld"]
    assert nss(np.stack([point, np.zeros_like(point)]), point).tolist() == pytest.approx([223.997767, 0.0])


@pytest.mark.parametrize("how", ["pad", "center_crop", "squash"])
def test_a_map_lies_where_its_image_does(how: str) -> None:
    """The cell around a pixel of a wide image is found again there, whatever the preprocessing."""
    geometry = square_geometry(640, 320, 336, 24, how)
    heat = np.zeros((24, 24))
    col, row = np.floor(geometry.to_cells(np.array([400.0, 200.0, 400.0, 200.0]))[:2]).astype(int)
    heat[row, col] = 1.0
    square = on_square(heat, geometry)
    x0, y0, x1, y1 = geometry.to_pixels(np.array([col, row, col + 1, row + 1])) * SIDE / np.array([640, 320] * 2)
    peak = np.unravel_index(square.argmax(), square.shape)
    assert x0 <= peak[1] + 0.5 <= x1 and y0 <= peak[0] + 0.5 <= y1
    weights = square / square.sum()
    centre = (weights.sum(axis=0) @ np.arange(SIDE) + 0.5, weights.sum(axis=1) @ np.arange(SIDE) + 0.5)
    assert centre == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.6)
    ignored = on_square(heat, stretched(640, 320, 24, 24))
    if how != "squash":  # the grid taken for the image puts it elsewhere
        assert np.abs(ignored - square).max() > 0.5


def test_what_a_crop_cut_off_has_the_least_value_and_bars_have_none() -> None:
    rng = np.random.default_rng(1)
    cropped = on_square(rng.random((24, 24)) + 1, square_geometry(640, 320, 336, 24, "center_crop"))
    assert (cropped[:, :50] == 0).all() and (cropped[:, -50:] == 0).all() and cropped[:, 60:160].std() > 0
    heat = np.zeros((24, 24))
    heat[0] = 5.0  # on the upper bar
    padded = on_square(heat, square_geometry(640, 320, 336, 24, "pad"))
    assert padded.max() == 0
