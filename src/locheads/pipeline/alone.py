"""What stands alone: it prepares no run. Imported late, so that it answers before torch and transformers load."""

from collections.abc import Callable
from pathlib import Path

from locheads.config import Config, Stage


def alone(config: Config) -> Callable[[Config, Path], None] | None:
    """What does all of this configuration; None where it is a run with its stages."""
    if config.stage == Stage.check:
        from locheads.pipeline.check_data import run_check

        return run_check
    if config.stage == Stage.compare:
        from locheads.pipeline.compare_runs import run_compare

        return run_compare
    if config.stage == Stage.fetch:
        from locheads.pipeline.fetch import run_fetch

        return run_fetch
    if config.stage == Stage.report and config.runs:
        from locheads.pipeline.study import run_study

        return run_study
    if config.predictions is not None:
        from locheads.pipeline.score_file import run_external

        return run_external
    return None
