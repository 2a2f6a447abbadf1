"""From maps to a box and a mask in original pixels: a planted rectangle comes back exactly."""

from enum import StrEnum

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from locheads.geometry import Preprocess, square_geometry, stretched
from locheads.grounding.boxes import Frames
from locheads.grounding.config import (
    Component,
    GroundingConfig,
    MaskRule,
    Normalise,
    Padding,
    Resolution,
    Rounding,
    ThresholdRule,
)
from locheads.grounding.ground_maps import StepCache, ground_maps, ground_stack

PLAIN = GroundingConfig(sigma=0.0)


def block(*boxes: tuple[int, int, int, int], grid: int = 12) -> np.ndarray:
    """One head whose map is 1 in these boxes of cells and 0 elsewhere."""
    maps = np.zeros((1, grid, grid))
    for x0, y0, x1, y1 in boxes:
        maps[0, y0:y1, x0:x1] = 1.0
    return maps


@pytest.mark.parametrize(
    ("how", "size", "expected"),
    [
        (Preprocess.pad, (240, 240), (60, 80, 120, 160)),
        (Preprocess.pad, (300, 200), (75, 50, 150, 150)),  # cells of 25 pixels, bars of 50 above and below
        (Preprocess.pad, (200, 300), (25, 100, 100, 200)),
        (Preprocess.squash, (240, 240), (60, 80, 120, 160)),
        (Preprocess.squash, (300, 180), (75, 60, 150, 120)),  # cells of 25 x 15 pixels
        (Preprocess.squash, (120, 300), (30, 100, 60, 200)),
        (Preprocess.center_crop, (240, 240), (60, 80, 120, 160)),
        # 300 x 200 becomes 288 x 192, of which 48 are cut off left and right: cells of 16 * 300 / 288 pixels.
        (Preprocess.center_crop, (300, 200), (100, 200 / 3, 150, 400 / 3)),
        (Preprocess.center_crop, (200, 300), (50, 350 / 3, 100, 550 / 3)),
    ],
)
def test_a_planted_rectangle_gives_exactly_its_pixels(
    how: Preprocess, size: tuple[int, int], expected: tuple[float, float, float, float]
) -> None:
    width, height = size
    found = ground_maps(block((3, 4, 6, 8)), square_geometry(width, height, 192, 12, how), PLAIN)
    assert found.box == pytest.approx(expected, abs=1e-9)
    mask = np.zeros((height, width), dtype=bool)
    x0, y0, x1, y1 = (round(v - 0.01) for v in expected)  # pixel centres: 66.67 begins with pixel 67
    mask[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(found.mask, mask)


def test_the_geometry_of_another_preprocessing_puts_the_rectangle_elsewhere() -> None:
    own = [how for how in Preprocess if how is not Preprocess.native]  # native is the family's business
    boxes = [ground_maps(block((3, 4, 6, 8)), square_geometry(300, 200, 192, 12, how), PLAIN).box for how in own]
    assert len(set(boxes)) == len(own) == 3


def test_a_constant_map_has_no_box_and_an_empty_mask() -> None:
    found = ground_maps(np.full((2, 12, 12), 0.01), square_geometry(50, 40, 192, 12, Preprocess.pad), PLAIN)
    assert found.box is None
    assert found.mask.shape == (40, 50)
    assert found.mask.sum() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_refused(value: float) -> None:
    maps = block((3, 4, 6, 8))
    maps[0, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        ground_maps(maps, square_geometry(50, 50, 192, 12, Preprocess.pad), PLAIN)


def test_an_object_on_a_padding_bar_only_has_no_box() -> None:
    geometry = square_geometry(300, 200, 192, 12, Preprocess.pad)  # the bars are rows 0, 1, 10 and 11
    found = ground_maps(block((2, 0, 9, 2)), geometry, PLAIN)
    assert found.box is None
    assert found.mask.sum() == 0


def test_a_box_that_reaches_onto_a_padding_bar_ends_at_the_image() -> None:
    geometry = square_geometry(300, 200, 192, 12, Preprocess.pad)
    found = ground_maps(block((4, 1, 6, 4)), geometry, PLAIN)
    assert found.box == pytest.approx((100, 0, 150, 50), abs=1e-9)
    assert found.mask.sum() == 50 * 50


TWO = ((1, 1, 5, 5), (8, 8, 10, 10))


@pytest.mark.parametrize(
    ("component", "mask_rule", "box", "cells"),
    [
        (Component.largest_hull, MaskRule.all_cells, (10, 10, 50, 50), 20),
        (Component.largest_hull, MaskRule.box_cells, (10, 10, 50, 50), 16),
        (Component.all_cells, MaskRule.all_cells, (10, 10, 100, 100), 20),
        (Component.all_cells, MaskRule.box_cells, (10, 10, 100, 100), 20),
    ],
)
def test_the_rules_choose_the_cells_of_the_box_and_of_the_mask(
    component: Component, mask_rule: MaskRule, box: tuple[int, int, int, int], cells: int
) -> None:
    geometry = square_geometry(120, 120, 192, 12, Preprocess.squash)
    found = ground_maps(block(*TWO), geometry, GroundingConfig(sigma=0.0, component=component, mask=mask_rule))
    assert found.box == pytest.approx(box, abs=1e-9)
    assert found.mask.sum() == cells * 100


def test_maps_are_summed_before_the_threshold() -> None:
    # Alone, each map has one cell above its mean. In the sum (6, 5, 3 and zeros) all three exceed 14 / 16.
    maps = np.zeros((3, 4, 4))
    maps[0, 0, 0], maps[1, 0, 1], maps[2, 0, 2] = 6, 5, 3
    found = ground_maps(maps, square_geometry(4, 4, 4, 4, Preprocess.squash), PLAIN)
    np.testing.assert_array_equal(found.heatmap[0], [6, 5, 3, 0])
    assert found.box == (0, 0, 3, 1)


def test_smoothing_moves_the_box_of_a_single_cell_outwards() -> None:
    geometry = square_geometry(9, 9, 9, 9, Preprocess.squash)
    single = block((4, 4, 5, 5), grid=9)
    assert ground_maps(single, geometry, PLAIN).box == (4, 4, 5, 5)
    # The mean is 1/81 = .0123; one axis weighs .399 .242 .054 .0044: cells up to two away in a row exceed it
    # (.399 * .054 = .0216), and three away do not (.399 * .0044 = .0018).
    assert ground_maps(single, geometry, GroundingConfig()).box == (2, 2, 7, 7)


@pytest.mark.parametrize("resolution", Resolution)
def test_ignored_padding_takes_the_grid_for_the_whole_image(resolution: Resolution) -> None:
    # 200 x 120 padded to a square: 40 rows of bar above the image. Cells are 200 / 12 wide, read as 120 / 12 high.
    geometry = square_geometry(200, 120, 168, 12, Preprocess.pad)
    options = {"sigma": 0.0, "resolution": resolution, "upsampling": "nearest", "level": 2.0}
    found = ground_maps(block((3, 6, 6, 9)), geometry, GroundingConfig(**options, padding=Padding.ignored))
    assert found.box == pytest.approx((50, 60, 100, 90))
    assert found.mask[60:90, 50:100].all() and found.mask.sum() == 30 * 50
    assert found.geometry == geometry  # where the map lies is no matter of how it is read
    mapped = ground_maps(block((3, 6, 6, 9)), geometry, GroundingConfig(**options))
    assert mapped.box == pytest.approx((50, 60, 100, 110))


def test_whole_pixels_are_those_of_the_released_codes_arithmetic() -> None:
    """Cell x W/P, truncated; of the last cell's end the last pixel, truncated. A quotient differs in the last bit."""
    config, others = GroundingConfig(padding=Padding.ignored, rounding=Rounding.truncated), 0
    for width in range(60, 700, 7):
        for cells in (14, 16, 24, 27):
            ends = np.array([(a, 0, b, 1) for a in range(cells) for b in range(a + 1, cells + 1)], dtype=np.float64)
            frame = Frames.of([stretched(width, 50, 1, cells)] * len(ends))
            per_cell = width / cells
            expected = [(int(a * per_cell), int(min(width - 1, b * per_cell - 1)) + 1) for a, _, b, _ in ends]
            assert frame.pixels(ends, config)[:, [0, 2]].astype(int).tolist() == [list(one) for one in expected]
            mapped = frame.pixels(ends, GroundingConfig(rounding=Rounding.truncated))[:, [0, 2]]
            others += (mapped != np.array(expected)).any()
    assert others


def test_truncation_keeps_the_last_pixel_and_a_box_on_bars_stays_none() -> None:
    geometry = square_geometry(200, 120, 168, 12, Preprocess.pad)
    config = GroundingConfig(sigma=0.0, rounding=Rounding.truncated)
    # x 66.67 to 116.67, y 43.33 to 60: pixels 66 to 115 (116.67 - 1 = 115.67), 43 to 59.
    assert ground_maps(block((4, 5, 7, 6)), geometry, config).box == (66, 43, 116, 60)
    assert ground_maps(block((4, 0, 7, 2)), geometry, config).box is None


@pytest.mark.parametrize(
    "name",
    ["sinks", "normalise", "resolution", "upsampling", "threshold", "component", "box", "padding", "rounding", "mask"],
)
def test_a_choice_without_code_behind_it_runs_as_no_other(name: str) -> None:
    class Later(StrEnum):
        new = "new"

    config = GroundingConfig(level=1.0, resolution=Resolution.image)
    object.__setattr__(config, name, Later.new)  # past whatever checks the settings
    with pytest.raises((AssertionError, TypeCheckError), match="new"):
        ground_maps(block((3, 3, 6, 6)), square_geometry(120, 120, 168, 12, Preprocess.pad), config)


STACKED = [
    GroundingConfig(),
    GroundingConfig(sigma=0),
    GroundingConfig(component=Component.highest_peak, mask=MaskRule.box_cells),
    GroundingConfig(resolution=Resolution.image),
    GroundingConfig(padding=Padding.ignored, rounding=Rounding.truncated),
    GroundingConfig(threshold=ThresholdRule.quantile, normalise=Normalise.sum),
]


def test_a_stack_with_a_shared_cache_gives_what_each_sample_gives_by_itself() -> None:
    geometries = [square_geometry(60, 40, 48, 8, Preprocess.pad), square_geometry(40, 60, 48, 8, Preprocess.pad)] * 3
    maps = np.random.default_rng(0).gamma(0.3, size=(6, 2, 8, 8)).astype(np.float32)
    cache, boxes = StepCache(), []
    for config in [*STACKED, *STACKED[::-1]]:
        stack = ground_stack(maps, geometries, config, cache=cache)
        for i, geometry in enumerate(geometries):
            single = ground_maps(maps[i], geometry, config)
            assert stack.box(i) == single.box
            np.testing.assert_array_equal(stack.mask(i), single.mask)
            np.testing.assert_array_equal(stack.fused[i], single.heatmap)
        boxes.append(stack.boxes.tobytes())
    assert len(set(boxes)) >= len(STACKED) - 1, "settings that all give the same cannot tell a stale step"
    with pytest.raises(IndexError):
        ground_stack(maps, geometries, STACKED[0]).mask(6)


def test_a_step_is_repeated_only_where_its_settings_or_its_inputs_differ() -> None:
    cache, made = StepCache(), []
    first, equal = np.zeros(2), np.zeros(2)

    def get(settings: int, given: np.ndarray) -> int:
        return cache.get("step", settings, (given,), lambda: made.append(settings) or len(made))

    assert [get(1, first), get(1, first), get(2, first), get(2, equal), get(1, first)] == [1, 1, 2, 3, 4]
