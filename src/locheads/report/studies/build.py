"""Runs and the paper's figures -> one long table, a row per cell, and the same as text in the paper's layout."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from locheads.errors import StoreError
from locheads.evaluation.metric_table import ABSENT as MISSING
from locheads.records.metrics_file import Estimate, few_legend, few_mark
from locheads.report.latex_table import Figure
from locheads.report.studies import notes
from locheads.report.studies.layout import Labels, Layout, Quantity
from locheads.report.studies.runs import StudyRun

PAPER_CSV = "paper.csv"
FAILED = "failed"
SOURCE = "figure"
"""Heading of the column that separates the paper's figures from ours."""
LINES = {
    "paper": ("paper",),
    "ours": ("ours", "low", "high"),
    "difference": ("difference", "difference_low", "difference_high"),
}
"""The lines of a row -> the columns of the cells that they show: a figure, and its interval."""

Key = tuple[Labels, Labels, str]
"""Row, column, quantity."""
Ours = tuple[Estimate | float | str, StudyRun]
"""One of our figures, and the run, or the part of it, that it comes from."""


@dataclass(frozen=True)
class Study:
    """A study's result, ready to be written."""

    layout: Layout
    cells: pd.DataFrame
    """A row per cell: its labels, `paper` as printed, `ours` with its interval, the `difference` with its own."""
    table: pd.DataFrame
    """Text, in the paper's layout."""
    notes: list[str]
    origins: pd.DataFrame
    """Text: models, data, code, dates and machines of the runs."""
    runs: list[StudyRun]


def build(layout: Layout, runs: Sequence[StudyRun], folder: Path) -> Study:
    """Joins runs into a layout.

    Args:
        layout: of the study.
        runs: oldest first; of several runs for the same cell the newest counts.
        folder: the study's own, with paper.csv where the paper has figures.

    Raises:
        StoreError: paper.csv is not there, or not what the layout expects; or no run has what it shows.
    """
    printed = _printed(layout, folder)
    done = [run for run in runs if run.error is None]
    ours = _measured(layout, done)
    # Rows and columns of which there are only runs that failed.
    failed = {(layout.row_of(run), layout.column_of(run)) for run in runs if run.error is not None}
    failed -= {(row, column) for row, column, _ in ours}
    if not ours and not failed:
        raise StoreError(f"None of the {len(runs)} runs holds what {layout.study} shows: run its README's commands.")
    counted = {run.folder for _, run in ours.values()}
    used = [run for run in done if run.folder in counted]
    cells = _cells(layout, printed, ours, failed)
    table = text_table(layout, cells)
    sentences = [*layout.notes, *notes.of_runs(layout, runs, used, len(done) - len(used))]
    sentences += [legend.strip()] if (legend := few_legend(table.to_numpy())) else []
    return Study(layout, cells, table, sentences, notes.origins(used), used)


def _printed(layout: Layout, folder: Path) -> dict[Key, str]:
    """The figures of paper.csv, as the paper prints them; none where it has none for the study."""
    if layout.paper is None:
        return {}
    path = folder / PAPER_CSV
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): paths.studies must be the folder experiments/.") from error
    if lacking := layout.paper_columns() - set(frame.columns):
        raise StoreError(f"{path} lacks the columns {', '.join(sorted(lacking))}: restore the file.")
    found: dict[Key, str] = {}
    for line in frame.to_dict("records"):
        row = tuple((line | dict(layout.paper.constants))[axis.name] for axis in layout.rows)
        for column, (labels, quantity) in layout.paper.figures.items():
            if line[column]:
                found[row, labels, quantity] = line[column]
    return found


def _measured(layout: Layout, runs: Sequence[StudyRun]) -> dict[Key, Ours]:
    found: dict[Key, Ours] = {}
    for run in runs:
        for part, quantity in product(layout.parts(run), layout.quantities):
            if (value := quantity.of(part)) is not None:
                found[layout.row_of(part), layout.column_of(part), quantity.key] = (value, part)
    return found


def _cells(
    layout: Layout, printed: dict[Key, str], ours: dict[Key, Ours], failed: set[tuple[Labels, Labels]]
) -> pd.DataFrame:
    places = [*((row, column) for row, column, _ in ours), *failed]
    rows = _ordered([row for row, _, _ in printed], [row for row, _ in places])
    columns = _ordered([column for _, column, _ in printed], [column for _, column in places])
    names = [axis.name for axis in (*layout.rows, *layout.columns)]
    cells = []
    for row, column, quantity in product(rows, columns, layout.quantities):
        key = (row, column, quantity.key)
        labels = dict(zip(names, (*row, *column), strict=True))
        cell = _cell(quantity, printed.get(key), ours.get(key), (row, column) in failed)
        cells.append(labels | {"quantity": quantity.key} | cell)
    return pd.DataFrame(cells)


