"""The check of shapes is on, and a wrong shape or type is an error where the array is passed."""

import os

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from locheads.geometry import Preprocess, square_geometry
from locheads.map_numbers import attention_sum, spatial_entropy

pytestmark = pytest.mark.skipif(os.environ.get("LOCHEADS_SHAPES") == "0", reason="this session leaves the check out")


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(TypeCheckError, match="maps"):
        spatial_entropy(np.zeros((2, 3, 4, 4)))
    with pytest.raises(TypeCheckError, match="boxes"):
        square_geometry(120, 90, 168, 12, Preprocess.pad).to_cells(np.zeros(3))


def test_a_wrong_type_is_an_error_and_a_fitting_one_passes() -> None:
    with pytest.raises(TypeCheckError, match="maps"):
        attention_sum(np.zeros((4, 4), dtype=bool))
    assert attention_sum(np.ones((2, 4, 4))).tolist() == [16, 16]
