"""Each component rule picks another component; each box rule is worked out by hand; stacks equal single maps."""

import numpy as np
import pytest

from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.boxes import cell_boxes
from locheads.grounding.components import Components, choose, hull_area
from locheads.grounding.config import BoxRule, Component, GroundingConfig, Normalise, Sinks
from locheads.grounding.fuse import binarise, fuse
from locheads.grounding.ground_maps import ground_maps
from locheads.grounding.sinks import sinks_of, total_maps
from locheads.types import Attention, HeadIndex


def four() -> np.ndarray:
    """An L (hull 17, 9 cells), a block of 12 cells, a heavy pair, and a single peak."""
    field = np.zeros((1, 14, 14))
    field[0, :5, 0] = field[0, 4, :5] = 1.0
    field[0, 7:10, 0:4] = 1.0
    field[0, 0, 8:10] = 7.0
    field[0, 12, 12] = 9.0
    return field


@pytest.mark.parametrize(
    ("rule", "box"),
    [
        (Component.largest_hull, (0, 0, 5, 5)),
        (Component.largest_area, (0, 7, 4, 10)),
        (Component.largest_mass, (8, 0, 10, 1)),
        (Component.highest_peak, (12, 12, 13, 13)),
        (Component.all_cells, (0, 0, 13, 13)),
    ],
)
def test_every_rule_has_its_own_winner(rule: Component, box: tuple[int, ...]) -> None:
    field = four()
    chosen = choose(Components.of(field > 0), field, rule)
    assert tuple(cell_boxes(chosen, field, GroundingConfig())[0]) == box


