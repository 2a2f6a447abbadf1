"""Maps are packed on the device and on the CPU to the same bits, from the layers' rows, whatever their query tokens."""

import numpy as np
import pytest
import torch

from locheads.models.attend import QueryRows
from locheads.models.packing import pack_tensors, packing
from locheads.store.packed_maps import PackedMaps

GRID = (4, 6)


def rows(layers: int = 3, queries: int = 1, heads: int = 5, order: list[int] | None = None) -> QueryRows:
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-9, 0, (layers, 1, heads, 1))  # heads differ by orders of magnitude
    weights = (rng.dirichlet(np.ones(24) / 8, (layers, queries, heads)) * scale).astype(np.float32)
    weights[0, :, 0] = 0
    return QueryRows([torch.from_numpy(layer) for layer in weights], GRID, order)


def by_hand(map_: np.ndarray) -> tuple[np.ndarray, np.float32]:
    peak = map_.max()
    return np.array([[np.float16(w / peak) if peak > 0 else 0 for w in row] for row in map_], np.float16), peak


def test_the_maps_are_the_mean_over_the_query_tokens_layer_by_layer() -> None:
    found = rows(queries=3)
    maps = found.maps()
    assert maps.shape == (3, 5, *GRID)
    for layer in range(3):
        for head in range(5):
            expected = np.mean([found.layers[layer][q, head].numpy() for q in range(3)], axis=0).reshape(GRID)
            np.testing.assert_allclose(maps[layer, head], expected, rtol=1e-6)
    np.testing.assert_allclose(found.on_device(), maps, rtol=1e-6)
    one = rows()
    np.testing.assert_array_equal(one.maps()[2, 4].reshape(-1), one.layers[2][0, 4])


def test_asked_heads_come_in_the_order_in_which_they_were_asked() -> None:
    every = rows().maps().reshape(15, *GRID)
    np.testing.assert_array_equal(rows(order=list(range(15))).maps(), every)
    np.testing.assert_array_equal(rows(order=[7, 2, 2]).maps(), every[[7, 2, 2]])
    np.testing.assert_array_equal(rows(order=[7, 2, 2]).on_device(), every[[7, 2, 2]])
    assert np.abs(rows(order=[7, 2]).maps() - rows(order=[2, 7]).maps()).max() > 0


def test_each_map_is_packed_over_its_own_peak() -> None:
    maps = rows().maps()
    packed = PackedMaps.of(maps)
    assert packed.scaled.dtype == np.float16 and packed.peaks.shape == (3, 5, 1, 1)
    for place in np.ndindex(3, 5):
        scaled, peak = by_hand(maps[place])
        np.testing.assert_array_equal(packed.scaled[place], scaled)
        assert packed.peaks[place].item() == peak
        np.testing.assert_array_equal(packed.unpacked()[place], scaled.astype(np.float32) * peak)


@pytest.mark.parametrize("queries", [1, 2])
def test_the_devices_arithmetic_gives_the_same_bits(queries: int) -> None:
    found = rows(queries=queries)
    (here, sums), there = packing(found)(), pack_tensors(found.on_device())
    np.testing.assert_array_equal(here.scaled, there[0])
    np.testing.assert_array_equal(here.peaks, there[1])
    np.testing.assert_allclose(sums, there[2], rtol=1e-6)
    np.testing.assert_allclose(sums, found.maps().sum(axis=(-2, -1), dtype=np.float64), rtol=1e-6)
    assert np.abs(here.scaled - rows(queries=queries + 1).maps()).max() > 0.1


def test_a_map_that_is_not_finite_has_a_peak_that_is_not() -> None:
    found = rows()
    found.layers[1][0, 3, 7] = torch.nan
    (packed, _), (_, peaks, _) = packing(found)(), pack_tensors(found.on_device())
    assert np.argwhere(~np.isfinite(packed.peaks[..., 0, 0])).tolist() == [[1, 3]]
    assert np.argwhere(~np.isfinite(peaks[..., 0, 0].numpy())).tolist() == [[1, 3]]


def test_no_maps_at_all() -> None:
    packed = PackedMaps.of(np.zeros((2, 0, *GRID), np.float32))
    assert packed.unpacked().shape == (2, 0, *GRID) and packed.scaled.dtype == np.float16
