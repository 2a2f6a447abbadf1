"""What a dossier is made of: plain values, which know nothing of how they are shown. Texts may hold anything that data
holds: whoever shows them escapes them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from locheads.evaluation.metric_table import Metric
from locheads.records.metrics_file import Estimate
from locheads.report.run_record import RunRecord


class Standing(StrEnum):
    """How something that a reviewer would ask stands; the values are the headings of the first list."""

    holds = "What holds"
    ask = "What to ask about"
    unknown = "What this run does not know"


@dataclass(frozen=True)
class Outcome:
    """A line of the first list."""

    standing: Standing
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells below headings; the first cell names the row."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False
    """Whether the cells hold words and not numbers."""


@dataclass(frozen=True)
class Section:
    """One subject, in sentences and tables."""

    title: str
    """Of letters and blanks."""
    outcomes: tuple[Outcome, ...] = ()
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    paragraphs: tuple[tuple[str, str], ...] = ()
    """(what it is about, its text), between the sentences and the tables."""

    @property
    def anchor(self) -> str:
        """What links lead to: what Markdown makes of the title."""
        return re.sub(r"[^a-z]+", "-", self.title.lower())


Subject = Callable[[RunRecord], Section]


def holds(text: str) -> Outcome:
    """Nothing to ask."""
    return Outcome(Standing.holds, text)


def ask(text: str) -> Outcome:
    """A reviewer should ask about it."""
    return Outcome(Standing.ask, text)


def unknown(text: str) -> Outcome:
    """It was not checked, or not recorded."""
    return Outcome(Standing.unknown, text)


def amount(n: int, noun: str) -> str:
    """1,415 expressions; 1 expression."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def measured_texts(metrics: Iterable[Metric], found: Mapping[str, Estimate]) -> list[str]:
    """A cell per metric: its figure with the interval, or that there is none."""
    return [found[m.key].text(m.unit) if m.key in found else "not measured" for m in metrics]


def share(part: int, whole: int) -> str:
    """ " (12.5 %)"; nothing of nothing."""
    return f" ({100 * part / whole:.1f} %)" if whole else ""
