"""The choices between the maps and the box; kept apart, because the configuration loads before everything.

What the paper says: Gaussian smoothing (kernel 7, sigma 1), element-wise sum, > mean, the largest convex hull, its
tight box. Everything else here is a reading of ours, and every default is the plainest one.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.settings import require, settings


class Border(StrEnum):
    """What smoothing sees beyond the map's border (names as in scipy.ndimage). The paper does not say."""

    mirror = "mirror"
    """d c b | a b c d | c b a: OpenCV's default, and torchvision's."""
    reflect = "reflect"
    nearest = "nearest"
    constant = "constant"


class Contrast(StrEnum):
    """What is taken from each head's map, first of all, so that what follows the expression is left (see
    grounding/contrast.py). Later than the paper, which takes nothing."""

    none = "none"
    others = "others"
    """ReLU(map - mean of the same head's maps for the image's expressions of other objects: another ref and another
    box). Which expressions belong to one object is used, never where it is. Without others a map stays as it is."""
    probes = "probes"
    """ReLU(map - mean of the same head's maps for four questions of place about the image (`contrast.PROBES`), which
    the attention pass asks besides): needs no other expression."""


class SmoothingScale(StrEnum):
    """What `sigma` and `kernel` are counted in. The paper names no unit, and its LLaVA-1.5 has a grid of 24 x 24, on
    which the two are the same to the bit; on other grids its words fit either."""

    cells = "cells"
    """Cells of the model's own grid."""
    grid = "grid"
    """Cells of a grid whose longer side has SMOOTHING_SIDE: on [row, col] cells both are taken times
    max(row, col) / 24, sigma as it comes, kernel by its reach of (kernel - 1) / 2 cells, which is rounded to whole ones
    (halves up), so that it stays odd. One factor for both axes: cells are square in the image, or nearly, and the
    longer side is what the original LLaVA pads to."""


class Normalise(StrEnum):
    """What each head's map is divided by before the sum. The paper sums; it names no division."""

    none = "none"
    sum = "sum"
    """Its attention sum: heads weigh the same, however much they look at the image."""
    max = "max"
    """Its largest weight."""


class Sinks(StrEnum):
    """Cells that draw attention in every image and say nothing of this one. The paper does not mention them."""

    keep = "keep"
    mean_map = "mean_map"
    """Zero where the head's mean map over the discovery samples exceeds `sink_factor` times that map's own mean."""
    border_rows = "border_rows"
    """Zero in the first and the last row (the released code C1 filters heads by the last)."""


class ThresholdRule(StrEnum):
    """Which cells of the fused map are foreground. The paper: above the mean."""

    mean = "mean"
    """> level x mean (default 1)."""
    otsu = "otsu"
    """> the value that parts the cells into the two classes of least variance (Otsu 1979), over all cells."""
    quantile = "quantile"
    """> the quantile `level` of the cells (default 0.8)."""
    max_fraction = "max_fraction"
    """> level x maximum (default 0.5)."""
    fixed_area = "fixed_area"
    """The strongest cells that make up the share `level` of all (default 0.1); cells that tie with the weakest of
    them belong, too."""


class Resolution(StrEnum):
    """Where the threshold applies. The paper does not say; the released code C1: on the grid."""

    grid = "grid"
    input = "input"
    """The fused map upsampled to `input_patch` pixels per cell, bars included."""
    image = "image"
    """Upsampled to the pixels of the original image that lie on the grid: bars take no part in the threshold."""


class Upsampling(StrEnum):
    """How the fused map is upsampled; without effect on the grid. The paper does not say."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"


class Component(StrEnum):
    """Which 8-connected component is the object. The paper: that of the largest convex hull."""

    largest_hull = "largest_hull"
    largest_area = "largest_area"
    largest_mass = "largest_mass"
    """The largest sum of the fused map."""
    highest_peak = "highest_peak"
    """The one that holds the fused map's maximum."""
    all_cells = "all_cells"
    """All of them together (released code C1)."""


class BoxRule(StrEnum):
    """From the chosen cells to the box. The paper: the tight box of the hull."""

    hull = "hull"
    """Around the hull of the cells as squares."""
    component = "component"
    """Around the cells: the same box as `hull`, as a hull never reaches beyond its cells. Offered so that the audit
    can show it."""
    cell_centres = "cell_centres"
    """Around the cells' indices, as a hull of index points gives it: a cell narrower and lower."""
    mass_quantiles = "mass_quantiles"
    """Along each axis the middle part that holds the share `mass` of the chosen cells' weight."""


class Padding(StrEnum):
    """Whether cells are mapped to pixels through the bars or cuts that the preprocessing made."""

    mapped = "mapped"
    """Through the exact inverse of the preprocessing."""
    ignored = "ignored"
    """As if the grid were the whole image: W/P and H/P pixels per cell (released code C1)."""


