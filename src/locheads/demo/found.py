"""What the demo answers: one object, as the paper does; all objects that stand out; or one after a second look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco

from locheads.geometry import Geometry
from locheads.grounding.candidates import candidates
from locheads.grounding.zoom import Look, combine, seen_in
from locheads.grounding.zoom_config import ZoomConfig
from locheads.types import Box, Rect

ZOOM = ZoomConfig(looks=1)
"""As zoom=box: a square around the first answer."""
NO_BOX_TEXT = "no cell of the fused map exceeds its mean, so there is no box."


class Asked(StrEnum):
    """What the answer is."""

    one = "one object"
    """The box of the paper."""
    several = "several objects"
    """Every candidate that stands out (grounding/candidates.py)."""
    second_look = "second look"
    """One object, after the model was asked again about the part of the image around the first answer."""


@dataclass(frozen=True)
class Found:
    """In pixels of the image."""

    boxes: tuple[Box, ...]
    mask: Bool[np.ndarray, "height width"]
    heat: Float[np.ndarray, "row col"]
    """The fused map that the boxes are read from."""
    geometry: Geometry
    """Where its cells lie in the image."""
    text: str
    window: Rect | None = None
    """What the second look saw."""


def one_object(look: Look, width: int, height: int) -> Found:
    """The box of a look, and what it covers of an image of width x height pixels."""
    mask, geometry = look.mask(width, height), seen_in(look.geometry, look.view, width, height)
    if look.box is None:
        return Found((), mask, look.fused, geometry, NO_BOX_TEXT)
    return Found((look.box,), mask, look.fused, geometry, f"box from {corners(look.box)} in pixels; {covered(mask)}.")


def several_objects(look: Look) -> Found:
    """The boxes of all candidates that stand out, and their cells as the mask; of a look at the whole image."""
    (found,), geometry = candidates(look.stack), look.geometry
    mask = coco.decode({"size": [geometry.height, geometry.width], "counts": found.mask}).astype(bool)
    boxes, n, of = found.boxes[: found.n_answered], found.n_answered, len(found.boxes)
    if n == 0:
        return Found((), mask, look.fused, geometry, NO_BOX_TEXT)
    listed = "; ".join(f"{corners(box)}, {score:.2f}" for box, score in zip(boxes, found.scores, strict=False))
    counted = f"{n} of {of} candidates {'stands' if n == 1 else 'stand'} out"
    text = f"{counted}; boxes in pixels, scores as shares of the best: {listed}; {covered(mask)}."
    return Found(boxes, mask, look.fused, geometry, text)


def after_second_look(looks: Sequence[Look], width: int, height: int) -> Found:
    """The answer that counts of one look or two, where the second one was, and what the first had answered."""
    found = one_object(combine(looks, ZOOM), width, height)
    first, *further = looks
    if not further or first.box is None:
        return replace(found, text=f"{found.text} There was no part to look at again: the model was asked once.")
    window = further[0].view
    asked = f"The model was asked twice: its first look answered {corners(first.box)}, its second saw {corners(window)}"
    return replace(found, text=f"{found.text} {asked}, the thin frame.", window=window)


def corners(box: Iterable[float]) -> str:
    """In whole pixels."""
    x0, y0, x1, y1 = (round(end) for end in box)
    return f"({x0}, {y0}) to ({x1}, {y1})"


def covered(mask: Bool[np.ndarray, "height width"]) -> str:
    """The mask's share of the image in words."""
    return f"the mask covers {100 * mask.mean():.0f} %"
