"""What intervals and marks are, in sentences: the same under every table that goes into a paper, and in its methods."""

from collections.abc import Iterable

from locheads.evaluation.metric_table import METRIC

PAIRED_MARK = "\N{DOUBLE DAGGER}"
"""Behind a figure: its paired difference has an interval without 0. A star is taken: chosen with ground truth."""


def interval_words(level: str, metrics: Iterable[str]) -> str:
    """What the brackets are. `level`: such as 95 %, of the record; `metrics`: keys of what is shown.

    Nothing is resampled (see `locheads.evaluation.intervals`), and the sentence says so.
    """
    bounded = {METRIC[key].bounded for key in metrics if key in METRIC} or {True}
    wilson = "Wilson's, for as many independent expressions as the images are worth"
    student = "Student's"
    kinds = f"{wilson}; {student} for figures without bounds" if len(bounded) == 2 else wilson
    kinds = student if bounded == {False} else kinds
    return (
        f"Brackets are {level} intervals over images in closed form ({kinds}; the variance is the "
        "jackknife's over images, and nothing is resampled)."
    )


def paired_words(level: str, other: str) -> str:
    """What PAIRED_MARK says. `other`: what each figure is compared with, on the same expressions."""
    return (
        f"{PAIRED_MARK} the paired difference to {other}, on the same expressions, has a {level} interval "
        "over images (Student's, with the jackknife's variance over images, not resampled) without 0."
    )


def level_of(confidence: float) -> str:
    """0.95 -> 95 %."""
    return f"{100 * confidence:.6g} %"


def paired_mark(low: float, high: float) -> str:
    """PAIRED_MARK where the interval of a paired difference excludes 0; not where it is not known (NaN)."""
    return PAIRED_MARK if low > 0 or high < 0 else ""
