"""Controls are other heads of the same layers."""

import numpy as np

from locheads.dependence.control_heads import others_of_layers
from locheads.types import HeadIndex

VALUES = np.array([[0.4, 0.1, 0.3, 0.2], [0.9, 0.8, 0.7, np.nan]])


def heads(*names: tuple[int, int]) -> tuple[HeadIndex, ...]:
    return tuple(HeadIndex(*name) for name in names)


def test_as_many_of_each_layer_of_the_lowest_values() -> None:
    assert others_of_layers(heads((1, 0), (0, 2)), VALUES) == heads((0, 1), (1, 2))
    assert others_of_layers(heads((0, 1), (0, 2)), VALUES) == heads((0, 3), (0, 0))
    assert others_of_layers(heads((0, 1)), -VALUES) == heads((0, 0))


def test_a_layer_without_enough_others_gives_those_that_it_has() -> None:
    assert others_of_layers(heads((1, 0), (1, 1), (1, 2)), VALUES) == heads((1, 3))
    assert others_of_layers(heads(*((0, head) for head in range(4))), VALUES) == ()
