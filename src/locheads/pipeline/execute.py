"""One run from its configuration: the stages in their order, or a command that stands beside them."""

from collections.abc import Callable
from pathlib import Path

from locheads.config import Config, Stage, check
from locheads.pipeline.run_life import Started, Status, run_life

Command = Callable[[Config, Path, Status], None]
"""Does all of a configuration that prepares no attention maps, and writes its files into the run folder."""


def execute(config: Config, folder: Path) -> None:
    """Runs what `config.stage` names and writes its files into `folder`.

    Raises:
        LocHeadsError: whatever a user can correct, as one sentence; what was finished stays in the folder.
    """
    with run_life(folder) as status:
        dispatch(config, folder, status)


def dispatch(
    config: Config, folder: Path, status: Status, earlier: Path | None = None, started: Started = lambda _: None
) -> None:
    """As `execute`, for a run whose life has begun.

    `earlier`: a study's folder, of which a run that has done the same is taken over; None: run whatever is there.
    """
    check(config)
    if (command := command_of(config)) is not None:
        return command(config, folder, status)
    from locheads.pipeline.stages import run_stages

    run_stages(config, folder, status, earlier, started)


def command_of(config: Config) -> Command | None:
    """The command; None where the configuration asks for stages. Imported late: most answer without torch."""
    if config.stage == Stage.check:
        from locheads.pipeline.check_data import check_dataset as command
    elif config.stage == Stage.compare:
        from locheads.pipeline.compare_runs import compare_two as command
    elif config.stage == Stage.fetch:
        from locheads.pipeline.fetch import fetch_inputs as command
    elif config.stage == Stage.report and config.runs:
        from locheads.pipeline.study import join_runs as command
    elif config.predictions is not None:
        from locheads.pipeline.score_file import score_file as command
    else:
        return None
    return command
