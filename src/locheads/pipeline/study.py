"""stage=report with `runs`: joins finished runs into a study's tables and writes their pages. No model, no data."""

from pathlib import Path

from locheads.config import Config, Stage, check
from locheads.errors import ConfigError
from locheads.pipeline.progress import console, track
from locheads.pipeline.run_files import Status
from locheads.report.html import write_report
from locheads.report.studies import LAYOUTS, Study, build, find_runs, terminal_table, write_study


def run_study(config: Config, folder: Path) -> None:
    """The whole of it, with its status.json.

    Raises:
        LocHeadsError: an unknown study, no finished runs, or no paper.csv where there must be one.
    """
    status = Status(folder)
    try:
        check(config)
        with status.stage(Stage.report.value):
            study, files = join_runs(config)
        status.finish()
    except BaseException as error:
        status.finish(str(error) or type(error).__name__)
        raise
    console.print(terminal_table(study))
    for file in files:
        console.print(f"Written: {file}", soft_wrap=True, highlight=False)


def join_runs(config: Config) -> tuple[Study, list[Path]]:
    """-> (the study, the files that were written)."""
    layout = LAYOUTS.get(config.study)
    if layout is None:
        raise ConfigError(f"study={config.study} has no table: choose one with experiment=NAME: {', '.join(LAYOUTS)}.")
    own = Path(config.paths.studies) / layout.study
    runs = find_runs(config.runs)
    study = build(layout, runs, own)
    files = write_study(study, own)
    paged = [run for run in runs if run.error is None and run.setting("stage") == Stage.report]
    for run in track(paged, "pages", "runs") if paged else []:
        write_report(run.record.folder)
    return study, files