class Rounding(StrEnum):
    """Of the box, in pixels."""

    none = "none"
    truncated = "truncated"
    """To whole pixels, each end truncated, the last pixel belonging to the box (released code C1)."""


class MaskRule(StrEnum):
    """Which cells make the pseudo-mask."""

    all_cells = "all_cells"
    """All above the threshold (the paper's pseudo-mask)."""
    box_cells = "box_cells"
    """Only those of the component that made the box."""


SMOOTHING_SIDE = 24
"""Cells of LLaVA-1.5's grid."""


class CandidateScore(StrEnum):
    """What tells one component of the fused map from another as a candidate, as a share of the best one's."""

    mass = "mass"
    """Sum of the map over the component, above the threshold."""
    peak = "peak"
    """Maximum of the map."""
    area = "area"
    """Its cells."""


class StandOut(StrEnum):
    """Which candidates are the answer where an expression may name several objects."""

    share = "share"
    """Those that score at least `stand_out_share` of the best."""
    best = "best"
    """The best alone."""
    all = "all"
    """Every component above the threshold."""


LEVELS = {
    ThresholdRule.mean: 1.0,
    ThresholdRule.otsu: 0.0,
    ThresholdRule.quantile: 0.8,
    ThresholdRule.max_fraction: 0.5,
    ThresholdRule.fixed_area: 0.1,
}


@settings("grounding")
class GroundingConfig:
    """From the chosen heads' maps to a box and a pseudo-mask."""

    name: str = "paper"
    contrast: Contrast = Contrast.none
    sinks: Sinks = Sinks.keep
    sink_factor: Annotated[float, Field(gt=0, le=1e6, description="must be positive and at most 1,000,000")] = 5.0
    """Only sinks=mean_map."""
    normalise: Normalise = Normalise.none
    kernel: Annotated[int, Field(ge=1, le=999, description="must be odd and positive, at most 999")] = 7
    """Width of the Gaussian's window in cells, odd (documented)."""
    sigma: Annotated[float, Field(ge=0, le=1000, description="must be a number of cells, from 0 to 1000")] = 1.0
    """In cells (documented); 0 switches smoothing off."""
    smoothing_scale: SmoothingScale = SmoothingScale.cells
    border: Border = Border.mirror
    resolution: Resolution = Resolution.grid
    upsampling: Upsampling = Upsampling.bilinear
    input_patch: Annotated[int, Field(ge=1, le=64, description="must lie between 1 and 64 pixels")] = 14
    """Only resolution=input: pixels of the processor's input per cell (LLaVA-1.5: 14)."""
    threshold: ThresholdRule = ThresholdRule.mean
    level: Annotated[float | None, Field(ge=0, le=1e6, description="must be 0 or more, at most 1,000,000")] = None
    """The threshold's number, see ThresholdRule; null: its default."""
    component: Component = Component.largest_hull
    box: BoxRule = BoxRule.hull
    mass: Annotated[float, Field(gt=0, le=1, description="must lie above 0 and not exceed 1")] = 0.9
    """Only box=mass_quantiles."""
    padding: Padding = Padding.mapped
    rounding: Rounding = Rounding.none
    clamp: bool = True
    """The box ends where the image does. Not documented; false leaves in it what lies on padding bars."""
    mask: MaskRule = MaskRule.all_cells
    candidate_score: CandidateScore = CandidateScore.mass
    """This and the next two: only where expressions may name several objects. The single box does not change."""
    stand_out: StandOut = StandOut.share
    stand_out_share: Annotated[float, Field(gt=0, le=1, description="must lie above 0 and not exceed 1")] = 0.4
    """Only stand_out=share. Measured on the pocket data: experiments/grefcoco/README.md."""

    @property
    def smoothing(self) -> dict[str, int | float | str]:
        """The settings that smooth a map. Those of former stores name no scale: theirs is that of cells."""
        named = {"kernel": self.kernel, "sigma": self.sigma, "border": self.border.value}
        scale = self.smoothing_scale
        return named if scale == SmoothingScale.cells else named | {"smoothing_scale": scale.value}

    def __post_init__(self) -> None:
        level = self.threshold_level()
        share = self.threshold in (ThresholdRule.quantile, ThresholdRule.max_fraction, ThresholdRule.fixed_area)
        require(
            (self.kernel % 2 == 1, f"grounding.kernel must be odd and positive, not {self.kernel}."),
            (
                self.sigma == 0 or self.sigma >= 0.01,
                f"grounding.sigma={self.sigma} smooths nothing: write 0, or at least 0.01 cells.",
            ),
            (
                level < 1 or not share,
                f"grounding.level={level} leaves no or all cells with grounding.threshold={self.threshold.value}: "
                "give a share below 1.",
            ),
        )

    def threshold_level(self) -> float:
        """`level`, or the rule's default."""
        return LEVELS[self.threshold] if self.level is None else self.level
