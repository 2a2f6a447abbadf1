"""Runs and the paper's figures -> one long table, a row per cell, and the same as text in the paper's layout."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from locheads.errors import StoreError
from locheads.evaluation.metric_table import ABSENT as MISSING
from locheads.records.metrics_file import Estimate, few_legend, few_mark
from locheads.report.studies import notes
from locheads.report.studies.layout import Labels, Layout, Quantity
from locheads.report.studies.runs import StudyRun

PAPER_CSV = "paper.csv"
FAILED = "failed"
SOURCE = "figure"
"""Heading of the column that separates the paper's figures from ours."""

Key = tuple[Labels, Labels, str]
"""Row, column, quantity."""


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
    raw = read_paper(layout, folder)
    printed = _printed(layout, raw)
    ours, used, replaced = _measured(layout, runs)
    failed = _failed(layout, runs, ours)
    if not ours and not failed:
        raise StoreError(f"None of the {len(runs)} runs holds what {layout.study} shows: run its README's commands.")
    cells = _cells(layout, printed, ours, failed)
    table = text_table(layout, cells)
    sentences = [*layout.notes(raw), *notes.of_runs(layout, runs, used, replaced)]
    sentences += [legend.strip()] if (legend := few_legend(table.to_numpy())) else []
    return Study(layout, cells, table, sentences, notes.origins(used), used)


def read_paper(layout: Layout, folder: Path) -> pd.DataFrame:
    """paper.csv as text; empty where the paper has no figures for the study."""
    if layout.paper is None:
        return pd.DataFrame()
    path = folder / PAPER_CSV
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): paths.studies must be the folder experiments/.") from error
    lacking = {*layout.paper.rows, *layout.paper.figures} - set(frame.columns)
    if lacking:
        raise StoreError(f"{path} lacks the columns {', '.join(sorted(lacking))}: restore the file.")
    return frame


def _printed(layout: Layout, raw: pd.DataFrame) -> dict[Key, str]:
    """The paper's figures, as it prints them."""
    if layout.paper is None:
        return {}
    column_of_axis = {axis: column for column, axis in layout.paper.rows.items()}
    found: dict[Key, str] = {}
    for line in raw.to_dict("records"):
        values = {axis: line[column] for axis, column in column_of_axis.items()} | dict(layout.paper.constants)
        row = tuple(values[axis.name] for axis in layout.rows)
        for column, (labels, quantity) in layout.paper.figures.items():
            if line[column]:
                found[row, labels, quantity] = line[column]
    return found


def _measured(
    layout: Layout, runs: Sequence[StudyRun]
) -> tuple[dict[Key, tuple[Estimate | float | str, StudyRun]], list[StudyRun], int]:
    """-> (our figures with the run of each, the runs that gave any, how many runs newer ones replaced)."""
    found: dict[Key, tuple[Estimate | float | str, StudyRun]] = {}
    for run in runs:
        for part in layout.parts(run) if run.error is None else []:
            for quantity in layout.quantities:
                value = quantity.of(part)
                if value is not None:
                    found[layout.row_of(part), layout.column_of(part), quantity.key] = (value, run)
    counted = {id(run) for _, run in found.values()}
    used = [run for run in runs if id(run) in counted]
    done = [run for run in runs if run.error is None]
    return found, used, len(done) - len(used)


def _failed(layout: Layout, runs: Iterable[StudyRun], ours: Iterable[Key]) -> set[tuple[Labels, Labels]]:
    """Rows and columns of which there are only runs that failed."""
    places = {(layout.row_of(run), layout.column_of(run)) for run in runs if run.error is not None}
    return places - {(row, column) for row, column, _ in ours}


def _cells(
    layout: Layout,
    printed: dict[Key, str],
    ours: dict[Key, tuple[Estimate | float | str, StudyRun]],
    failed: set[tuple[Labels, Labels]],
) -> pd.DataFrame:
    keys = [*printed, *ours]
    rows = _ordered([row for row, _, _ in printed], [*(row for row, _, _ in ours), *(row for row, _ in failed)])
    columns = _ordered([column for _, column, _ in printed], [*(c for _, c, _ in keys), *(c for _, c in failed)])
    cells = []
    for row in rows:
        for column in columns:
            for quantity in layout.quantities:
                key = (row, column, quantity.key)
                labels = dict(zip([a.name for a in (*layout.rows, *layout.columns)], (*row, *column), strict=True))
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


