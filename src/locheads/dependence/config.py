"""How it is measured whether heads follow the words; kept apart, because the configuration loads before everything."""

from typing import Annotated

from pydantic import Field

from locheads.settings import Count, Natural, settings


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
