"""A page with the picture of every head set, in the style of a run's page."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from locheads.discovery.headset import HeadSet
from locheads.report.explorer.page import page_template
from locheads.report.figures import head_set_grid
from locheads.report.html import both_schemes
from locheads.store.atomic import write_text


def write_heads_page(path: Path, sets: Sequence[tuple[HeadSet, Mapping[str, str]]]) -> Path:
    """Writes the page of these sets, each with what is known of how it was found, and returns its path.

    Raises StoreError where it cannot be written.
    """
    charts = [both_schemes(partial(head_set_grid, found)) for found, _ in sets]
    text = page_template("heads.html.j2").render(sets=list(zip(sets, charts, strict=True)))
    write_text(path, text)
    return path