def _cell(
    quantity: Quantity, paper: str | None, ours: tuple[Estimate | float | str, StudyRun] | None, failed: bool
) -> dict[str, object]:
    """Figures in the paper's unit. The difference's interval is ours, moved: the paper gives none."""
    value, low, high = (None,) * 3 if ours is None else _scaled(quantity, ours[0])
    theirs = _number(paper)
    comparable = theirs is not None and not isinstance(value, str)
    differences = [round(v - theirs, 4) if v is not None and comparable else None for v in (value, low, high)]  # type: ignore[operator]
    counts = ours[1].record.metrics if ours else None
    return {
        "paper": paper,
        "ours": value,
        "low": low,
        "high": high,
        **dict(zip(("difference", "difference_low", "difference_high"), differences, strict=True)),
        "status": "measured" if ours else FAILED if failed else "missing",
        "expressions": counts.n_expressions if counts else None,
        "images": counts.n_images if counts else None,
        "failed": counts.n_failed if counts else None,
        "digest": ours[1].digest if ours else None,
    }


def _scaled(quantity: Quantity, value: Estimate | float | str) -> tuple[float | str | None, float | None, float | None]:
    if isinstance(value, Estimate):
        value, low, high = (round(v * quantity.scale, 4) for v in (value.value, value.low, value.high))
        return value, low, high
    return value if isinstance(value, str) else round(value * quantity.scale, 4), None, None


def _number(text: str | None) -> float | None:
    known, number, _ = _natural(text or "")
    return None if known else number


def text_table(layout: Layout, cells: pd.DataFrame) -> pd.DataFrame:
    """Up to three lines a row: the paper's figures, ours, their difference."""
    names = [axis.name for axis in layout.rows]
    decimals = {quantity.key: quantity.decimals for quantity in layout.quantities}
    lines = []
    for _, row in cells.groupby(names, sort=False):
        records = row.to_dict("records")
        labels = tuple(str(records[0][name]) for name in names)
        headings = [_heading(layout, cell) for cell in records]
        for source, text in (("paper", _paper_text), ("ours", _our_text), ("difference", _difference_text)):
            shown = [text(cell, decimals[cell["quantity"]]) for cell in records]
            if any(shown) or (source == "ours" and layout.to_do(labels)):
                figures = dict(zip(headings, [cell or MISSING for cell in shown], strict=True))
                lines.append(dict(zip(names, labels, strict=True)) | {SOURCE: source} | figures)
    table = pd.DataFrame(lines)
    return table.drop(columns=SOURCE) if layout.paper is None else table


def _heading(layout: Layout, cell: dict) -> str:
    quantity = next(q for q in layout.quantities if q.key == cell["quantity"])
    words = [str(cell[axis.name]) for axis in layout.columns]
    if not words or len(layout.quantities) > 1:
        words.append(quantity.heading)
    return " ".join(words)


def _paper_text(cell: dict, _: int) -> str:
    return "" if pd.isna(cell["paper"]) else str(cell["paper"])


def _our_text(cell: dict, decimals: int) -> str:
    if cell["status"] == FAILED:
        return FAILED
    if pd.isna(cell["ours"]):
        return ""
    if isinstance(cell["ours"], str):
        return cell["ours"]
    return _with_interval(cell, "", decimals)


def _difference_text(cell: dict, decimals: int) -> str:
    return "" if pd.isna(cell["difference"]) else _with_interval(cell, "+", decimals)


def _with_interval(cell: dict, sign: str, decimals: int) -> str:
    names = ("difference", "difference_low", "difference_high") if sign else ("ours", "low", "high")
    value, low, high = (None if pd.isna(cell[name]) else f"{cell[name]:{sign}.{decimals}f}" for name in names)
    return f"{value}{few_mark(cell['images'])} [{low}, {high}]" if low is not None else str(value)
