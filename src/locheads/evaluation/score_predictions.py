"""Answers of a file -> score rows, a batch at a time: no more than a batch of masks is in memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import pandas as pd

from locheads.data.prediction_files import Answer
from locheads.evaluation.metric_table import PREDICTIONS
from locheads.evaluation.rows import Row, prediction_row
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup, Sample

T = TypeVar("T")

BATCH = 2_000
"""Answers whose masks are in memory at once."""


def score_answers(
    answers: Iterable[Answer], groups: list[ImageGroup], absent: str, method: str = PREDICTIONS
) -> Iterator[tuple[list[Row], pd.DataFrame]]:
    """(rows, their scores), in batches.

    Answers about other samples than those of the groups are skipped. A sample without an answer comes last, with
    the reason `absent`, and counts as a miss. `method`: PREDICTIONS, or POINTS of a file of points.
    """
    truth = Truth(groups)
    missing = {sample.sample_id: (group, sample) for group in groups for sample in group.samples}
    for part in _batches(answers):
        rows = [_row(*missing.pop(a.sample_id), a, method) for a in part if a.sample_id in missing]
        if rows:
            yield rows, truth.score(pd.DataFrame(rows))
    for rest in _batches(list(missing.values())):
        rows = [_row(*each, Answer(each[1].sample_id, None, None), method, absent) for each in rest]
        yield rows, truth.score(pd.DataFrame(rows))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, BATCH)):
        yield part


def _row(group: ImageGroup, sample: Sample, answer: Answer, method: str, error: str | None = None) -> Row:
    counts = None if answer.mask is None else str(answer.mask["counts"])
    return prediction_row(group, sample, method, box=answer.box, counts=counts, point=answer.point, error=error)
