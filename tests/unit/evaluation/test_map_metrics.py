"""The measures of raw maps against plain loops over pixels, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locheads.evaluation.map_metrics import (
    MAP_METRICS,
    OF_NOTHING,
    energy_in_box,
    kl_divergence,
    map_scores,
    nss,
    similarity,
)
from locheads.geometry import Geometry, Preprocess, square_geometry

# Squashed, a cell is 10 x 5 pixels; padded 10 x 10, and the first and last row are bars.
PADDED = square_geometry(40, 20, 4, 4, Preprocess.pad)
SQUASHED = square_geometry(40, 20, 4, 4, Preprocess.squash)
WHOLE, FIRST_CELL = np.array([0, 0, 40, 20]), np.array([0, 0, 10, 5])
seeds = st.integers(0, 10_000)


def fine_map(map_: np.ndarray, geometry: Geometry) -> np.ndarray:
    """[pixel row, pixel column] of the image, each pixel with an even share of its cell's energy."""
    result = np.zeros((geometry.height, geometry.width))
    for y in range(geometry.height):
        for x in range(geometry.width):
            col = math.floor((x + 0.5) * geometry.scale[0] + geometry.offset[0])
            row = math.floor((y + 0.5) * geometry.scale[1] + geometry.offset[1])
            result[y, x] = map_[row, col] * geometry.scale[0] * geometry.scale[1]
    return result


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_energy_is_the_sum_of_the_pixels_in_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    map_ = rng.random((4, 4)) ** 3
    (x0, x1), (y0, y1) = (sorted(rng.choice(n, 2, replace=False).tolist()) for n in (41, 21))
    for geometry in (PADDED, SQUASHED):
        by_pixel = fine_map(map_, geometry)[y0:y1, x0:x1].sum() / map_.sum()
        assert energy_in_box(map_, geometry, np.array([x0, y0, x1, y1])) == pytest.approx(by_pixel, abs=1e-9)
    # What lies on the bars is outside of every box; squashed there are none.
    assert energy_in_box(map_, PADDED, WHOLE) == pytest.approx(map_[1:3].sum() / map_.sum(), abs=1e-9)
    assert energy_in_box(map_, SQUASHED, WHOLE) == pytest.approx(1, abs=1e-9)


def _loops(map_: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """(KLD, SIM, NSS), one cell after the other."""
    n = map_.size
    mean = sum(map_.flat) / n
    deviation = math.sqrt(sum((v - mean) ** 2 for v in map_.flat) / n)
    kld = sim = score = 0.0
    for v, t in zip(map_.flat, truth.flat, strict=True):
        p, q = v / sum(map_.flat), t / sum(truth.flat)
        kld += q * math.log(2**-52 + q / (2**-52 + p))
        sim += min(p, q)
        score += t * (v - mean) / deviation
    return kld, sim, score / sum(truth.flat)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_kld_sim_and_nss_agree_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    map_ = rng.random((5, 6)) * (rng.random((5, 6)) < 0.8) + 1e-3 * (seed % 2)
    map_[0, 0] += 1
    truth = rng.random((5, 6)) * (rng.random((5, 6)) < 0.4)
    truth[2, 3] += 0.5
    expected = _loops(map_, truth)
    assert (kl_divergence(map_, truth), similarity(map_, truth), nss(map_, truth)) == pytest.approx(expected, abs=1e-9)
    # The negative control: the same map about another object is worse in nearly every case, and never the same.
    assert kl_divergence(map_, np.roll(truth, 7)) != pytest.approx(expected[0], abs=1e-9)


def test_a_map_that_equals_the_truth_is_perfect_and_one_beside_it_is_not() -> None:
    truth = np.zeros((4, 4))
    truth[1, 1:3] = 5
    assert kl_divergence(truth / 99, truth) == pytest.approx(0, abs=1e-12)
    assert similarity(truth / 99, truth) == pytest.approx(1)
    assert nss(truth, truth) == pytest.approx(math.sqrt(7))  # 2 of 16 cells: (1 - 1/8) / sqrt(1/8 * 7/8)
    beside = np.roll(truth, 4)
    assert similarity(beside, truth) == 0
    assert kl_divergence(beside, truth) == pytest.approx(math.log(0.5) + 52 * math.log(2))
    assert nss(beside, truth) == pytest.approx(-1 / math.sqrt(7))


def test_a_constant_map_is_chance() -> None:
    truth = np.zeros((4, 4))
    truth[0, 0] = 1
    constant = np.full((4, 4), 0.1, dtype=np.float32)
    assert nss(constant, truth) == 0
    assert kl_divergence(constant, truth) == pytest.approx(math.log(16))
    assert similarity(constant, truth) == pytest.approx(1 / 16)
    assert energy_in_box(constant, SQUASHED, FIRST_CELL) == pytest.approx(1 / 16)


def test_no_map_and_no_truth_score_as_nothing() -> None:
    """A failure must not look good: the best KLD is 0."""
    zeros, some = np.zeros((4, 4)), np.eye(4)
    assert map_scores(some, SQUASHED, np.array([60, 0, 70, 20]), zeros) == pytest.approx(OF_NOTHING)
    nothing = map_scores(zeros, SQUASHED, FIRST_CELL, some)
    assert tuple(nothing) == MAP_METRICS
    assert nothing["map_energy"] == nothing["map_sim"] == nothing["map_nss"] == 0
    assert 34 < nothing["map_kld"] <= OF_NOTHING["map_kld"] == pytest.approx(36.04, abs=0.01)
