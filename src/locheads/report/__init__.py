"""Tables, figures and the page of a run, from its records: no model, no data set, no store."""

from locheads.report.draw_sample import sample_panel
from locheads.report.figures import (
    attention_sum_curve,
    figure6_scatter,
    frequency_grid,
    method_intervals,
)
from locheads.report.html import write_report
from locheads.report.run_record import RunRecord, read_run
from locheads.report.sweep_table import SweepRow, sweep_frame, sweep_table
from locheads.report.tables import heads_table, results_table

__all__ = [
    "RunRecord",
    "SweepRow",
    "attention_sum_curve",
    "figure6_scatter",
    "frequency_grid",
    "heads_table",
    "method_intervals",
    "read_run",
    "results_table",
    "sample_panel",
    "sweep_frame",
    "sweep_table",
    "write_report",
]
