"""Tables for the terminal: one function, whose tables fit 100 columns whatever stands in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from textwrap import fill

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from locheads.terminal import PlainConsole
from locheads.text import printable

WIDE = 100
"""Columns of a terminal."""
WORDS, HEADING, ABOVE = 30, 16, 10
"""Columns that words take before they are folded, where others need the room; a figure's heading; a group's."""

Cell = str | Text


class Kind(Enum):
    """What becomes of a column that does not fit as it is."""

    LABEL = "label"
    """Tells rows apart: stands left of every part of the table. One value in all rows moves into the caption."""
    FIGURE = "figure"
    """Stays whole; what is too much for one line of the terminal goes into the table's next part."""
    WORDS = "words"
    """As FIGURE, but folded. One value in all rows moves into the caption."""


@dataclass(frozen=True)
class Column:
    """`group`: above the headings of neighbours that stay together."""

    heading: str
    kind: Kind = Kind.FIGURE
    group: str = ""


@dataclass(frozen=True)
class Row:
    """A cell per column, of text."""

    cells: Sequence[Cell]
    style: str | None = None


def label(*headings: str) -> list[Column]:
    return [Column(heading, Kind.LABEL) for heading in headings]


def figures(*headings: str) -> list[Column]:
    return [Column(heading) for heading in headings]


def words(*headings: str) -> list[Column]:
    return [Column(heading, Kind.WORDS) for heading in headings]


def fitted_table(
    title: str, columns: Sequence[Column], rows: Sequence[Row], caption: str = "", width: int = WIDE
) -> RenderableType:
    """The rows below the title, no wider than `width`.

    A label or words that all rows share move into the caption. Rows that share their first label stand together below
    it where that saves room. Columns that do not fit side by side follow in further parts, with the labels again.
    """
    constant = _constant(columns, rows)
    shared = [f"{f'{columns[at].group} {columns[at].heading}'.strip()}: {rows[0].cells[at]}" for at in constant]
    kept = [at for at in range(len(columns)) if at not in constant]
    rows = [Row([row.cells[at] for at in kept], row.style) for row in rows]
    parts = _parts([columns[at] for at in kept], rows, width)
    notes = "\n".join(text for text in (f"In all rows: {', '.join(shared)}." if shared else "", caption) if text)
    texts = [Constrain(Text(printable(text, keep="\n"), style), width)
             for text, style in ((title, "table.title"), (notes, "table.caption"))]  # fmt: skip
    return Group(texts[0], *parts, *texts[1:]) if notes else Group(texts[0], *parts)


def _constant(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    """Where all rows say the same; a column without a name, and the last label, stay."""
    same = [
        at for at, column in enumerate(columns)
        if column.kind is not Kind.FIGURE and column.heading and len({str(row.cells[at]) for row in rows}) == 1
    ]  # fmt: skip
    labels = [at for at, column in enumerate(columns) if column.kind is Kind.LABEL]
    spared = labels[-1:] if set(labels) <= set(same) else []
    return [at for at in same if at not in spared] if len(rows) > 1 else []


def _parts(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Table]:
    """As many tables as it takes, each with all labels and as many of the other columns as fit."""
    n = sum(column.kind is Kind.LABEL for column in columns)
    labels, rest = list(range(n)), list(range(n, len(columns)))
    bundles = [list(found) for _, found in groupby(rest, key=lambda at: columns[at].group or at)]
    parts: list[list[int]] = [[]]
    for bundle in bundles:
        if parts[-1] and _wide(_table(columns, rows, [*labels, *parts[-1], *bundle])) > width:
            parts.append([])
        parts[-1] += bundle
    tables = [_table(columns, _filled(rows, part), [*labels, *part], most=width) for part in parts]
    for table in tables:
        table.width = min(width, _wide(table))
    return tables


def _filled(rows: Sequence[Row], part: Sequence[int]) -> Sequence[Row]:
    """The rows that have something to say in this part; all where none has."""
    return [row for row in rows if any(str(row.cells[at]) for at in part)] or rows


def _wide(table: Table) -> int:
    return PlainConsole(width=10_000).measure(table).maximum


def _table(columns: Sequence[Column], rows: Sequence[Row], shown: Sequence[int], most: int = WORDS) -> Table:
    """The columns at `shown`, the labels first; words take at most `most`."""
    sections = _sections(columns, rows)
    shown = [at for at in shown if at > 0 or not sections]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for at, heading in zip(shown, _headings([columns[at] for at in shown]), strict=True):
        figure = columns[at].kind is Kind.FIGURE
        table.add_column(
            Text(printable(heading, keep="\n")), justify="right" if figure else "left", no_wrap=figure,
            overflow="fold", max_width=None if figure else most,
        )  # fmt: skip
    for first, together in groupby(rows, key=lambda row: str(row.cells[0]) if sections else ""):
        if first:
            table.add_row(first, style="bold")
        for row in together:
            cells = [row.cells[at] for at in shown]
            table.add_row(f"  {cells[0]}" if first else cells[0], *cells[1:], style=row.style)
    return table


def _headings(columns: Sequence[Column]) -> list[str]:
    """Each below the name of its group, which stands above the group's first column."""
    above = [fill(column.group, ABOVE).split("\n") if column.group else [] for column in columns]
    height, found = max(map(len, above)), []
    for at, column in enumerate(columns):
        lines = [] if at and column.group == columns[at - 1].group else above[at]
        own = [fill(line, HEADING) for line in column.heading.split("\n")] if column.kind is Kind.FIGURE else None
        found.append("\n".join([*[""] * (height - len(lines)), *lines, *(own or [column.heading])]))
    return found


def _sections(columns: Sequence[Column], rows: Sequence[Row]) -> bool:
    """Whether the first of several labels stands above its rows: where most of its values have two rows or more."""
    several = sum(column.kind is Kind.LABEL for column in columns) > 1
    return several and len(rows) > 1 and 2 * len(list(groupby(str(row.cells[0]) for row in rows))) <= len(rows) + 1
