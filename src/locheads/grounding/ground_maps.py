"""From the chosen heads' maps of one expression to its box and pseudo-mask in the original image."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Int

from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, cell_boxes
from locheads.grounding.components import Components, choose
from locheads.grounding.config import GroundingConfig, MaskRule
from locheads.grounding.fuse import binarise, fuse
from locheads.grounding.lattice import framed, lattice, upsample
from locheads.types import Box, Grounding


@dataclass(frozen=True)
class Steps:
    """What grounding did with one expression, step by step."""

    fused: Float[np.ndarray, "row col"]
    """On the patch grid."""
    lattice: Geometry
    """Of the arrays below: where the threshold applied."""
    field: Float[np.ndarray, "y x"]
    """The fused map there."""
    labels: Int[np.ndarray, "y x"]
    """0: below the threshold; else the number of the component."""
    chosen: Bool[np.ndarray, "y x"]
    """The cells that made the box."""
    box: Box | None
    """xyxy in pixels; None without cells, or where all of them lie on padding bars."""

    def mask(self, rule: MaskRule) -> Bool[np.ndarray, "height width"]:
        """The pseudo-mask in pixels of the original image."""
        match rule:
            case MaskRule.all_cells:
                return self.lattice.upsample(self.labels > 0)
            case MaskRule.box_cells:
                return self.lattice.upsample(self.chosen)
            case _:
                assert_never(rule)


def ground_maps(
    maps: Float[np.ndarray, "head row col"],
    geometry: Geometry,
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "head row col"] | None = None,
) -> Grounding:
    """Smooth, sum, binarise, hull, box (paper, grounding steps 1 to 3).

    Raises:
        ValueError: a map holds NaN or infinity: nothing can be grounded on it.
    """
    steps = ground_steps(maps, geometry, config, sinks)
    return Grounding(steps.box, steps.mask(config.mask), steps.fused, geometry)


def ground_steps(
    maps: Float[np.ndarray, "head row col"],
    geometry: Geometry,
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "head row col"] | None = None,
) -> Steps:
    """As `ground_maps`, with everything in between."""
    if not np.isfinite(maps).all():
        raise ValueError("an attention map holds NaN or infinity")
    fused = fuse(maps[None], config, sinks)
    stack = ground_stack(fused, geometry, config)
    box = stack.boxes[0]
    found = None if np.isnan(box).any() else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return Steps(fused[0], stack.lattice, stack.field[0], stack.labels[0], stack.chosen[0], found)


@dataclass(frozen=True)
class Stack:
    """Many fused maps of one image, grounded; the arrays as in `Steps`, but for `boxes`, NaN where there is none."""

    lattice: Geometry
    field: Float[np.ndarray, "n y x"]
    labels: Int[np.ndarray, "n y x"]
    chosen: Bool[np.ndarray, "n y x"]
    boxes: Float[np.ndarray, "n 4"]


def ground_stack(fused: Float[np.ndarray, "n row col"], geometry: Geometry, config: GroundingConfig) -> Stack:
    """Threshold, components, boxes of each fused map by itself."""
    frame = framed(geometry, config)
    where, field = lattice(frame, config), upsample(fused, frame, config)
    components = Components.of(binarise(field, config.threshold, config.threshold_level()))
    chosen = choose(components, field, config.component)
    boxes = Frames.of([where] * len(fused)).pixels(cell_boxes(chosen, field, config), config)
    return Stack(where, field, components.labels, chosen, boxes)
