"""Answers are scored a batch at a time, and in batches they score as at once."""

from collections.abc import Iterator

import pandas as pd
import pytest

from locheads.data.prediction_files import Answer
from locheads.evaluation import truth as external
from locheads.evaluation.truth import score_answers
from locheads.types import ImageGroup


def _answers(group: ImageGroup, taken: list[str]) -> Iterator[Answer]:
    """The right object's box and mask for everything; notes what was asked for."""
    for sample_id in ("elsewhere", "right", "left"):
        taken.append(sample_id)
        yield Answer(sample_id, group.samples[1].box, group.samples[1].mask)


def test_batches_are_taken_one_by_one_and_change_nothing(group: ImageGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(score_answers(_answers(group, []), [group], "absent"))
    assert len(whole) == 1
    monkeypatch.setattr(external, "BATCH", 2)
    taken: list[str] = []
    batches = score_answers(_answers(group, taken), [group], "absent")
    parts = [next(batches)]
    assert taken == ["elsewhere", "right"]  # the rest of the file is not read yet
    parts += batches
    assert [row for rows, _ in parts for row in rows] == whole[0][0]
    joined = pd.concat([scores for _, scores in parts], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole[0][1])
    assert whole[0][1].set_index("sample_id")["box_iou"].to_dict() == {"right": 1.0, "left": 0.0}


def test_samples_without_an_answer_come_last_with_the_reason(group: ImageGroup) -> None:
    answers = [Answer("right", None, None)]
    scores = pd.concat([scores for _, scores in score_answers(answers, [group], "absent")])
    assert scores["sample_id"].tolist() == ["right", "left"]
    assert scores["error"].isna().tolist() == [True, False] and scores["error"].iloc[1] == "absent"
    assert not scores["answered"].any()
    assert scores["union"].tolist() == [400, 400]  # the objects' own areas
