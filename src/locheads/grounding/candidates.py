"""Candidates: every component of the fused map above its threshold is one, with box and score; some are the answer.

For expressions that may name several objects. The single box of the paper stays what it is: the box of one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Int

from locheads.grounding.boxes import Frames
from locheads.grounding.components import Components
from locheads.grounding.config import CandidateScore, GroundingConfig, StandOut
from locheads.grounding.ground_maps import GroundedStack, LatticeGroup
from locheads.grounding.run_lengths import mask_codes
from locheads.types import Box


@dataclass(frozen=True)
class Candidates:
    """What one fused map offers; the best first, of equals the first in reading order."""

    boxes: tuple[Box, ...] = ()
    """xyxy in pixels of the image, around the component's cells; components on padding bars alone are left out."""
    scores: tuple[float, ...] = ()
    """See `CandidateScore`: 1 for the best, the others as shares of it."""
    n_answered: int = 0
    """So many of them are the answer; 0: none is there."""
    mask: str = ""
    """The cells of these together, in pixels of the image, in COCO's run-length code without its size."""


def candidates(stack: GroundedStack) -> list[Candidates]:
    """Of every sample of a stack.

    Raises ValueError for a map that holds NaN or infinity.
    """
    found = [Candidates()] * len(stack.fused)
    for place, components, field in zip(stack.places, stack.components, stack.fields, strict=True):
        for at, own in zip(place.at.tolist(), _of_place(place, components, field, stack.config), strict=True):
            found[at] = own
    return found


def n_standing_out(scores: Sequence[float], config: GroundingConfig) -> int:
    """How many of the scores, which fall from 1 on, are the answer."""
    if not scores:
        return 0
    match config.stand_out:
        case StandOut.share:
            return sum(score >= config.stand_out_share for score in scores)
        case StandOut.best:
            return 1
        case StandOut.all:
            return len(scores)
        case _:
            assert_never(config.stand_out)


def _of_place(
    place: LatticeGroup, components: Components, field: Float[np.ndarray, "m y x"], config: GroundingConfig
) -> list[Candidates]:
    boxes = _boxes(place, components, config)
    values = _values(components, field, config.candidate_score)
    order = [_order(np.flatnonzero(components.owner == i), boxes, values) for i in range(len(field))]
    scores = [(values[own] / values[own[0]]).tolist() if len(own) else [] for own in order]
    counts = [n_standing_out(own, config) for own in scores]
    answered = zip(components.labels, order, counts, strict=True)
    cells = np.stack([np.isin(labels, own[:count] + 1) for labels, own, count in answered])
    masks = _masks(place, cells)
    return [
        Candidates(tuple(map(tuple, boxes[own].tolist())), tuple(score), count, mask)
        for own, score, count, mask in zip(order, scores, counts, masks, strict=True)
    ]


def _boxes(place: LatticeGroup, components: Components, config: GroundingConfig) -> Float[np.ndarray, "component 4"]:
    """Around each component in pixels; NaN where nothing of it lies in the image."""
    ends = components.boxes.astype(np.float64)
    ends[:, 2:] += ends[:, :2]
    return Frames.of([place.lattices[i] for i in components.owner]).pixels(ends, config)


def _values(
    components: Components, field: Float[np.ndarray, "m y x"], score: CandidateScore
) -> Float[np.ndarray, "component"]:
    match score:
        case CandidateScore.mass:
            return components.masses(field)
        case CandidateScore.peak:
            return components.peaks(field)
        case CandidateScore.area:
            return components.areas
        case _:
            assert_never(score)


def _order(
    own: Int[np.ndarray, "candidate"], boxes: Float[np.ndarray, "component 4"], values: Float[np.ndarray, "component"]
) -> Int[np.ndarray, "with_box"]:
    """The components of one map that have a box, the best first."""
    with_box = own[~np.isnan(boxes[own]).any(axis=1)]
    return with_box[np.argsort(-values[with_box], kind="stable")]


def _masks(place: LatticeGroup, cells: Bool[np.ndarray, "m y x"]) -> list[str]:
    codes = [""] * len(cells)
    for lattice in dict.fromkeys(place.lattices):
        rows = [row for row, own in enumerate(place.lattices) if own == lattice]
        for row, code in zip(rows, mask_codes(cells[rows], lattice), strict=True):
            codes[row] = code
    return codes
