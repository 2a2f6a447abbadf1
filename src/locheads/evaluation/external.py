"""Answers of a file -> score rows, a batch at a time: no more than a batch of masks is in memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import pandas as pd

from locheads.data.predictions import Answer
from locheads.evaluation.methods import PREDICTIONS
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup, Sample

T = TypeVar("T")

BATCH = 2_000
"""Answers whose masks are in memory at once."""


def score_answers(
    answers: Iterable[Answer], groups: list[ImageGroup], absent: str
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """(rows as `predict` makes them, their scores), in batches.

    Answers about other samples than those of the groups are skipped. A sample without an answer comes last, with
    the reason `absent`, and counts as a miss.
    """
    truth = Truth(groups)
    missing = {sample.sample_id: (group, sample) for group in groups for sample in group.samples}
    for part in _batches(answers):
        rows = [_row(*missing.pop(a.sample_id), a, None) for a in part if a.sample_id in missing]
        if rows:
            yield _scored(rows, truth)
    for rest in _batches(list(missing.values())):
        yield _scored([_row(*each, Answer(each[1].sample_id, None, None), absent) for each in rest], truth)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, BATCH)):
        yield part


def _scored(rows: list[dict], truth: Truth) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.DataFrame(rows)
    return frame, truth.score(frame)


def _row(group: ImageGroup, sample: Sample, answer: Answer, error: str | None) -> dict[str, object]:
    row = {
        "method": PREDICTIONS,
        "draw": 0,
        "sample_id": sample.sample_id,
        "image_id": group.image_id,
        "ref_id": sample.ref_id,
        "expression": sample.expression,
        "heads": "",
    }
    row |= dict(zip(("x0", "y0", "x1", "y1"), answer.box or (None,) * 4, strict=True))
    row |= {"peak_x": None, "peak_y": None}
    row |= {"mask_counts": answer.mask and answer.mask["counts"]}
    return row | {"mask_height": group.height, "mask_width": group.width, "error": error}
