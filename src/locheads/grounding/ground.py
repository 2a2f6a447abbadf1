"""From the chosen heads' maps of one expression to its box and pseudo-mask in the original picture."""

import numpy as np
from jaxtyping import Float

from locheads.config import BoxRule, GroundingConfig, MaskRule
from locheads.grounding.fuse import binarise, fuse
from locheads.grounding.hulls import largest_hull, tight_box
from locheads.models.geometry import Geometry
from locheads.types import Box, Grounding


def ground_maps(maps: Float[np.ndarray, "head row col"], geometry: Geometry, config: GroundingConfig) -> Grounding:
    """Smooth, sum, binarise, hull, box (paper, grounding steps 1 to 3).

    Raises:
        ValueError: a map holds NaN or infinity: nothing can be grounded on it.
    """
    if not np.isfinite(maps).all():
        raise ValueError("an attention map holds NaN or infinity")
    heatmap = fuse(maps, config)
    cells = binarise(heatmap)
    box_cells = largest_hull(cells) if config.box is BoxRule.largest_hull else cells
    mask_cells = cells if config.mask is MaskRule.all_cells else box_cells
    return Grounding(_pixel_box(box_cells, geometry), geometry.upsample(mask_cells), heatmap, geometry)


def _pixel_box(cells: np.ndarray, geometry: Geometry) -> Box | None:
    """None without cells, or where all of them lie on padding bars."""
    box = tight_box(cells)
    if box is None:
        return None
    x0, y0, x1, y1 = (float(v) for v in geometry.to_visible_pixels(np.array(box)))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
