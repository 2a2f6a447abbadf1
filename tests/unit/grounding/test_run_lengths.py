"""Run-length code straight from cells, against pycocotools' code of the drawn mask."""

import numpy as np
import pytest
from pycocotools import mask as coco

from locheads.geometry import Geometry, Preprocess, square_geometry, stretched
from locheads.grounding.run_lengths import mask_codes

GEOMETRIES = [
    *(square_geometry(w, h, 48, 6, how) for w, h in ((64, 48), (31, 90), (7, 5)) for how in list(Preprocess)[:3]),
    stretched(3, 4, 6, 6),  # cells without a pixel
    stretched(6, 6, 6, 6),
    Geometry(20, 10, 6, 6, (0.9, 0.7), (-2.3, 8.0)),  # no row of cells lies in the image
]


def drawn(cells: np.ndarray, geometry: Geometry) -> list[str]:
    return [coco.encode(np.asfortranarray(geometry.upsample(one), dtype=np.uint8))["counts"].decode() for one in cells]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_codes_are_those_of_the_drawn_masks(geometry: Geometry) -> None:
    rng = np.random.default_rng(0)
    cells = rng.random((60, 6, 6)) < rng.choice([0.1, 0.5, 0.9], (60, 1, 1))
    # Nothing, everything, whole columns, the last pixel, and the first: where runs join or end.
    cells[:5] = False
    cells[1] = True
    cells[2, :, 1:4] = cells[3, -1, -1] = cells[4, 0, 0] = True
    codes = mask_codes(cells, geometry)
    assert codes == drawn(cells, geometry)
    assert codes == [code for one in cells for code in mask_codes(one[None], geometry)]


def test_another_geometry_gives_other_codes() -> None:
    cells = np.random.default_rng(1).random((4, 6, 6)) < 0.5
    assert mask_codes(cells, GEOMETRIES[0]) != drawn(cells, square_geometry(64, 47, 48, 6, Preprocess.pad))
