"""Every chart of a run by its name."""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from locheads.report.absence_report import risk_coverage_curve
from locheads.report.figures import (
    attention_sum_curve,
    audit_effects,
    dependence_grid,
    figure6_scatter,
    frequency_grid,
    method_intervals,
)
from locheads.report.run_record import RunRecord
from locheads.report.support_curve import support_curve
from locheads.report.theme import Theme

CHARTS: Mapping[str, Callable[[RunRecord, Theme], Figure]] = {
    "intervals": method_intervals,
    "effects": audit_effects,
    "frequency": frequency_grid,
    "dependence": dependence_grid,
    "curve": attention_sum_curve,
    "support": support_curve,
    "scatter": figure6_scatter,
    "risk": risk_coverage_curve,
}
"""By the name that the page's template and a file of the chart have for it."""
