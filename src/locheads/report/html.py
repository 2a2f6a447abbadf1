"""The page of a run: one file with everything in it, readable without a network; and the head explorer beside it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from locheads.errors import StoreError
from locheads.evaluation.metric_table import METRIC, PRIMARY, Place, method_label, shown, told
from locheads.evaluation.slices import SLICES
from locheads.records.gallery_file import GalleryItem
from locheads.records.receipt_file import renew_pages
from locheads.report import audit_report, zoom_table
from locheads.report.absence_report import absence_caption, absence_rows, no_box
from locheads.report.charts import CHARTS
from locheads.report.dossier.write import DOSSIER_PAGE, write_dossier
from locheads.report.draw_sample import sample_panel, steps_panel, to_bytes
from locheads.report.explorer.page import EXPLORER_PAGE, LIMIT, page_template, write_explorer_page, write_page
from locheads.report.facts import baseline_notes, facts, provenance_rows
from locheads.report.run_record import RunRecord, read_run
from locheads.report.tables import heads_caption, heads_rows, query_row, results_caption, slices_legend
from locheads.report.theme import DARK, LIGHT, Theme, to_svg
from locheads.report.verdict import verdict

PAGE = "report.html"
DRAWERS = 2
"""Threads."""


def write_report(folder: Path, explorer_bytes: int = LIMIT) -> Path:
    """Writes `report.html` into the run folder and returns its path. What the run lacks is named on the page.

    Writes `explorer.html`, of at most `explorer_bytes`, beside it where the run kept what the explorer shows, and the
    pages of the folder `dossier`; renews the checksums of all of them. Raises StoreError where the folder is no run
    folder, or cannot be written to.
    """
    record = read_run(folder)
    explorer = None
    try:
        explorer = write_explorer_page(record, explorer_bytes)
    except StoreError as error:
        record = replace(record, problems=(*record.problems, str(error)))
    write_dossier(record)
    path, (charts, panels) = record.folder / PAGE, drawn(record)
    write_page(path, render(record, charts, panels, explorer is not None, with_dossier=True))
    with suppress(StoreError):  # a damaged receipt, which the page names
        renew_pages(record.folder)
    return path


class Panels(NamedTuple):
    """A sample of the gallery, drawn; what the records do not hold is None."""

    item: GalleryItem
    sample: str | None
    """As a data URI, like `steps`: one file suits both colour schemes."""
    steps: str | None


Charts = Mapping[str, dict[str, str] | None]
"""Name -> see `_chart`."""


def drawn(record: RunRecord) -> tuple[Charts, list[Panels]]:
    """The charts, and the samples of the gallery meanwhile in threads: encoding takes longest, and Pillow lets go of
    the interpreter."""
    with ThreadPoolExecutor(DRAWERS, thread_name_prefix="panel") as pool:
        panels = pool.map(partial(_panels, record), record.gallery)
        charts = {name: _chart(record, draw) for name, draw in CHARTS.items()}
        return charts, list(panels)


def render(
    record: RunRecord,
    charts: Charts,
    panels: Sequence[Panels],
    with_explorer: bool = False,
    with_dossier: bool = False,
) -> str:
    """The page as text; `with_explorer`, `with_dossier`: linked to these, which lie beside it."""
    measured = record.metrics.measured if record.metrics else frozenset()
    details = {key: metric for key, metric in shown(Place.DETAILS).items() if key in measured}
    return page_template("page.html.j2").render(
        record=record,
        explorer=EXPLORER_PAGE if with_explorer else None,
        dossier=DOSSIER_PAGE if with_dossier else None,
        facts=facts(record),
        query_row=query_row,
        verdict=verdict(record),
        metrics=record.metrics,
        main=told(shown(Place.PAGE), measured),
        details=details,
        of_slices=told(shown(Place.SLICES), measured),
        metric_table=METRIC,
        audited=[METRIC[key] for key in PRIMARY],
        audit_report=audit_report,
        zoom=zoom_table,
        notes_of=lambda metrics: " ".join(metric.note for metric in metrics.values() if metric.note),
        slice_kinds=SLICES,
        slices_legend=slices_legend,
        method_label=method_label,
        results_caption=results_caption,
        baseline_notes=baseline_notes(record),
        absence_rows=absence_rows,
        absence_caption=absence_caption,
        no_box=no_box,
        heads_rows=heads_rows,
        heads_caption=heads_caption,
        panels=panels,
        **charts,
        provenance=provenance_rows(record.provenance.content()),
        digest=record.provenance.digest or (record.heads.digest if record.heads else ""),
    )


def _chart(record: RunRecord, draw: Callable[[RunRecord, Theme], Figure]) -> dict[str, str] | None:
    """See `both_schemes`; None where the records that it shows are missing."""
    try:
        return both_schemes(partial(draw, record))
    except StoreError:
        return None


def both_schemes(draw: Callable[[Theme], Figure]) -> dict[str, str]:
    """The chart in both colour schemes as data URIs."""
    figures = {"light": draw(LIGHT), "dark": draw(DARK)}
    return {scheme: _data_uri("image/svg+xml", to_svg(figure).encode()) for scheme, figure in figures.items()}


def _panels(record: RunRecord, item: GalleryItem) -> Panels:
    return Panels(item, _webp(sample_panel(record, item)), _webp(steps_panel(record, item)))


def _webp(panel: Image.Image | None) -> str | None:
    return None if panel is None else _data_uri("image/webp", to_bytes(panel, "webp"))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
