"""The studies of experiments/: finished runs joined into the paper's layouts, from their records alone."""

from locheads.report.studies.build import Study, build
from locheads.report.studies.layouts import LAYOUTS
from locheads.report.studies.runs import StudyRun, find_runs
from locheads.report.studies.write import terminal_table, write_study

__all__ = ["LAYOUTS", "Study", "StudyRun", "build", "find_runs", "terminal_table", "write_study"]
