"""A study as files (result.md, .tex, .csv and a figure per run where the study has them) and as a terminal table.

The same records give the same bytes: nothing tells when, where or by whom they were written.
"""

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from rich.console import RenderableType

from locheads.fitted_table import Column, Kind, Row, fitted_table, label
from locheads.records.metrics_file import few_legend
from locheads.report.interval_words import interval_words, level_of, paired_mark, paired_words
from locheads.report.latex_table import Cell, Figure, TexRow, TexTable, booktabs
from locheads.report.studies.build import LINES, MISSING, SOURCE, Study, column_name, shown_figure, shown_text
from locheads.report.studies.layout import Layout
from locheads.report.studies.runs import StudyRun
from locheads.report.theme import to_svg
from locheads.store.atomic import write_text
from locheads.text import csv_text, markdown_text, printable


def write_study(study: Study, folder: Path) -> list[Path]:
    """Writes the study's files into its folder and returns them. Raises StoreError where that is not possible."""
    draw = study.layout.draw
    figures = {_figure_name(run): to_svg(draw(run)) for run in study.runs} if draw else {}
    files = {
        "result.md": markdown(study, list(figures)),
        "result.tex": latex(study),
        "result.csv": csv_text(study.cells),
        **figures,
    }
    for name, content in files.items():
        write_text(folder / name, content)
    return [folder / name for name in files]


def markdown(study: Study, figures: list[str]) -> str:
    """result.md."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["md"] = markdown_text
    template = (resources.files("locheads.report.studies") / "result.md.j2").read_text()
    return environment.from_string(template).render(
        layout=study.layout, n_runs=len(study.runs), confidence=_confidence(study.runs), missing=MISSING,
        table=_markdown_table, rows=study.table, notes=study.notes, figures=figures, origins=study.origins,
    )  # fmt: skip


def latex(study: Study) -> str:
    """result.tex: a table for the package booktabs, the notes as comments."""
    return booktabs(tex_table(study)) + "".join(f"% {printable(' '.join(note.split()))}\n" for note in study.notes)


def tex_table(study: Study) -> TexTable:
    """Up to three lines a row, as `text_table` has them; labels that are the same in all rows stand in the caption."""
    layout, cells = study.layout, study.cells.assign(heading=column_name(study.layout, study.cells))
    names = [axis.name for axis in layout.rows]
    told = [name for name in names if cells[name].nunique() > 1] or names[:1]
    rows: list[TexRow] = []
    before: tuple[str, ...] = ()
    for _, row in cells.groupby(names, sort=False):
        records = row.to_dict("records")
        labels = tuple(str(records[0][name]) for name in told)
        lines = [line for source in LINES if (line := _tex_line(layout, records, source))]
        for number, line in enumerate(lines):
            begins = _begins(labels, before) if number == 0 else ("",) * len(labels)
            gap = bool(rows) and number == 0 and len(lines) > 1
            rows.append(TexRow((*begins, *line), "addlinespace" if gap else ""))
        before = labels
    source = () if layout.paper is None else (SOURCE,)
    headings = (*told, *source, *dict.fromkeys(cells["heading"]))
    same = [f"{name} {cells[name].iloc[0]}" for name in names if name not in told]
    return TexTable(layout.study, headings, tuple(rows), _tex_caption(study, rows, same))


def _begins(labels: tuple[str, ...], before: tuple[str, ...]) -> tuple[str, ...]:
    """The labels from the first on that is another than in the row above."""
    same = next((i for i, pair in enumerate(zip(labels, before, strict=False)) if pair[0] != pair[1]), len(before))
    return ("",) * same + labels[same:]


def _tex_line(layout: Layout, records: list[dict[Any, Any]], source: str) -> tuple[Cell, ...] | None:
    """One line of a row, with its source in front where there are the paper's figures; None where it says nothing."""
    found = [shown_figure(layout, cell, source) for cell in records]
    texts = {figure.value for figure in found}
    if texts <= {"", MISSING} and not (source == "ours" and MISSING in texts):
        return None
    paired = {quantity.key for quantity in layout.quantities if quantity.paired}
    marked = [
        replace(figure, mark=figure.mark + paired_mark(cell["low"], cell["high"]))
        if source == "ours" and cell["quantity"] in paired and figure.has_interval
        else figure
        for figure, cell in zip(found, records, strict=True)
    ]
    cells = tuple(figure if figure.value else replace(figure, value=MISSING) for figure in marked)
    return cells if layout.paper is None else (source, *cells)


def _tex_caption(study: Study, rows: list[TexRow], same: list[str]) -> str:
    layout, level = study.layout, _confidence(study.runs)
    figures = [cell for row in rows for cell in row.cells if isinstance(cell, Figure)]
    with_interval = set(study.cells.loc[study.cells["low"].notna(), "quantity"])
    shown = [quantity for quantity in layout.quantities if quantity.key in with_interval]
    metrics, pairs = ([getattr(q, kind) for q in shown if getattr(q, kind)] for kind in ("metric", "paired"))
    others = len(shown) > len(metrics) + len(pairs)
    sentences = [
        # Else the caption would begin with two numbers of tables.
        re.sub(r"^(?=Table|Fig)", "The paper's ", layout.title) + ".",
        f"In all rows: {', '.join(same)}." if same else "",
        interval_words(level, metrics) if metrics else "",
        *(f"{paired_words(level, other)} Its brackets are that interval." for other in sorted(set(pairs))),
        f"{'Other' if metrics or pairs else 'The'} brackets are intervals over images." if others else "",
        "A difference is ours less the paper's figure, its interval ours, moved: it is not paired, for the paper gives "
        "no answers."
        if layout.paper
        else "",
        few_legend(*(figure.mark for figure in figures)).strip(),
    ]  # fmt: skip
    return " ".join(sentence for sentence in sentences if sentence)


def terminal_table(study: Study) -> RenderableType:
    """A row per row of the paper: its figures, ours beside them, and the difference; an interval below its figure."""
    layout, names = study.layout, [axis.name for axis in study.layout.rows]
    columns, bodies = label(*names), []
    for heading, cells in study.cells.groupby(column_name(layout, study.cells), sort=False):
        for source in LINES if layout.paper else ["ours"]:
            texts = [shown_text(layout, cell, source).replace(" [", "\n[", 1) for cell in cells.to_dict("records")]
            if set(texts) <= {"", MISSING} and layout.paper:
                continue
            kind = Kind.WORDS if cells["ours"].map(lambda value: isinstance(value, str)).any() else Kind.FIGURE
            columns.append(Column(source, kind, str(heading)) if layout.paper else Column(str(heading), kind))
            bodies.append(texts)
    labels = study.cells[names].drop_duplicates().to_numpy().tolist()
    rows = [Row([*map(str, own), *cells]) for own, *cells in zip(labels, *bodies, strict=True)]
    return fitted_table(layout.title, columns, rows, "\n".join(study.notes))


def _figure_name(run: StudyRun) -> str:
    name = f"{run.setting('model.name')}_{run.setting('dataset.name')}"
    return f"result_{re.sub(r'[^A-Za-z0-9.+-]+', '_', name)}.svg"


def _confidence(runs: list[StudyRun]) -> str:
    levels = sorted({run.metrics.confidence for run in runs if run.metrics})
    return " and ".join(level_of(level) for level in levels) or "95 %"


def _markdown_table(frame: pd.DataFrame) -> str:
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    rows = (" | ".join(cell if cell == "---" else markdown_text(cell) for cell in line) for line in lines)
    return "\n".join(f"| {row} |" for row in rows)