@pytest.mark.parametrize("rule", list(Component))
@pytest.mark.parametrize("box", list(BoxRule))
def test_a_stack_gives_what_its_maps_give_alone(rule: Component, box: BoxRule) -> None:
    config = GroundingConfig(component=rule, box=box)
    fields = np.random.default_rng(3).gamma(0.6, size=(40, 12, 10)).astype(np.float32)

    def grounded(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = choose(Components.of(binarise(stack)), stack, rule)
        return chosen, cell_boxes(chosen, stack, config)

    cells, boxes = grounded(fields)
    for i, field in enumerate(fields):
        alone, alone_box = grounded(field[None])
        np.testing.assert_array_equal(cells[i], alone[0])
        np.testing.assert_array_equal(boxes[i], alone_box[0])


def test_hulls_that_are_not_computed_do_not_change_the_winner() -> None:
    grids = np.random.default_rng(4).random((200, 12, 12)) < 0.3
    components = Components.of(grids)
    chosen = choose(components, grids.astype(float), Component.largest_hull)
    for grid, found in zip(range(len(grids)), chosen, strict=True):
        labels = [i + 1 for i in range(len(components.areas)) if components.owner[i] == grid]
        areas = [hull_area(components.labels[grid] == label) for label in labels]
        np.testing.assert_array_equal(found, components.labels[grid] == labels[int(np.argmax(areas))])


def test_the_box_rules_by_hand() -> None:
    field = np.zeros((1, 4, 6))
    field[0, 1, 1:5] = [1.0, 4.0, 4.0, 1.0]
    boxes = {rule: tuple(cell_boxes(field > 0, field, GroundingConfig(box=rule, mass=0.8))[0]) for rule in BoxRule}
    assert boxes[BoxRule.hull] == boxes[BoxRule.component] == (1, 1, 5, 2)
    assert boxes[BoxRule.cell_centres] == (1, 1, 4, 1)
    # A tenth of the mass at each end is the outer cells; along y all of it lies in one row, whose tenths go.
    assert boxes[BoxRule.mass_quantiles] == pytest.approx((2, 1.1, 4, 1.9), abs=1e-12)
    whole = cell_boxes(field > 0, field, GroundingConfig(box=BoxRule.mass_quantiles, mass=1.0))[0]
    assert tuple(whole) == (1, 1, 5, 2)


def test_a_box_of_zero_area_is_no_box() -> None:
    single = np.zeros((1, 9, 9))
    single[0, 4, 4] = 1
    geometry = square_geometry(90, 90, 90, 9, Preprocess.squash)
    assert ground_maps(single, geometry, GroundingConfig(sigma=0)).box == (40, 40, 50, 50)
    assert ground_maps(single, geometry, GroundingConfig(sigma=0, box=BoxRule.cell_centres)).box is None


def test_clamp_decides_whether_a_box_may_lie_on_a_bar() -> None:
    bar = np.zeros((1, 12, 12))
    bar[0, 0:4, 4:6] = 1  # the bars of a 300 x 200 image are two rows of 25 pixels
    geometry = square_geometry(300, 200, 192, 12, Preprocess.pad)
    assert ground_maps(bar, geometry, GroundingConfig(sigma=0)).box == (100, 0, 150, 50)
    assert ground_maps(bar, geometry, GroundingConfig(sigma=0, clamp=False)).box == (100, -50, 150, 50)


def test_normalising_gives_every_head_the_same_weight() -> None:
    maps = np.zeros((2, 3, 3))
    maps[0, 0] = [0.1, 0.2, 0.1]
    maps[1, 2] = [30, 60, 10]
    plain = {how: fuse(maps, GroundingConfig(sigma=0, normalise=how)) for how in Normalise}
    np.testing.assert_allclose(plain[Normalise.none][[0, 2]], [[0.1, 0.2, 0.1], [30, 60, 10]])
    np.testing.assert_allclose(plain[Normalise.sum][[0, 2]], [[0.25, 0.5, 0.25], [0.3, 0.6, 0.1]])
    np.testing.assert_allclose(plain[Normalise.max][[0, 2]], [[0.5, 1, 0.5], [0.5, 1, 1 / 6]])
    assert not np.isnan(fuse(np.zeros((2, 3, 3)), GroundingConfig(normalise=Normalise.sum))).any()


def test_border_rows_are_removed_before_the_sum() -> None:
    fused = fuse(np.ones((2, 4, 3)), GroundingConfig(sigma=0, sinks=Sinks.border_rows))
    np.testing.assert_array_equal(fused, [[0] * 3, [2] * 3, [2] * 3, [0] * 3])


def test_a_sink_is_what_stands_out_in_the_mean_over_all_samples() -> None:
    """Head 0 has a sink in every image, head 1 none; single bright cells that move are no sinks."""
    rng = np.random.default_rng(6)
    geometry = square_geometry(60, 60, 60, 6, Preprocess.squash)
    attentions = []
    for image in range(20):
        maps = np.full((2, 1, 2, 6, 6), 0.01)
        for row in range(2):
            maps[row, 0, :, *rng.integers(1, 6, 2)] = 0.5
        maps[:, 0, 0, 0, 3] = 0.4
        ids = (f"{image}a", f"{image}b")
        attentions.append(Attention(str(image), ids, maps, maps.sum(axis=(-2, -1)), geometry))
    sinks = sinks_of(total_maps(iter(attentions)), 5.0)
    first, second = sinks.get((6, 6), [HeadIndex(0, 0), HeadIndex(0, 1)])
    assert np.argwhere(first).tolist() == [[0, 3]]
    assert second.sum() == 0
    assert sinks.get((5, 6), [HeadIndex(0, 0)]) is None
    config = GroundingConfig(sigma=0, sinks=Sinks.mean_map)
    maps = attentions[0].maps[0, 0, :1]
    with_sink, without = (ground_maps(maps, geometry, config, cells) for cells in (None, first[None]))
    assert with_sink.heatmap[0, 3] == pytest.approx(0.4) and without.heatmap[0, 3] == 0
    np.testing.assert_array_equal(with_sink.heatmap[1:], without.heatmap[1:])
