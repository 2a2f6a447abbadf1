"""The cells of a study as text, in the paper's layout."""

import pandas as pd

from locheads.evaluation.metric_table import ABSENT as MISSING
from locheads.records.metrics_file import few_mark
from locheads.report.studies.layout import Layout

FAILED = "failed"
SOURCE = "figure"
"""Heading of the column that tells the paper's figures from ours."""


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
