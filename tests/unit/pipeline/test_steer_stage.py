"""The biases of stage=steer, and the change in log-odds, by hand."""

import numpy as np
import torch

from locheads.geometry import Preprocess, square_geometry
from locheads.models.adapters import PreparedInput
from locheads.pipeline.steer_stage import compared, hiding, moving

PREFIX = torch.tensor([1, 9, 9, 7, 9, 9, 9])
"""9: the image's tokens, the last of which is no cell of the grid; 7 stands between its rows."""


def prepared() -> PreparedInput:
    geometry = square_geometry(16, 16, 16, 2, Preprocess.squash)
    return PreparedInput(PREFIX, (torch.tensor([3]),), ((0, 1),), torch.tensor([1, 2, 4, 5]), {}, geometry)


def test_cells_of_the_other_attract_and_the_own_repel_where_they_are_not_the_others() -> None:
    own, other = np.array([[True, True], [False, False]]), np.array([[False, True], [True, False]])
    assert moving(prepared(), own, other, -20.0, 5.0).tolist() == [0, -20, 5, 0, 5, 0, 0]
    assert moving(prepared(), other, own, -20.0, 5.0).tolist() == [0, 5, 5, 0, -20, 0, 0]


def test_hidden_are_all_tokens_of_the_image_and_no_others() -> None:
    hidden = [0 if token != 9 else -torch.inf for token in PREFIX.tolist()]
    assert hiding(prepared(), 9).tolist() == hidden


def test_the_change_of_log_odds() -> None:
    before = np.log(np.array([0.7, 0.2, 0.1]))
    after = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.05, 0.15, 0.8]]))
    changes, becomes = compared(before, after, 0, 1)
    np.testing.assert_allclose(changes, np.log([1, (0.6 / 0.3) / (0.2 / 0.7), 3 / (0.2 / 0.7)]), atol=1e-12)
    assert becomes.tolist() == [False, True, False]
