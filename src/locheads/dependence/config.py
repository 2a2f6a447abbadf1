"""How it is measured whether heads follow the words; kept apart, because the configuration loads before everything."""

from dataclasses import field
from typing import Annotated

from pydantic import Field

from locheads.settings import Count, Natural, require, settings

Bias = Annotated[float, Field(ge=-1000, le=1000, description="must lie between -1000 and 1000")]


@settings("dependence")
class DependenceConfig:
    """The pairs of expressions on which a head's dependence on the words is measured, without ground truth."""

    images: Natural = 60
    """Whole images, all of whose expressions are asked: of the discovery split, or of the evaluated one where the heads
    are given. 0: nothing is measured, and nobody is told whether the heads follow the words."""
    tolerance: Annotated[float, Field(ge=0, le=1, description="must be a share of the map's side, from 0 to 1")] = (
        1 / 12
    )
    """Two peaks are at the same place within this share of the map's rows and of its columns, and always within one
    cell."""
    resamples: Count = 2000
    """Of the bootstrap over images."""


@settings("steer")
class SteerConfig:
    """stage=steer: does the answer change when chosen heads are made to look at another object?"""

    k: list[Count] = field(default_factory=lambda: [3, 10])
    """How many of the most frequent heads are steered together; as many as there are where that is fewer."""
    other: Bias = 5.0
    """Added to their logits, before the softmax, on the cells that another expression is grounded on."""
    own: Bias = -20.0
    """The same on the cells of the expression itself that are none of the other's."""
    images: Count = 60
    """Of those that are judged (dependence.images), so many at most."""

    def __post_init__(self) -> None:
        require((len(self.k) > 0, "steer.k is empty: write how many heads are steered together, such as [3,10]."))