def _ordered(first: Iterable[Labels], rest: Iterable[Labels]) -> list[Labels]:
    """The paper's in its order, then ours in theirs: numbers by value, words by letters."""
    known = list(dict.fromkeys(first))
    return known + sorted(set(rest) - set(known), key=lambda labels: [_natural(label) for label in labels])


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text


def _cell(quantity: Quantity, paper: str | None, ours: Ours | None, failed: bool) -> dict[str, Any]:
    """Figures in the paper's unit. The difference's interval is ours, moved: the paper gives none."""
    figures = (None,) * 3 if ours is None else _scaled(quantity, ours[0])
    is_word, theirs, _ = _natural(paper or "")
    moved = [None if is_word or v is None or isinstance(v, str) else round(v - theirs, 4) for v in figures]
    counts = ours[1].metrics if ours else None
    return {
        "paper": paper,
        **dict(zip((*LINES["ours"], *LINES["difference"]), (*figures, *moved), strict=True)),
        "status": "measured" if ours else FAILED if failed else "missing",
        "expressions": counts.n_expressions if counts else None,
        "images": counts.n_images if counts else None,
        "failed": counts.n_failed if counts else None,
        "digest": (ours[1].provenance.digest or "") if ours else None,
    }


def _scaled(quantity: Quantity, value: Estimate | float | str) -> tuple[float | str | None, float | None, float | None]:
    if isinstance(value, Estimate):
        value, low, high = (round(v * quantity.scale, 4) for v in (value.value, value.low, value.high))
        return value, low, high
    return value if isinstance(value, str) else round(value * quantity.scale, 4), None, None


def text_table(layout: Layout, cells: pd.DataFrame) -> pd.DataFrame:
    """Up to three lines a row: the paper's figures, ours, their difference."""
    names = [axis.name for axis in layout.rows]
    headings = column_name(layout, cells)
    lines = []
    for _, row in cells.groupby(names, sort=False):
        records = row.to_dict("records")
        labels = {name: str(records[0][name]) for name in names}
        for source in LINES:
            shown = [shown_text(layout, cell, source) for cell in records]
            if any(text not in ("", MISSING) for text in shown) or (source == "ours" and MISSING in shown):
                figures = dict(zip(headings[row.index], [text or MISSING for text in shown], strict=True))
                lines.append(labels | {SOURCE: source} | figures)
    table = pd.DataFrame(lines)
    return table.drop(columns=SOURCE) if layout.paper is None else table


def column_name(layout: Layout, cells: pd.DataFrame) -> pd.Series:
    """Of each cell, what its column is called."""
    headings = {quantity.key: quantity.heading for quantity in layout.quantities}
    axes = [axis.name for axis in layout.columns]
    if not axes:
        return cells["quantity"].map(headings)
    words = cells[axes].astype(str).agg(" ".join, axis=1)
    return words + " " + cells["quantity"].map(headings) if len(headings) > 1 else words


def shown_text(layout: Layout, cell: dict[Any, Any], source: str) -> str:
    """What a line shows of a cell: MISSING for what is ours to measure, else "" for nothing."""
    found = shown_figure(layout, cell, source)
    return found.value + (f"{found.mark} [{found.low}, {found.high}]" if found.has_interval else "")


def shown_figure(layout: Layout, cell: dict[Any, Any], source: str) -> Figure:
    """The same in its parts."""
    if source == "ours" and cell["status"] == FAILED:
        return Figure(FAILED)
    value, *ends = (cell[name] for name in LINES[source])
    if isinstance(value, str):
        return Figure(value)
    if pd.isna(value):
        ours = source == "ours" and layout.to_do(tuple(str(cell[axis.name]) for axis in layout.rows))
        return Figure(MISSING if ours else "")
    decimals = next(quantity.decimals for quantity in layout.quantities if quantity.key == cell["quantity"])
    sign = "+" if source == "difference" else ""
    value, low, high = ("" if pd.isna(v) else f"{v:{sign}.{decimals}f}" for v in (value, *ends))
    return Figure(value, low, high, few_mark(cell["images"])) if low else Figure(value)
