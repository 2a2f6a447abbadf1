"""What further looks at parts of the images cost and changed, by the size of the object: terminal and page."""

from rich.console import RenderableType

from locheads.evaluation.metric_table import METRIC
from locheads.fitted_table import WIDE, Row, figures, fitted_table, label
from locheads.records.metrics_file import few_legend, few_mark
from locheads.records.zoom_file import ZoomFile
from locheads.report.interval_words import level_of

HEADINGS = ("first look", "after all", "difference", "interval")


def zoom_rows(found: ZoomFile) -> list[tuple[str, ...]]:
    """Per part of the expressions and metric: part, expressions, metric, and as HEADINGS, in percent."""
    rows: list[tuple[str, ...]] = []
    for gain in found.gains:
        for key, change in gain.metrics.items():
            text = METRIC[key].unit.text
            difference = text(change.difference, "+") + few_mark(gain.n_images)
            ends = f"[{text(change.low, '+')}, {text(change.high, '+')}]"
            label = METRIC[key].label
            rows.append((gain.part, str(gain.n_expressions), label, text(change.a), text(change.b), difference, ends))
    return rows


def zoom_caption(found: ZoomFile) -> str:
    """What was asked besides."""
    looks = zip(found.n_asked, found.n_parts, strict=True)
    asked = " + ".join(f"{n:,} expressions about {parts:,} parts" for n, parts in looks)
    return (
        f"zoom={found.name}, combine={found.combine}: asked besides were {asked} of the images; {found.n_failed:,} "
        f"failed (misses). Differences are paired, their {level_of(found.confidence)} intervals over images."
        + few_legend(*(row for rows in zoom_rows(found) for row in rows))
    )


def zoom_table(found: ZoomFile, width: int = WIDE) -> RenderableType:
    """The gains."""
    headings = [*label("share of the image"), *figures("expressions"), *label("metric"), *figures(*HEADINGS)]
    return fitted_table("A further look, in percent", headings, [Row(row) for row in zoom_rows(found)],
                        zoom_caption(found), width)  # fmt: skip
