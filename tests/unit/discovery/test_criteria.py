"""Spatial entropy against hand-worked maps and against a plain-loop implementation that shares no code with it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from locheads.errors import ConfigError
from locheads.map_numbers import (
    EmptyMaps,
    Floor,
    Precision,
    Weighting,
    attention_sum,
    spatial_entropies,
    spatial_entropy,
)

CHOICES = [(floor, weighting) for floor in Floor for weighting in Weighting]
LN2 = math.log(2)


def one_map(*rows: str) -> np.ndarray:
    """A map of digits: "0110" is a row of four cells."""
    return np.array([[[float(cell) for cell in row] for row in rows]])


def entropy_by_loops(map_: np.ndarray, floor: str, weighting: str) -> float:
    rows, cols = map_.shape
    values = [[float(map_[r, c]) for c in range(cols)] for r in range(rows)]
    mean = sum(sum(row) for row in values) / (rows * cols)
    level = 2 * mean if floor == "relu_2mean_eps" else mean
    excess = {(r, c): max(values[r][c] - level, 0.0) for r in range(rows) for c in range(cols)}
    left = {cell for cell, weight in excess.items() if weight > (0 if floor == "mean" else 0.001)}
    total = sum(excess.values()) if weighting == "mass" else len(left)
    result = math.inf if not left else 0.0
    while left:
        stack, component = [left.pop()], []
        while stack:
            r, c = stack.pop()
            component.append((r, c))
            near = {(r + dr, c + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)} & left
            left -= near
            stack += near
        size = sum(excess[cell] for cell in component) if weighting == "mass" else len(component)
        result -= size / total * math.log(size / total)
    return result


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("0000", "0110", "0110", "0000"), 0.0),
        (("1000", "0000", "0000", "0001"), LN2),
        (("1100", "1000", "0000", "0001"), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
        (("1000", "0100", "0010", "0001"), 0.0),  # a diagonal is one component
        (("1010", "0000", "1010", "0000"), math.log(4)),
        (("1000", "0000", "0000", "0000"), 0.0),
    ],
    ids=["one block", "two equal", "areas 3 and 1", "diagonal", "four single cells", "a single cell"],
)
def test_area_entropy_of_maps_worked_by_hand(rows: tuple[str, ...], expected: float) -> None:
    assert spatial_entropy(one_map(*rows))[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7, 1e-8])
@pytest.mark.parametrize(("floor", "weighting"), CHOICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("empty_maps", EmptyMaps)
def test_a_constant_map_is_never_eligible(
    value: float, floor: str, weighting: str, dtype: type, empty_maps: str
) -> None:
    maps = np.full((1, 7, 7), value, dtype=dtype)
    assert spatial_entropy(maps, floor=floor, weighting=weighting, empty_maps=empty_maps)[0] == math.inf


@pytest.mark.parametrize(("floor", "weighting"), CHOICES)
def test_a_map_with_nan_is_never_eligible_and_leaves_its_neighbours_alone(floor: str, weighting: str) -> None:
    good = one_map("5000", "0000", "0000", "0005")
    broken = good.copy()
    broken[0, 2, 2] = math.nan
    result = spatial_entropy(np.concatenate([good, broken, good]), floor=floor, weighting=weighting)
    np.testing.assert_allclose(result, [LN2, math.inf, LN2], rtol=0, atol=1e-12)


def test_cells_equal_to_the_mean_do_not_count() -> None:
    tied = one_map("4220", "4220", "4220", "4220")
    assert tied.mean() == 2.0
    assert spatial_entropy(tied)[0] == 0.0
    apart = one_map("4224", "0220", "0220", "4224")
    assert apart.mean() == 2.0
    # With the ties counted, the 2s would join the corners into one component and H would be 0.
    assert spatial_entropy(apart)[0] == pytest.approx(math.log(4), abs=1e-12)


def test_components_of_neighbouring_maps_never_merge() -> None:
    below, above = one_map("0000", "0000", "0000", "1111"), one_map("1111", "0000", "0000", "0000")
    same_place = one_map("1000", "0000", "0000", "0001")
    stack = np.concatenate([below, above, same_place, same_place, above, below])
    np.testing.assert_allclose(spatial_entropy(stack), [0, 0, LN2, LN2, 0, 0], rtol=0, atol=1e-12)


def test_mass_weighs_a_component_by_its_excess_over_the_mean() -> None:
    # Mean 1: the cells of 9 and 5 exceed it by 8 and 4, and 2 cells of 1 do not.
    map_ = one_map("9000", "0000", "0000", "1015")
    assert map_.mean() == 1.0
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert spatial_entropy(map_, weighting="mass")[0] == pytest.approx(expected, abs=1e-12)
    assert spatial_entropy(map_, weighting="area")[0] == pytest.approx(LN2, abs=1e-12)


def test_the_floors_differ_on_one_map() -> None:
    # Mean 0.01; the corner holds 0.0105 (above the mean, by less than 0.001), the middle rest 0.015 and 0.1195.
    map_ = np.zeros((1, 4, 4))
    map_[0, 0, 0], map_[0, 0, 3], map_[0, 3, 0] = 0.0105, 0.015, 0.1345
    assert map_.mean() == pytest.approx(0.01, abs=1e-15)
    found = [spatial_entropy(map_, floor=floor)[0] for floor in ("mean", "relu_mean_eps", "relu_2mean_eps")]
    np.testing.assert_allclose(found, [math.log(3), LN2, 0.0], rtol=0, atol=1e-12)


def test_mass_that_the_released_codes_threshold_drops_stays_in_the_total() -> None:
    # Excess over the mean 0.01: 0.0005 (dropped), 0.005 and 0.1245; shares of their sum 0.13 do not add up to 1.
    map_ = np.zeros((1, 4, 4))
    map_[0, 0, 0], map_[0, 0, 3], map_[0, 3, 0] = 0.0105, 0.015, 0.1345
    shares = [0.005 / 0.13, 0.1245 / 0.13]
    expected = -sum(share * math.log(share) for share in shares)
    found = spatial_entropy(map_, floor="relu_mean_eps", weighting="mass")[0]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("floor", "weighting"), CHOICES)
@pytest.mark.parametrize("shape", [(40, 6, 6), (20, 4, 9), (5, 24, 24)])
def test_entropy_equals_plain_loops_on_random_maps(floor: str, weighting: str, shape: tuple[int, int, int]) -> None:
    maps = np.random.default_rng(sum(shape)).dirichlet(np.full(shape[1] * shape[2], 0.3), shape[0])
    maps = maps.reshape(shape)
    expected = [entropy_by_loops(map_, floor, weighting) for map_ in maps]
    assert len(set(expected)) > shape[0] / 3  # the maps differ enough to tell
    np.testing.assert_allclose(spatial_entropy(maps, floor=floor, weighting=weighting), expected, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(arrays(np.int8, (3, 4, 5), elements=st.integers(0, 4)), st.sampled_from(CHOICES))
def test_entropy_equals_plain_loops_on_maps_with_many_ties(counts: np.ndarray, choice: tuple[str, str]) -> None:
    maps = counts / 64.0
    expected = [entropy_by_loops(map_, *choice) for map_ in maps]
    np.testing.assert_allclose(spatial_entropy(maps, floor=choice[0], weighting=choice[1]), expected, rtol=0, atol=1e-9)


def test_a_map_that_stands_out_by_less_than_the_released_threshold_is_empty_or_the_best() -> None:
    # Mean 0.0025; one cell exceeds it by 0.0005, which is not above 0.001.
    maps = np.full((1, 4, 4), 0.0025)
    maps[0, 1, 1], maps[0, 2, 2] = 0.003, 0.002
    for floor, best in (("mean", 0.0), ("relu_mean_eps", 0.0), ("relu_2mean_eps", math.inf)):
        assert spatial_entropy(maps, floor=floor, empty_maps="zero")[0] == best
    assert spatial_entropy(maps, floor="relu_mean_eps", empty_maps="never")[0] == math.inf


@pytest.mark.parametrize(("floor", "weighting"), CHOICES)
def test_32_bits_change_no_entropy_by_more_than_their_rounding(floor: str, weighting: str) -> None:
    maps = np.random.default_rng(5).dirichlet(np.full(81, 0.3), 60).reshape(60, 9, 9).astype(np.float32)
    fine, coarse = (spatial_entropy(maps, floor=floor, weighting=weighting, precision=p) for p in Precision)
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=2e-6)
    if weighting == "mass":
        assert (coarse != fine).any()


def test_no_maps_give_no_entropies() -> None:
    assert spatial_entropy(np.zeros((0, 4, 4))).shape == (0,)


@pytest.mark.parametrize("option", ["floor", "weighting", "empty_maps", "precision"])
def test_an_unknown_name_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        spatial_entropy(np.ones((1, 2, 2)), **{option: "nothing"})


def test_attention_sum_adds_the_cells_of_each_map() -> None:
    maps = np.array([[[0.1, 0.2], [0.0, 0.3]], [[0.0, 0.0], [0.25, 0.0]]])
    np.testing.assert_allclose(attention_sum(maps), [0.6, 0.25], rtol=0, atol=1e-15)


def test_options_that_share_components_give_what_each_gives_alone() -> None:
    maps = np.random.default_rng(3).gamma(0.3, size=(30, 6, 6)) / 40
    ways = [{"floor": f, "weighting": w, "empty_maps": e, "precision": p} for p in Precision for e in EmptyMaps
            for f, w in CHOICES]  # fmt: skip
    together = spatial_entropies(maps, ways)
    for way, found in zip(ways, together, strict=True):
        np.testing.assert_array_equal(found, spatial_entropy(maps, **way))
    assert len({found.tobytes() for found in together}) > len(CHOICES)
