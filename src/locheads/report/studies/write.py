"""A study as files (result.md, .tex, .csv and a figure per run where the study has them) and as a terminal table.

The same records give the same bytes: nothing tells when, where or by whom they were written.
"""

import re
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd
from rich.console import RenderableType

from locheads.fitted_table import Column, Kind, Row, fitted_table, label
from locheads.report.studies.build import LINES, MISSING, Study, column_name, shown_text
from locheads.report.studies.runs import StudyRun
from locheads.report.theme import to_svg
from locheads.store.atomic import write_text
from locheads.text import csv_text, latex_text, markdown_text, printable


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
    table = study.table.map(latex_text).rename(columns=latex_text)
    text = table.to_latex(index=False, caption=latex_text(study.layout.title), label=f"tab:{study.layout.study}")
    return text + "".join(f"% {printable(' '.join(note.split()))}\n" for note in study.notes)


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
    return " and ".join(f"{100 * level:.0f} %" for level in levels) or "95 %"


def _markdown_table(frame: pd.DataFrame) -> str:
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    rows = (" | ".join(cell if cell == "---" else markdown_text(cell) for cell in line) for line in lines)
    return "\n".join(f"| {row} |" for row in rows)
