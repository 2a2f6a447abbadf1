"""The stages in their order: attend, discover, ground, evaluate, report. Configuration in, files out."""

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from locheads.config import Config, Stage, check
from locheads.pipeline.alone import alone
from locheads.pipeline.attend_stage import attend_stage, dealer, passes
from locheads.pipeline.audit_stage import audit_stage
from locheads.pipeline.direct import direct_stage
from locheads.pipeline.discover_stage import discover_stage
from locheads.pipeline.evaluate_stage import evaluate_stage
from locheads.pipeline.ground_stage import ground_stage
from locheads.pipeline.prepare import prepare
from locheads.pipeline.receipt import find_done, receipt_key, take_over, write_receipt
from locheads.pipeline.run_files import Status, recorded_provenance
from locheads.pipeline.run_state import Run
from locheads.pipeline.timing import write_timing
from locheads.pipeline.worker_status import show_status
from locheads.report.html import write_report
from locheads.store.digest import json_digest


def execute(
    config: Config, folder: Path, earlier: Path | None = None, started: Callable[[str], None] = lambda _: None
) -> None:
    """Runs all stages up to `config.stage` and writes their files into `folder`.

    Args:
        config: of the run.
        folder: the run folder.
        earlier: a study's folder, of which a run that has done the same is taken over; None: run whatever is there.
        started: called with what identifies the run, before the first stage or after the taking over.

    Raises:
        LocHeadsError: whatever a user can mend, as one sentence; what was finished stays in the folder.
    """
    if (action := alone(config)) is not None:
        return action(config, folder)
    status = Status(folder)
    try:
        check(config)
        with recorded_provenance(folder) as record:
            run = prepare(config, folder, record)
            key = receipt_key(config, run.digest, run.inputs)
            # The result of the attention pass is the store, which a receipt does not vouch for.
            again = earlier is None or config.stage in (Stage.attend, Stage.status)
            done = None if again or earlier is None else find_done(earlier, key)
            if done is None:
                started(json_digest(key))
                _run_stages(run, status)
        if done is not None:
            take_over(done, folder)
            return started(json_digest(key))
        # Before the page, which tells how the run ended and how long it took.
        status.finish()
        if config.stage in (Stage.report, Stage.audit, Stage.direct):
            with status.stage(Stage.report.value):
                write_report(folder)
        status.check_complete()
        write_receipt(folder, key, len(run.failures))
    except BaseException as error:
        status.finish(str(error) or type(error).__name__)
        raise


def _run_stages(run: Run, status: Status) -> None:
    for stage, action in _actions(run.config).items():
        with status.stage(stage.value):
            action(run)
    if run.config.stage != Stage.direct:  # which writes its own
        write_timing(run.folder, run.store.folder)


def status_stage(run: Run) -> None:
    """How far the shards of the attention pass are -> a table, and workers.json."""
    show_status(dealer(run), passes(run), run.folder)


# The page is made from the records alone, after the run.
STAGES = {
    Stage.attend: attend_stage,
    Stage.discover: discover_stage,
    Stage.ground: ground_stage,
    Stage.evaluate: evaluate_stage,
    Stage.audit: audit_stage,
}


def _actions(config: Config) -> dict[Stage, Callable[[Run], None]]:
    """What stage=X does, in order; without discovery where the heads are given."""
    order = [Stage.attend, Stage.discover, Stage.ground, Stage.evaluate]
    match config.stage:
        case Stage.status:
            return {Stage.status: status_stage}
        case Stage.direct:
            return {Stage.direct: direct_stage}
        case Stage.audit:
            order = [Stage.attend, Stage.discover, Stage.audit]
        case Stage.attend | Stage.discover | Stage.ground | Stage.evaluate:
            order = order[: order.index(config.stage) + 1]
        case Stage.report:
            pass
        case Stage.check | Stage.compare | Stage.fetch:
            raise ValueError(f"{config.stage} stands alone and prepares no run")
        case _:
            assert_never(config.stage)
    given = config.heads.set is not None and config.stage != Stage.audit
    return {stage: STAGES[stage] for stage in order if not (given and stage == Stage.discover)}
