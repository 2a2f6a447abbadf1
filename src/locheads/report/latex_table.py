r"""A table for a paper: LaTeX with the package booktabs, its numbers aligned at their points, text of data escaped.

Alignment needs no further package: what a number lacks before or behind its point, beside the others of its column, is
set as a `\phantom`. A mark takes no width (`\rlap`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from locheads.evaluation.metric_table import ABSENT
from locheads.text import latex_text

WIDE = 7
"""Columns from which on a table is set over both columns of a page, in small letters and with the intervals below their
figures; of fewer they stand beside them."""
FITTED = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%"
"""Around a wide table: as wide as the page at most."""
SMALL = ("  \\scriptsize", "  \\setlength{\\tabcolsep}{3pt}")
_NUMBER = re.compile(r"([+-]?)(\d[\d,]*)(\.\d+)?")


@dataclass(frozen=True)
class Figure:
    """A number with its interval, as texts; what is no number ("failed") is set as it is."""

    value: str
    low: str = ""
    high: str = ""
    """Both empty: no interval."""
    mark: str = ""
    """Behind the number, raised."""

    @property
    def has_interval(self) -> bool:
        return bool(self.low or self.high)


Cell = str | Figure


@dataclass(frozen=True)
class TexRow:
    """A row, with as many cells as the table has headings."""

    cells: tuple[Cell, ...]
    above: Literal["", "midrule", "addlinespace"] = ""
    """What parts it from the row above."""


@dataclass(frozen=True)
class TexTable:
    """A table before it is LaTeX. Its texts are plain; they are escaped when it is written."""

    label: str
    """Of the table, for \\ref: letters, digits and -."""
    headings: tuple[str, ...]
    rows: tuple[TexRow, ...]
    caption: str


def booktabs(table: TexTable) -> str:
    """The table as LaTeX. Raises ValueError where a row has more or fewer cells than there are headings."""
    if any(len(row.cells) != len(table.headings) for row in table.rows):
        raise ValueError(f"{table.label} has rows of other lengths than its {len(table.headings)} headings")
    columns = [_Column.of(index, table) for index in range(len(table.headings))]
    wide = len(columns) >= WIDE
    below = wide and any(column.intervals for column in columns)
    star, fit, end = ("*", f"  {FITTED}", "  }") if wide else ("", "", "")
    lines = [f"% \\usepackage{{booktabs{',graphicx' * wide}}}", f"\\begin{{table{star}}}", "  \\centering"]
    lines += [*(SMALL if wide else ()), f"  \\caption{{{latex_text(table.caption)}}}"]
    lines += [f"  \\label{{tab:{_plain(table.label)}}}", "  \\par\\smallskip", fit]
    lines += [f"  \\begin{{tabular}}{{{''.join(column.kind(below) for column in columns)}}}", "    \\toprule"]
    lines += [_line([column.heading(below) for column in columns]), "    \\midrule"]
    for row in table.rows:
        lines += [*([f"    \\{row.above}"] if row.above else []), *_lines(row, columns, below)]
    lines += ["    \\bottomrule", f"  \\end{{tabular}}{'%' * wide}", end, f"\\end{{table{star}}}"]
    return "".join(f"{line}\n" for line in lines if line)


@dataclass(frozen=True)
class _Column:
    """How the cells of one column are set."""

    title: str
    figures: bool
    """Whether it holds numbers, or dashes in their place, and no words."""
    intervals: bool
    marked: bool
    value: tuple[str, str, str]
    """The longest sign, digits, and decimals with their point, of the figures and ..."""
    end: tuple[str, str, str]
    """... of the ends of intervals."""

    @staticmethod
    def of(index: int, table: TexTable) -> "_Column":
        cells = [row.cells[index] for row in table.rows]
        found = [cell for cell in cells if isinstance(cell, Figure)]
        numbers = [cell for cell in found if _NUMBER.fullmatch(cell.value)]
        words = [cell for cell in cells if not isinstance(cell, Figure)]
        words += [cell.value for cell in found if cell not in numbers and cell.value not in ("", ABSENT)]
        return _Column(
            title=table.headings[index],
            figures=bool(found) and not words,
            intervals=any(cell.has_interval for cell in found),
            marked=any(cell.mark for cell in found),
            value=_longest(cell.value for cell in found),
            # Without room for a sign: before ends that have none it would be a hole.
            end=("", *_longest(end for cell in found for end in (cell.low, cell.high))[1:]),
        )

    def kind(self, below: bool) -> str:
        if not self.intervals or below:
            return "c" if self.figures or self.intervals else "l"
        return ("r@{\\hspace{1em}}" if self.marked else "r@{\\ }") + "l"

    def heading(self, below: bool) -> str:
        title = latex_text(self.title)
        return f"\\multicolumn{{2}}{{c}}{{{title}}}" if self.intervals and not below else title

    def shown(self, cell: Cell) -> str:
        """The figure without its interval, or the words."""
        if not isinstance(cell, Figure):
            return latex_text(cell)
        mark = f"\\rlap{{$^{{{_raised(cell.mark)}}}$}}" if cell.mark else ""
        return _number(cell.value, self.value) + mark

    def interval(self, cell: Cell, size: str) -> str:
        if not (isinstance(cell, Figure) and cell.has_interval):
            return ""
        return f"{{\\{size} [{_number(cell.low, self.end)}, {_number(cell.high, self.end)}]}}"


def _lines(row: TexRow, columns: Sequence[_Column], below: bool) -> list[str]:
    pairs = list(zip(columns, row.cells, strict=True))
    if below:
        second = [column.interval(cell, "tiny") for column, cell in pairs]
        return [_line([column.shown(cell) for column, cell in pairs]), *([_line(second)] if any(second) else [])]
    cells = []
    for column, cell in pairs:
        cells += [column.shown(cell), *([column.interval(cell, "footnotesize")] if column.intervals else [])]
    return [_line(cells)]


def _line(cells: Sequence[str]) -> str:
    # Behind the \\ of the line before, LaTeX takes a bracket or a star for an argument.
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return f"    {guard}{' & '.join(cells)} \\\\"


def _number(text: str, longest: tuple[str, str, str]) -> str:
    """A number as wide as the longest of its column, its point at the same place; other text as it is."""
    if text == ABSENT:
        return "--"
    if (match := _NUMBER.fullmatch(text)) is None:
        return latex_text(text)
    sign, digits, decimals = (part or "" for part in match.groups())
    before = _phantom("$-$" * (len(longest[0]) - len(sign)) + longest[1][: len(longest[1]) - len(digits)])
    behind = _phantom(longest[2][len(decimals) :])
    return f"{before}{f'${sign}$' if sign else ''}{digits}{decimals}{behind}"


def _phantom(text: str) -> str:
    return f"\\phantom{{{text}}}" if text else ""


def _longest(texts: Iterable[str]) -> tuple[str, str, str]:
    """The longest sign, digits, and decimals with their point among numbers."""
    matches = [match for text in texts if (match := _NUMBER.fullmatch(text))]
    sign, digits, decimals = (max((m[part] or "" for m in matches), key=len, default="") for part in (1, 2, 3))
    return sign, digits, decimals


_RAISED = {"\N{DAGGER}": "\\dagger", "\N{DOUBLE DAGGER}": "\\ddagger", "*": "*"}


def _raised(mark: str) -> str:
    return "".join(_RAISED.get(letter, latex_text(letter)) for letter in mark)


def _plain(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")
