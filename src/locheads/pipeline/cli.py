"""The command line: Hydra composes the configuration, a user's mistake becomes one sentence and exit code 1.

A bug of ours gets a sentence, too, and exit code 70; it names the file that holds the traceback.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from locheads.config import Config, Pages, ReportConfig, Stage, check
from locheads.errors import ConfigError, print_error
from locheads.pipeline import sweep_callback as sweep
from locheads.pipeline.error_messages import explain, explain_command, log_bug, log_user_error
from locheads.pipeline.help_text import help_text
from locheads.pipeline.run_life import Command, Started, Status, run_life
from locheads.pipeline.signals import Stopped, stop_in_order
from locheads.settings import renamed
from locheads.store.atomic import write_text
from locheads.terminal import console, listening

if TYPE_CHECKING:  # loaded late: they take a second
    from rich.console import RenderableType

    from locheads.records.metrics_file import MetricsRecord
    from locheads.report.run_record import RunRecord

log = logging.getLogger(__name__)

USER_ERROR, BUG = 1, 70
"""Exit codes; 70 is what sysexits.h calls an internal software error."""

_ended: list[tuple[str, int]] = []
"""Why the single run could not be done, and its exit code. Kept, not raised: Hydra prints lines of its own for what a
task raises."""

GO_ON = "What was finished is stored: start the same command again and it goes on."

# Names the folders of a sweep's runs: an override may hold slashes, and a file name has at most 255 bytes.
OmegaConf.register_new_resolver("slug", lambda text: re.sub(r"[^\w.,=+-]+", "-", text)[:200], replace=True)


ConfigStore.instance().store(name="schema", node=Config)

CONF = Path(__file__).parents[1] / "conf"
"""The configuration that comes with the package; in a checkout a link to conf/."""


def main() -> None:
    """What `python run.py` and the command `locheads` do, see `run`."""
    sys.path.append(str(Path.cwd()))  # a user's own classes, named by dotted path, may lie where they work
    run(CONF)


def run(conf: Path) -> None:
    """Runs the pipeline as `conf` and sys.argv say.

    Exits with 1 after a mistake, 70 after a bug, 130 after Ctrl-C, 143 after kill.
    """
    sys.argv[1:] = map(renamed, sys.argv[1:])
    # Hydra would otherwise print its own, longer message and exit before we can shorten it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # On a full disk every line for run.log would print a traceback.
    logging.raiseExceptions = False
    _ended.clear()
    sweep.failures.clear()
    task = hydra.main(version_base="1.3", config_path=str(conf.absolute()), config_name="config")(_task)
    flags = {argument for argument in sys.argv[1:] if argument.startswith("-")}
    try:
        if flags and flags <= {"-h", "--help"}:
            overrides = [argument for argument in sys.argv[1:] if argument not in flags]
            return print(help_text(conf, *_composed(conf, overrides)))
        task()
    except Exception as error:
        # What a run raises ends in _task: this one is about the command line.
        if (sentence := explain_command(error)) is None:
            _fail(log_bug(error), BUG)
        _fail(sentence, USER_ERROR)
    except KeyboardInterrupt:
        print(f"Interrupted. {GO_ON}", file=sys.stderr)
        sys.exit(130)
    except Stopped as stop:
        print(f"{stop}. {GO_ON}", file=sys.stderr)
        raise
    if _ended:
        _fail(*_ended[0])
    if sweep.failures:
        _fail(f"{len(sweep.failures)} of the sweep's runs failed; the table above says why.", USER_ERROR)


def _task(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    single = hydra_config.mode is RunMode.RUN
    stop_in_order()
    if "SUBMITIT_EXECUTOR" in os.environ or composed.shard.count > 1:
        # One of many workers does not ask the hub: stage=fetch did, once.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        _run_one(composed, Path(hydra_config.runtime.output_dir), list(hydra_config.overrides.task), not single)
    except Exception as error:
        sentence = explain(error)
        end = (log_bug(error), BUG) if sentence is None else (sentence, USER_ERROR)
        if not single:
            # The other runs of the sweep go on; this one is a failed row of the table.
            return log.error("%s", end[0])
        if sentence is not None:
            log_user_error(error, sentence)
        _ended.append(end)


def _run_one(composed: DictConfig, folder: Path, overrides: list[str], sweeping: bool) -> None:
    with run_life(folder) as status:
        settings = plain(composed)
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
        write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
        status.check_complete()
        check_text(overrides, settings)
        config = _for_sweep(validated(settings)) if sweeping else validated(settings)
        # Imported late: --help and a wrong setting answer before torch and transformers load.
        from locheads.tracking.wandb_run import tracked

        earlier = Path(config.paths.outputs) / config.study if sweeping and not config.fresh else None
        with tracked(config, settings, folder) as tracker, listening(tracker.progress):
            dispatch(config, folder, status, earlier, tracker.start)
    _show(folder)


def _for_sweep(config: Config) -> Config:
    """A sweep shows its runs in one table: their own pages cost more than their results, and can be made later."""
    never = ReportConfig(Pages.never)
    return replace(config, report=never) if config.report.pages == Pages.auto else config


def dispatch(
    config: Config, folder: Path, status: Status, earlier: Path | None = None, started: Started = lambda _: None
) -> None:
    """Runs what `config.stage` names and writes its files into the folder of a run whose life has begun.

    `earlier`: a study's folder, of which a run that has done the same is taken over; None: run whatever is there.

    Raises:
        LocHeadsError: whatever a user can correct, as one sentence; what was finished stays in the folder.
    """
    check(config)
    if (command := _command_of(config)) is not None:
        return command(config, folder, status)
    if config.stage in (Stage.discover, Stage.ground, Stage.evaluate, Stage.report, Stage.audit):
        from locheads.pipeline.processes import warm_up

        loaded = {Stage.discover: ["word_pairs"], Stage.audit: ["audit_stage"]}
        names = loaded.get(config.stage, ["head_plan", "ground_stage"])
        warm_up(config.engine.processes, [f"locheads.pipeline.{name}" for name in names])
    from locheads.pipeline.stages import run_stages

    run_stages(config, folder, status, earlier, started)


def _command_of(config: Config) -> Command | None:
    """The command; None where the configuration asks for stages. Imported late: most answer without torch."""
    if config.stage == Stage.check:
        from locheads.pipeline.check_data import check_dataset as command
    elif config.stage == Stage.verify:
        from locheads.pipeline.verify import verify_model as command
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


def _show(folder: Path) -> None:
    """Prints the tables of what the run folder holds, and where it lies."""
    from locheads.records.steer_file import SteerFile
    from locheads.report.audit_report import audit_tables
    from locheads.report.run_record import read_run
    from locheads.report.steer_table import steer_table
    from locheads.report.tables import heads_table
    from locheads.report.verdict import follows_of

    record = read_run(folder)
    if record.heads is not None:
        console.print(heads_table(record))
    if (steered := SteerFile.read_if_there(folder)) is not None:
        console.print(steer_table(steered))
    if record.audit is not None:
        for table in audit_tables(record):
            console.print(table)
    if (follows := follows_of(record)) is not None:
        console.print(follows.sentence)
    for table in () if record.metrics is None else _results(record, record.metrics):
        console.print(table)
    console.print(f"Run folder: {folder}", soft_wrap=True)
    if (folder / "report.html").exists():
        console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True)


def _results(record: "RunRecord", metrics: "MetricsRecord") -> Iterator["RenderableType"]:
    """The tables of what was measured."""
    from locheads.report.absence_report import absence_table
    from locheads.report.tables import results_table, slices_table
    from locheads.report.zoom_table import zoom_table

    yield results_table(record, console.width)
    if metrics.absence is not None:
        yield absence_table(record, console.width)
    if metrics.slices:
        yield slices_table(record, console.width)
    if record.zoom is not None:
        yield zoom_table(record.zoom, console.width)


def check_text(overrides: list[str], settings: dict[str, Any]) -> None:
    """Raises ConfigError for a text that the command line took for a number, and that is another text since.

    The commit 12e4 would be 120000.0.
    """
    whole = OmegaConf.create(settings)
    for one in OverridesParser.create().parse_overrides(overrides):
        key, kept = one.key_or_group, OmegaConf.select(whole, one.key_or_group)
        written = (one.input_line or "").split("=", 1)[-1]
        if isinstance(one.value(), int | float) and isinstance(kept, str) and kept != written:
            raise ConfigError(f"{key}={written} would be read as {kept}: write {key}=\"'{written}'\".")


def plain(composed: DictConfig) -> dict[str, Any]:
    """The settings as values of YAML. Raises what OmegaConf does, for ??? too: the default would take its place."""
    OmegaConf.to_container(composed, throw_on_missing=True)
    return OmegaConf.to_container(composed, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def validated(settings: dict[str, Any], schema: Any = Config) -> Any:
    """The configuration, merged once more, because Hydra lets +key=value add what the schema does not hold."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), settings))


def composed(conf: Path, overrides: list[str]) -> tuple[Config, dict[str, Any]]:
    """(The configuration, the settings of hydra/launcher) as `run.py` would compose them, for commands that start runs.

    Raises what Hydra and OmegaConf raise for a wrong override, see `explain`.
    """
    settings, own = _composed(conf, overrides)
    launcher: Any = OmegaConf.to_container(settings.launcher, resolve=False)
    unset = ("_target_", "submitit_folder", "name")
    return validated(plain(own)), {key: value for key, value in launcher.items() if key not in unset}


def _composed(conf: Path, overrides: list[str]) -> tuple[DictConfig, DictConfig]:
    """(Hydra's own settings, ours)."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf.absolute())):
        whole = compose("config", overrides, return_hydra_config=True)
    own = whole.copy()
    with open_dict(own):
        del own["hydra"]
    return whole.hydra, own  # which stays where it is: its texts refer to each other by their place


def _fail(sentence: str, code: int) -> NoReturn:
    sys.exit(print_error(sentence, code))
