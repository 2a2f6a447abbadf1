"""Upsampling against torch, and where the finer cells lie."""

import numpy as np
import pytest
import torch

from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.config import GroundingConfig, Resolution, Upsampling
from locheads.grounding.lattice import lattice, upsample

MAPS = np.random.default_rng(1).random((3, 6, 6))
SQUARE = square_geometry(84, 84, 84, 6, Preprocess.squash)


@pytest.mark.parametrize("how", list(Upsampling))
@pytest.mark.parametrize("resolution", [Resolution.input, Resolution.image])
def test_upsampling_is_torchs(how: Upsampling, resolution: Resolution) -> None:
    """A squashed image of the input's size: both lattices are torch's interpolate."""
    config = GroundingConfig(resolution=resolution, upsampling=how, input_patch=14)
    options = {} if how is Upsampling.nearest else {"align_corners": False}
    expected = torch.nn.functional.interpolate(torch.from_numpy(MAPS)[None], (84, 84), mode=how.value, **options)[0]
    np.testing.assert_allclose(upsample(MAPS, SQUARE, config), expected.numpy(), atol=1e-12)


def test_other_ways_to_upsample_differ() -> None:
    found = [upsample(MAPS, SQUARE, GroundingConfig(resolution=Resolution.input, upsampling=how)) for how in Upsampling]
    assert all(np.abs(a - b).max() > 0.05 for i, a in enumerate(found) for b in found[:i])


def test_the_grid_is_left_alone() -> None:
    assert upsample(MAPS, SQUARE, GroundingConfig()) is MAPS
    assert lattice(SQUARE, GroundingConfig()) is SQUARE


@pytest.mark.parametrize("how", [how for how in Preprocess if how is not Preprocess.native])
@pytest.mark.parametrize("size", [(120, 80), (60, 130), (64, 64)])
def test_the_images_lattice_is_the_pixels_that_lie_on_the_grid(how: Preprocess, size: tuple[int, int]) -> None:
    geometry = square_geometry(*size, 84, 6, how)
    fine = lattice(geometry, GroundingConfig(resolution=Resolution.image))
    mask = fine.upsample(np.ones((fine.rows, fine.cols), dtype=bool))
    np.testing.assert_array_equal(mask, geometry.visible_mask())
    # Nearest upsampling there is the mask of the grid.
    cells = MAPS[0] > 0.5
    field = upsample(cells[None].astype(float), geometry, GroundingConfig(
        resolution=Resolution.image, upsampling=Upsampling.nearest))[0]  # fmt: skip
    np.testing.assert_array_equal(fine.upsample(field > 0.5), geometry.upsample(cells))
