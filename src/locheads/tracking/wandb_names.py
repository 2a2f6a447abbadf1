"""Under which names W&B knows a run: its id, group, tags and artifact."""

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from locheads.config import Config
from locheads.errors import ConfigError
from locheads.records.receipt_file import SweepFile
from locheads.store.derived import read_derived
from locheads.store.digest import json_digest
from locheads.text import printable


def sweep_record(overrides: list[str], params: Any) -> SweepFile:
    """sweep.json. The id is that of the same command another day, so that both days' runs are one group in W&B."""
    kept = [text for text in overrides if not re.match(r"[+~]*(tracker|paths|hydra|fresh)\b", text)]
    swept = {**(params or {}), **dict(text.lstrip("+").split("=", 1) for text in overrides if "=" in text)}
    jobs = math.prod(_values(f"{key}={value}") for key, value in swept.items())
    return SweepFile(overrides=tuple(overrides), id=json_digest([sorted(kept), params])[:8], jobs=jobs)


def check_agent(folder: Path) -> None:
    """Raises ConfigError for one of several runs that were started where W&B's agent expects one: all would get the
    agent's id, and the last one would replace the others."""
    path = folder.parent / SweepFile.FILE
    if {"WANDB_SWEEP_ID", "WANDB_RUN_ID"} <= os.environ.keys() and path.exists():
        sweep = read_derived(path, SweepFile.decode)
        if sweep is not None and (jobs := sweep.jobs) > 1:
            raise ConfigError(
                f"wandb agent started this as its run {os.environ['WANDB_RUN_ID']}, and -m makes {jobs} runs of "
                "it, which W&B would take for one: leave -m out and let the W&B sweep vary the settings, or unset "
                "WANDB_SWEEP_ID and WANDB_RUN_ID."
            )


def _values(override: str) -> int:
    """How many runs an override of a sweep makes; one that Hydra cannot read is Hydra's to complain of."""
    with suppress(HydraException):
        parsed = OverridesParser.create().parse_override(override)
        if parsed.is_sweep_override():
            return sum(1 for _ in parsed.sweep_iterator())
    return 1


def init_options(config: Config, settings: dict[str, Any], folder: Path, identity: str) -> dict[str, Any]:
    """Arguments of wandb.init.

    `identity` stands for all that decides the result. The id follows from it: a run that goes on after a crash
    continues its W&B run, and a run with other settings, data or code is another one.
    """
    tracker, group = config.tracker, _group(config, folder)
    return {
        "id": json_digest([identity, config.study, group])[:16],
        "resume": "allow",
        "project": tracker.project,
        "entity": tracker.entity,
        "group": _fit(group),
        "job_type": _fit(tracker.job_type or config.stage.value),
        "tags": [
            _fit(tag, 64) for tag in dict.fromkeys([config.model.name, config.dataset.name, *tracker.tags]) if tag
        ],
        "name": _fit(folder.name),
        "config": settings,
        "dir": str(folder),
    }


def artifact_name(study: str, run_id: str) -> str:
    """W&B allows letters, digits, hyphens, underscores and dots, 128 of them."""
    kept = re.sub(r"[^\w.-]+", "-", study, flags=re.ASCII)
    return f"{kept[: 127 - len(run_id)]}-{run_id}"


def _fit(text: str, most: int = 128) -> str:
    """As W&B takes it: one line, of so many characters at most."""
    return printable(text)[:most]


def _group(config: Config, folder: Path) -> str:
    """The runs of one sweep are one group; single runs are grouped by study."""
    if config.tracker.group:
        return config.tracker.group
    sweep = read_derived(
        folder.parent / SweepFile.FILE, SweepFile.decode, then="passed over: the run is grouped as a single one"
    )
    return config.study if sweep is None else f"{config.study}/{sweep.id}"
