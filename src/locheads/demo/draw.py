"""Images of an answer."""

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from locheads.geometry import Geometry
from locheads.report.sample_panel import faded, unit
from locheads.report.theme import PREDICTED_BOX, heat_map
from locheads.types import Box

SIDE = 960
"""Pixels of a drawn image's long side, at most."""
MASK_COLOUR = np.array([0, 192, 139])


def over(image: Image.Image, heat: Float[np.ndarray, "row col"], geometry: Geometry) -> Image.Image:
    """A heat map over the grey image, with the same colours as in the report."""
    base = _small(image)
    factor = base.width / image.width
    x0, y0, x1, y1 = geometry.to_pixels(np.array([0, 0, geometry.cols, geometry.rows])) * factor
    colours = Image.fromarray((255 * heat_map()(unit(heat))).astype(np.uint8), "RGBA")
    # The base's pixels in the map's cells: bars of padding fall outside, a crop leaves the rest clear.
    cell = (x1 - x0) / geometry.cols, (y1 - y0) / geometry.rows
    affine = (1 / cell[0], 0, -x0 / cell[0], 0, 1 / cell[1], -y0 / cell[1])
    layer = colours.transform(base.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    grey = Image.fromarray(faded(np.asarray(base))).convert("RGBA")
    return Image.alpha_composite(grey, layer).convert("RGB")


def with_box(drawn: Image.Image, box: Box | None, size: tuple[int, int]) -> Image.Image:
    """The box, in pixels of an image of `size` (width, height), with a dark edge so that it shows anywhere."""
    if box is None:
        return drawn
    across, down = drawn.width / size[0], drawn.height / size[1]
    corners = [box[0] * across, box[1] * down, box[2] * across, box[3] * down]
    result = drawn.copy()
    pen = ImageDraw.Draw(result)
    for width, ink in ((6, "#000000"), (3, PREDICTED_BOX)):
        pen.rectangle(corners, outline=ink, width=width)
    return result


def with_mask(image: Image.Image, mask: Bool[np.ndarray, "height width"]) -> Image.Image:
    """The image in its colours inside the mask's green, grey and dark outside."""
    pixels = np.asarray(image)
    inside = (0.6 * pixels + 0.4 * MASK_COLOUR).astype(np.uint8)
    return _small(Image.fromarray(np.where(mask[..., None], inside, faded(pixels))))


def _small(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((SIDE, SIDE))
    return copy
