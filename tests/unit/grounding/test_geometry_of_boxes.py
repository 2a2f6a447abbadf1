"""A map that is exactly the object's patches: how far the box may be from the object."""

import numpy as np
import pytest

from locheads.geometry import Geometry, Preprocess, square_geometry, stretched
from locheads.grounding.config import GroundingConfig, Resolution, ThresholdRule, Upsampling
from locheads.grounding.ground_maps import ground_maps

GRID = 24
SIZES = ((640, 480), (480, 640), (500, 500), (640, 213), (200, 600))
HOW = list(Preprocess)
OVERSHOOT = 0.07
"""Patches by which a bicubic edge lies further out: its peak is above 1, and half of that is not 0.5."""
FINE = [
    GroundingConfig(sigma=0, resolution=resolution, upsampling=how, threshold=ThresholdRule.max_fraction, level=0.5)
    for resolution in (Resolution.input, Resolution.image)
    for how in Upsampling
]


def geometry_of(size: tuple[int, int], how: Preprocess) -> Geometry:
    """`native` stands for the families that keep the image's aspect ratio; other processors do one of the rest."""
    if how is not Preprocess.native:
        return square_geometry(*size, 336, GRID, how)
    longest = max(size)
    return stretched(*size, rows=round(size[1] / longest * GRID), cols=round(size[0] / longest * GRID))


def objects(geometry: Geometry, patches: float) -> list[np.ndarray]:
    """Boxes at random places that the model sees whole, at least so many patches wide and high."""
    rng = np.random.default_rng(7)
    x0, y0, x1, y1 = geometry.window()
    least = patches / np.array(geometry.scale)
    boxes = []
    for _ in range(12):
        size = least + rng.random(2) * (np.array([x1 - x0, y1 - y0]) - least) * 0.6
        corner = np.array([x0, y0]) + rng.random(2) * (np.array([x1 - x0, y1 - y0]) - size)
        # Whole pixels, so that the mask is the object.
        low, high = np.ceil(corner), np.floor(corner + size)
        boxes.append(np.concatenate([low, high]))
    return boxes


def covered(box: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The share of each patch that the object covers."""
    mask = np.zeros((geometry.height, geometry.width), dtype=bool)
    x0, y0, x1, y1 = box.astype(int)
    mask[y0:y1, x0:x1] = True
    cell = 1 / (geometry.scale[0] * geometry.scale[1])
    return geometry.coverage(mask) / cell


def error_in_patches(found: tuple | None, box: np.ndarray, geometry: Geometry) -> float:
    assert found is not None
    return float(np.abs((np.array(found) - box) * np.array(geometry.scale * 2)).max())


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("size", SIZES)
def test_the_box_of_the_touched_patches_is_within_one_patch(how: Preprocess, size: tuple[int, int]) -> None:
    geometry = geometry_of(size, how)
    for box in objects(geometry, 1):
        map_ = (covered(box, geometry) > 1e-9).astype(float)
        found = ground_maps(map_[None], geometry, GroundingConfig(sigma=0)).box
        assert error_in_patches(found, box, geometry) <= 1 + 1e-6
        assert found is not None
        # Nothing of the object is outside.
        assert (np.array(found[:2]) <= box[:2] + 1e-6).all() and (np.array(found[2:]) >= box[2:] - 1e-6).all()


@pytest.mark.parametrize("config", FINE, ids=lambda c: f"{c.resolution.value}-{c.upsampling.value}")
@pytest.mark.parametrize("how", HOW)
def test_with_upsampled_thresholds_it_is_within_half_a_patch(how: Preprocess, config: GroundingConfig) -> None:
    for size in SIZES:
        geometry = geometry_of(size, how)
        # One lattice cell: pixels of the input, or of the image, are not cut.
        pixel = max(geometry.scale) if config.resolution is Resolution.image else 1 / config.input_patch
        if config.upsampling is Upsampling.bicubic:
            pixel = max(pixel, OVERSHOOT)
        for box in objects(geometry, 3):
            # The patches that are more than half the object's.
            map_ = (covered(box, geometry) > 0.5).astype(float)
            found = ground_maps(map_[None], geometry, config).box
            assert error_in_patches(found, box, geometry) <= 0.5 + pixel + 1e-6


def test_a_geometry_of_another_preprocessing_fails_the_same_bounds() -> None:
    """The negative control."""
    true, wrong = (square_geometry(640, 480, 336, GRID, how) for how in (Preprocess.pad, Preprocess.center_crop))
    errors = []
    for box in objects(wrong, 3):
        map_ = (covered(box, true) > 0.5).astype(float)
        errors.append(error_in_patches(ground_maps(map_[None], wrong, GroundingConfig(sigma=0)).box, box, true))
    assert max(errors) > 1.5
