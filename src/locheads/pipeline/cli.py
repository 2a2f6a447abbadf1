"""The command line: Hydra composes the configuration, a user's mistake becomes one sentence and exit code 1."""

import difflib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from locheads.config import Config
from locheads.errors import LocHeadsError
from locheads.pipeline import sweep
from locheads.pipeline.progress import console
from locheads.store.atomic import write_text

log = logging.getLogger(__name__)


def run(conf: Path) -> None:
    """Runs the pipeline as `conf` and sys.argv say; exits with 1 after a mistake, with 130 after Ctrl-C."""
    ConfigStore.instance().store(name="schema", node=Config)
    # Hydra would otherwise print its own, longer message and exit before we can shorten it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    task = hydra.main(version_base="1.3", config_path=str(conf.absolute()), config_name="config")(_task)
    try:
        task()
    except LocHeadsError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_shorten(error, conf))
    except OSError as error:
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}. Check paths.outputs and paths.cache.")
    except KeyboardInterrupt:
        print("Interrupted. What was finished is stored: start the same command again and it goes on.", file=sys.stderr)
        sys.exit(130)
    if sweep.failures:
        _fail(f"{len(sweep.failures)} runs of the sweep failed; the table above says why.")


def _task(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        _run_one(composed, folder, list(hydra_config.overrides.task))
    except LocHeadsError as error:
        log.error("%s", error)
        if hydra_config.mode is RunMode.RUN:
            raise
        # In a sweep the other runs go on; this one is a failed row of the table.


def _run_one(composed: DictConfig, folder: Path, overrides: list[str]) -> None:
    # Imported late: --help and a wrong override answer before torch and transformers load.
    from locheads.pipeline.stages import execute
    from locheads.pipeline.tracker import tracked
    from locheads.report.records import read_run
    from locheads.report.tables import heads_table, results_table

    config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    settings: dict[str, Any] = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    with tracked(config, settings, folder):
        execute(config, folder)
    record = read_run(folder)
    if record.heads is not None:
        console.print(heads_table(record))
    if record.metrics is not None:
        console.print(results_table(record))
    console.print(f"Run folder: {folder}", soft_wrap=True, highlight=False)
    if (folder / "report.html").exists():
        console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True, highlight=False)


def _fail(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(1)


def _shorten(error: Exception, conf: Path) -> str:
    """One sentence from Hydra's and OmegaConf's messages, with the nearest setting where a name is unknown."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    first = str(cause).splitlines()[0].rstrip(".")
    override = re.search(r"Could not override '([^']+)'", str(error))
    key = override.group(1) if override else getattr(cause, "full_key", None)
    if key and "is not in" in str(cause):
        return f"There is no setting {key}.{_suggestion(key)} See: python run.py --help"
    if key:
        return f"{key}: {first}."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines).rstrip(".") + ". See: python run.py --help"


def _suggestion(key: str) -> str:
    nearest = difflib.get_close_matches(key, _setting_names(), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def _setting_names() -> list[str]:
    container = OmegaConf.to_container(OmegaConf.structured(Config))
    assert isinstance(container, dict)
    groups = {key: value for key, value in container.items() if isinstance(value, dict)}
    return [str(key) for key in container] + [f"{group}.{key}" for group, values in groups.items() for key in values]
