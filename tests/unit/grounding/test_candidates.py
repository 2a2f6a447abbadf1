"""Candidates of maps whose components are known; which of them stand out; the single box does not move."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco

from locheads.geometry import stretched
from locheads.grounding.candidates import Candidates, candidates, n_standing_out
from locheads.grounding.config import CandidateScore, GroundingConfig, Padding, StandOut
from locheads.grounding.ground_maps import GroundedStack, ground_stack

GEOMETRY = stretched(80, 60, 6, 8)  # cells of 10 x 10 pixels


def fused() -> np.ndarray:
    """Three components: 2 x 2 cells of 6, a cell of 20, a cell of 5."""
    field = np.zeros((6, 8))
    field[1:3, 1:3], field[4, 6], field[0, 5] = 6.0, 20.0, 5.0
    return field


def found(fields: list[np.ndarray], **settings: object) -> list[Candidates]:
    config = GroundingConfig(**settings)  # type: ignore[arg-type]
    return candidates(GroundedStack(np.stack(fields), [GEOMETRY] * len(fields), config))


def test_boxes_scores_and_the_mask_of_the_answer() -> None:
    (own,) = found([fused()], stand_out_share=0.5)
    assert own.boxes == ((10, 10, 30, 30), (60, 40, 70, 50), (50, 0, 60, 10))
    assert own.scores == pytest.approx((1.0, 20 / 24, 5 / 24))
    assert own.n_answered == 2
    mask = coco.decode({"size": [60, 80], "counts": own.mask}).astype(bool)
    expected = np.zeros((60, 80), dtype=bool)
    expected[10:30, 10:30] = expected[40:50, 60:70] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("score", "scores"),
    [
        (CandidateScore.mass, (1, 20 / 24, 5 / 24)),
        (CandidateScore.peak, (1, 6 / 20, 5 / 20)),
        (CandidateScore.area, (1, 1 / 4, 1 / 4)),
    ],
)
def test_scores(score: CandidateScore, scores: tuple[float, ...]) -> None:
    (own,) = found([fused()], candidate_score=score)
    assert own.scores == pytest.approx(scores)
    # Of equal scores the first in reading order.
    if score == CandidateScore.area:
        assert own.boxes[1:] == ((50, 0, 60, 10), (60, 40, 70, 50))


@pytest.mark.parametrize(
    ("rule", "share", "count"),
    [(StandOut.share, 0.9, 1), (StandOut.share, 0.5, 2), (StandOut.share, 0.5000001, 1), (StandOut.share, 0.1, 3),
     (StandOut.best, 0.1, 1), (StandOut.all, 1.0, 3)],
)  # fmt: skip
def test_what_stands_out(rule: StandOut, share: float, count: int) -> None:
    assert n_standing_out((1.0, 0.5, 0.1), GroundingConfig(stand_out=rule, stand_out_share=share)) == count


def test_a_map_without_cells_above_the_threshold_answers_nothing() -> None:
    nothing, something = found([np.ones((6, 8)), fused()])
    assert (nothing.boxes, nothing.scores, nothing.n_answered) == ((), (), 0)
    assert coco.area({"size": [60, 80], "counts": nothing.mask}) == 0
    assert [something] == found([fused()])
    # Nor where no map of the stack has any.
    assert found([np.ones((6, 8))]) == [nothing]


def test_a_component_on_a_padding_bar_is_no_candidate() -> None:
    field = np.zeros((8, 8))
    field[0, 0], field[4, 4] = 9.0, 5.0  # the image lies in rows 2 to 5
    padded = replace(stretched(80, 40, 4, 8), rows=8, offset=(0.0, 2.0))
    (own,) = candidates(GroundedStack(field[None], [padded], GroundingConfig()))
    assert own.boxes == ((40, 20, 50, 30),) and own.scores == (1.0,)
    ignoring = GroundingConfig(padding=Padding.ignored)
    assert len(candidates(GroundedStack(field[None], [padded], ignoring))[0].boxes) == 2


def test_the_best_of_the_paper_is_among_them_and_its_box_does_not_depend_on_them() -> None:
    maps = np.random.default_rng(3).random((20, 2, 12, 12)).astype(np.float32) ** 4
    geometry = stretched(120, 120, 12, 12)
    boxes = []
    for settings in ({}, {"stand_out": "all", "candidate_score": "area"}):
        stack = ground_stack(maps, (geometry,) * 20, GroundingConfig(**settings))
        for i, own in enumerate(candidates(stack)):
            assert stack.box(i) in own.boxes
        boxes.append(stack.boxes)
    np.testing.assert_array_equal(*boxes)


def test_on_the_image_itself() -> None:
    (own,) = found([fused()], resolution="image", upsampling="nearest")
    assert own.boxes == ((10, 10, 30, 30), (60, 40, 70, 50), (50, 0, 60, 10))
