"""Terminal tables of one run."""

import numpy as np
from rich.table import Table

from locheads.evaluation.slices import SLICES
from locheads.report.metrics_record import SLICE_METRICS, MetricsRecord, few_legend, method_label, percent
from locheads.report.run_record import RunRecord
from locheads.terminal import new_table

# column heading, metric, with interval; the headings break so that the table fits 100 columns
COLUMNS = (
    ("REC\nAcc@0.5", "rec_acc@0.5", True),
    ("Acc\n@0.25", "rec_acc@0.25", False),
    ("Acc\n@0.75", "rec_acc@0.75", False),
    ("mean\nIoU", "rec_mean_iou", False),
    ("RES\ncIoU", "res_ciou", True),
    ("\nmIoU", "res_miou", False),
    ("point-\ning", "pointing", False),
)

ABSENT = "\N{EN DASH}"
WIDE = 100
"""Columns of a terminal that shows every metric."""

ONLY_WIDE = ("rec_acc@0.25", "rec_acc@0.75")
"""Left out of a narrower terminal; metrics.json and the page have them."""


def metric_cell(metrics: MetricsRecord, method: str, metric: str, interval: bool = True) -> str:
    estimate = metrics.get(method, metric)
    if estimate is None:
        return ABSENT
    return str(estimate) if interval else estimate.short()


def results_table(record: RunRecord, width: int = WIDE) -> Table:
    """Methods x metrics in percent, at most 100 columns wide; some fewer, in 80, where `width` is narrower.

    Raises:
        StoreError: the run has no readable metrics.json.
    """
    metrics = record.need_metrics()
    table = new_table("Results in percent", results_caption(metrics))
    columns = [column for column in COLUMNS if width >= WIDE or column[1] not in ONLY_WIDE]
    table.add_column("", no_wrap=True)
    for heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for method in metrics.rows():
        cells = [metric_cell(metrics, method, metric, interval) for _, metric, interval in columns]
        table.add_row(method_label(method), *cells, style="bold" if method == "localization_heads" else None)
    return table


def results_caption(metrics: MetricsRecord) -> str:
    """What the numbers were measured on; shared by the terminal and the page."""
    reasons = metrics.boxes.reasons() if metrics.boxes else ""
    missing = f" ({metrics.n_missing} of them not in the file)" if metrics.n_missing else ""
    return (
        f"{metrics.split}: {metrics.n_images} images, {metrics.n_expressions} expressions, "
        f"{metrics.n_failed} failed{missing}, {metrics.n_empty} without a box{reasons} (both count as misses). "
        f"Brackets: {100 * metrics.confidence:.0f} % interval over images. "
        "* chosen with ground truth, of the discovery set."
        + _swapped_text(metrics)
        + few_legend(*(estimate for found in metrics.methods.values() for estimate in found.values()))
    )


def slices_table(record: RunRecord) -> Table:
    """The run's own method on parts of the expressions, in percent; 100 columns wide.

    Raises:
        StoreError: the run has no readable metrics.json.
    """
    metrics = record.need_metrics()
    legend = few_legend(*(estimate for part in metrics.slices for estimate in part.metrics.values()))
    table = new_table("By slices, in percent", legend.strip() or None)
    table.add_column("", no_wrap=True)
    table.add_column("expres-\nsions", justify="right", no_wrap=True)
    for heading, metric, _ in COLUMNS:
        if metric in SLICE_METRICS:
            table.add_column(heading, justify="right", no_wrap=True)
    before = None
    for part in metrics.slices:
        if part.by != before:
            table.add_row(SLICES.get(part.by, part.by), style="bold")
        cells = [
            ABSENT if metric not in part.metrics else str(part.metrics[metric]) if interval else
            part.metrics[metric].short()
            for _, metric, interval in COLUMNS if metric in SLICE_METRICS
        ]  # fmt: skip
        table.add_row(f"  {part.name}", str(part.n_expressions), *cells)
        before = part.by
    return table


def _swapped_text(metrics: MetricsRecord) -> str:
    """Do the maps follow the words? Nothing where the run did not measure it."""
    own = metrics.methods.get("localization_heads", {})
    if "pointing_swapped" not in own:
        return ""
    swapped, chance = (percent(own[name].value) for name in ("pointing_swapped", "pointing_chance"))
    return (
        f" The localization heads' maps of another expression point at the object in {swapped} % (chance {chance} %)."
    )


def heads_rows(record: RunRecord) -> list[tuple[str, str, str, str]]:
    """Per localization head: name, selection frequency +- std (%), mean attention sum, head IoU (%)."""
    heads = record.need_heads()
    rows = []
    for index in heads.heads:
        at = (index.layer, index.head)
        iou = np.nan if heads.head_iou is None else heads.head_iou[at]
        rows.append(
            (
                str(index),
                f"{percent(heads.frequency_mean[at])} ± {percent(heads.frequency_std[at])}",
                f"{heads.mean_attention_sum[at]:.3f}",
                percent(iou) if np.isfinite(iou) else ABSENT,
            )
        )
    return rows


def heads_caption(record: RunRecord) -> str:
    """How the heads were found; shared by the terminal and the page."""
    heads = record.need_heads()
    tau = "no threshold on the mean sums" if heads.tau is None else f"threshold τ = {heads.tau:.3f}"
    return (
        f"{heads.n_samples} samples x {heads.trials} trials, {heads.n_failed} failed, {tau}, "
        f"{int(heads.eligible.sum())} of {heads.eligible.size} heads eligible. "
        "± is the standard deviation over trials."
    )


def heads_table(record: RunRecord) -> Table:
    """The localization heads, the most frequent first.

    Raises:
        StoreError: the run has no readable heads.json.
    """
    table = new_table("Localization heads", heads_caption(record))
    table.add_column("head", no_wrap=True)
    for heading in ("frequency (%)", "attention sum", "head IoU (%)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in heads_rows(record):
        table.add_row(*row)
    return table
