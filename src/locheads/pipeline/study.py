"""stage=report with `runs`: joins finished runs into a study's tables and writes their pages. No model, no data."""

from pathlib import Path

from locheads.config import Config, Stage
from locheads.errors import ConfigError
from locheads.pipeline.run_life import Status
from locheads.report.html import write_report
from locheads.report.studies.build import build
from locheads.report.studies.layouts import LAYOUTS
from locheads.report.studies.runs import find_runs
from locheads.report.studies.write import terminal_table, write_study
from locheads.terminal import console, track


def join_runs(config: Config, folder: Path, status: Status) -> None:
    """Prints the study's table, and writes its files into paths.studies and the page of every run.

    Raises:
        LocHeadsError: an unknown study, no finished runs, or no paper.csv where there must be one.
    """
    with status.stage(Stage.report):
        layout = LAYOUTS.get(config.study)
        if layout is None:
            names = ", ".join(LAYOUTS)
            raise ConfigError(f"study={config.study} has no table: choose one with experiment=NAME: {names}.")
        own = Path(config.paths.studies) / layout.study
        runs = find_runs(config.runs)
        study = build(layout, runs, own)
        files = write_study(study, own)
        paged = [run for run in runs if run.error is None and run.setting("stage") == Stage.report]
        for run in track(paged, "pages", "runs") if paged else []:
            write_report(run.folder)
    console.print(terminal_table(study))
    for file in files:
        console.print(f"Written: {file}", soft_wrap=True, highlight=False)
