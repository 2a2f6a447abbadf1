"""The page of a run: one file with everything in it, readable without a network; and the head explorer beside it."""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from locheads.errors import StoreError
from locheads.evaluation.metric_table import METRIC, PRIMARY, Metric, Place, method_label, shown
from locheads.evaluation.slices import SLICES
from locheads.records.metrics_file import few_legend
from locheads.report.explorer.page import EXPLORER_PAGE, write_explorer_page
from locheads.report.facts import baseline_notes, digest_line, facts, provenance_rows
from locheads.report.figures import (
    attention_sum_curve,
    audit_effects,
    figure6_scatter,
    frequency_grid,
    method_intervals,
    sample_panel,
)
from locheads.report.gallery_record import GalleryItem
from locheads.report.run_record import RunRecord, read_run
from locheads.report.steps import steps_panel, to_bytes
from locheads.report.tables import heads_caption, heads_rows, results_caption
from locheads.report.theme import DARK, LIGHT, Theme, to_svg, to_webp
from locheads.report.verdict import verdict
from locheads.store.atomic import write_bytes, write_text
from locheads.store.run_folder import STEPS, renew_pages

PAGE = "report.html"


@dataclass(frozen=True)
class Chart:
    """One chart in both colour schemes, as data URIs."""

    light: str
    dark: str


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the run folder and returns its path. What the run lacks is named on the page.

    Writes `explorer.html` beside it where the run kept what the explorer shows, and renews the checksums of the pages.

    Raises:
        StoreError: the folder is no run folder, or the page cannot be written.
    """
    record = read_run(folder)
    explorer = None
    try:
        explorer = write_explorer_page(record)
    except StoreError as error:
        record = replace(record, problems=(*record.problems, str(error)))
    path = record.folder / PAGE
    for number, item in enumerate(record.gallery):
        # The sample's id may hold anything: files are named by number.
        if (panel := steps_panel(record, item)) is not None:
            write_bytes(record.folder / STEPS / f"{number:02d}.png", to_bytes(panel, "png"))
    # A lone surrogate in a record is legal JSON but no UTF-8: it must not cost the whole page.
    write_text(path, render(record, explorer is not None).encode("utf-8", "replace").decode("utf-8"))
    with suppress(StoreError):  # a damaged receipt, which the page names
        renew_pages(record.folder)
    return path


def render(record: RunRecord, with_explorer: bool = False) -> str:
    """The page as text; `with_explorer`: linked to the explorer beside it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        record=record,
        explorer=EXPLORER_PAGE if with_explorer else None,
        facts=facts(record),
        verdict=verdict(record),
        metrics=record.metrics,
        main=shown(Place.PAGE),
        details=_measured(shown(Place.DETAILS), record),
        of_slices=shown(Place.SLICES),
        metric_table=METRIC,
        audited=[METRIC[key] for key in PRIMARY],
        notes_of=lambda metrics: " ".join(metric.note for metric in metrics.values() if metric.note),
        slice_kinds=SLICES,
        slices_legend=_slices_legend(record),
        method_label=method_label,
        results_caption=results_caption(record.metrics) if record.metrics else "",
        baseline_notes=baseline_notes(record),
        intervals=_chart(record, method_intervals),
        effects=_chart(record, audit_effects),
        heads_rows=heads_rows(record) if record.heads else [],
        heads_caption=heads_caption(record) if record.heads else "",
        frequency=_chart(record, frequency_grid),
        curve=_chart(record, attention_sum_curve),
        scatter=_chart(record, figure6_scatter),
        panels=[(item, _panel(record, item), _steps(record, item)) for item in record.gallery],
        provenance=provenance_rows(record.provenance),
        digest=digest_line(record),
    )


def _slices_legend(record: RunRecord) -> str:
    parts = record.metrics.slices if record.metrics else ()
    return few_legend(*(estimate for part in parts for estimate in part.metrics.values())).strip()


def _measured(metrics: dict[str, Metric], record: RunRecord) -> dict[str, Metric]:
    """Those that any method has: a run of another kind, or of an earlier version, lacks some."""
    found = {name for of_method in record.metrics.methods.values() for name in of_method} if record.metrics else set()
    return {key: metric for key, metric in metrics.items() if key in found}


def _chart(record: RunRecord, draw: Callable[[RunRecord, Theme], Figure]) -> Chart | None:
    """None where the records that the chart shows are missing."""
    try:
        light, dark = (to_svg(draw(record, theme)) for theme in (LIGHT, DARK))
    except StoreError:
        return None
    return Chart(_data_uri("image/svg+xml", light.encode()), _data_uri("image/svg+xml", dark.encode()))


def _panel(record: RunRecord, item: GalleryItem) -> str:
    """The sample's panel as a data URI; one file suits both colour schemes."""
    return _data_uri("image/webp", to_webp(sample_panel(record, item)))


def _steps(record: RunRecord, item: GalleryItem) -> str | None:
    """The steps of the sample's answer as a data URI; None where they were not kept."""
    panel = steps_panel(record, item)
    return None if panel is None else _data_uri("image/webp", to_bytes(panel, "webp"))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
