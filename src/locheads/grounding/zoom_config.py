"""The choices of a second look at a part of the image; kept apart, because the configuration loads before everything.

The paper looks once. What public second passes do is in conf/zoom, each in its own file with its source.
"""

from dataclasses import field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.settings import Count, require, settings

Share = Annotated[float, Field(gt=0, le=1, description="must lie above 0 and not exceed 1")]


class Window(StrEnum):
    """How large the part is."""

    box = "box"
    """The answer's box, with `margin`."""
    share = "share"
    """`share` of the width and height of what was seen last, and inside of it."""
    pixels = "pixels"
    """A square of `side` pixels."""
    drop = "drop"
    """A square of `side` pixels times 1, 1.2, ... 2 where most of the map lies in it; that of these whose map falls
    off most sharply to the four windows beside it (Zhang et al., "MLLMs know where to look", ICLR 2025)."""


class Shape(StrEnum):
    """Of window=box, to which the box with its margin is widened."""

    square = "square"
    image = "image"
    """The image's shape."""
    box = "box"
    """The box's own."""


class Centre(StrEnum):
    """Where the part lies; it is moved into the image."""

    box = "box"
    """The middle of the answer's box."""
    peak = "peak"
    """The peak of the fused map."""


class Combine(StrEnum):
    """Which answer counts. A look without a box never does where another has one."""

    second = "second"
    """That of the last look."""
    attention = "attention"
    """That of the last look, unless its heads spend less attention on what they see than `keep` times what they spent
    on the image: then the look before it, and so on."""
    mean = "mean"
    """That of the mean of the maps of all looks, each divided by its sum over the part that the last one saw, on the
    grid of the last."""
    product = "product"
    """As mean, of their geometric mean: what one look leaves out is out."""


@settings("zoom")
class ZoomConfig:
    """A second look (and a third, ...): the LVLM is asked again about a part of the image around its first answer."""

    name: str = "none"
    looks: Annotated[int, Field(ge=0, le=10, description="must be a number of looks, from 0 to 10")] = 0
    """After the first; 0: none. Each of them costs a forward pass per expression."""
    window: Window = Window.box
    margin: Annotated[float, Field(ge=0, le=100, description="must be 0 or more, at most 100")] = 0.25
    """window=box: on each side of the box, as a share of its width or height."""
    shape: Shape = Shape.square
    share: list[Share] = field(default_factory=lambda: [0.5, 0.5])
    """window=share: of the width, and of the height."""
    side: Count = 336
    """window=pixels and window=drop."""
    least: Count = 32
    """No window is narrower or lower than so many pixels, unless the image is."""
    centre: Centre = Centre.box
    """Not window=drop."""
    combine: Combine = Combine.product
    keep: Annotated[float, Field(ge=0, le=100, description="must be 0 or more, at most 100")] = 0.5
    """combine=attention."""

    def __post_init__(self) -> None:
        require((len(self.share) == 2, f"zoom.share={self.share} must be two numbers: of the width, of the height."))
