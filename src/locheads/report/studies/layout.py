"""What a study's table is: its rows and columns, what is measured, and where the paper's figures stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from locheads.records.metrics_file import Estimate
from locheads.report.run_record import RunRecord
from locheads.report.studies.runs import StudyRun

Labels = tuple[str, ...]
"""One per axis."""
Measured = Estimate | float | str | None
"""An estimate, a number, or words; None where a run does not measure it."""


@dataclass(frozen=True)
class Axis:
    """What tells rows, or columns, apart."""

    name: str
    of: Callable[[StudyRun], str]


@dataclass(frozen=True)
class Quantity:
    """What is measured of a run."""

    key: str
    heading: str
    of: Callable[[StudyRun], Measured]
    scale: float = 1.0
    """The table's figures are so many times the measured ones: 100 for percent."""
    decimals: int = 1


@dataclass(frozen=True)
class Paper:
    """How paper.csv is read: a row per row of the paper, a column per figure."""

    rows: Mapping[str, str]
    """Column of the file -> axis."""
    figures: Mapping[str, tuple[Labels, str]]
    """Column of the file -> (labels of the column axes, quantity)."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Axes that the file does not tell -> their label."""


@dataclass(frozen=True)
class Layout:
    """One study's table."""

    study: str
    title: str
    rows: tuple[Axis, ...]
    quantities: tuple[Quantity, ...]
    columns: tuple[Axis, ...] = ()
    paper: Paper | None = None
    varies: tuple[str, ...] = ()
    """Beginnings of the settings in which its runs are meant to differ; other differences are noted."""
    parts: Callable[[StudyRun], Sequence[StudyRun]] = lambda run: [run]
    """The rows of one run, where it has several."""
    to_do: Callable[[Labels], bool] = lambda _: True
    """Whether a row of the paper is one that we measure, so that its absence is marked."""
    notes: Callable[[pd.DataFrame], list[str]] = lambda _: []
    """What to know of the paper's figures, from paper.csv as it is."""
    draw: Callable[[RunRecord], Figure] | None = None
    """A figure per run."""

    def row_of(self, run: StudyRun) -> Labels:
        return tuple(axis.of(run) for axis in self.rows)

    def column_of(self, run: StudyRun) -> Labels:
        return tuple(axis.of(run) for axis in self.columns)
