"""Under which names W&B knows a run: its id, group, tags and artifact."""

import re
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.store.derived import read_derived_json
from locheads.store.digest import json_digest

SWEEP = "sweep.json"
"""In a sweep's folder: what the sweep's runs share."""


def sweep_record(overrides: list[str], params: Any) -> dict[str, Any]:
    """sweep.json. The id is that of the same command another day, so that both days' runs are one group in W&B."""
    said = [text for text in overrides if not re.match(r"[+~]*(tracker|paths|hydra|fresh)\b", text)]
    return {"overrides": overrides, "id": json_digest([sorted(said), params])[:8]}


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
        "group": group,
        "job_type": tracker.job_type or config.stage.value,
        "tags": list(dict.fromkeys([config.model.name, config.dataset.name, *tracker.tags])),
        "name": folder.name,
        "config": settings,
        "dir": str(folder),
    }


def artifact_name(study: str, run_id: str) -> str:
    """W&B allows letters, digits, hyphens, underscores and dots."""
    return re.sub(r"[^\w.-]+", "-", f"{study}-{run_id}")


def _group(config: Config, folder: Path) -> str:
    """The runs of one sweep are one group; single runs are grouped by study."""
    if config.tracker.group:
        return config.tracker.group
    sweep = read_derived_json(folder.parent / SWEEP, then="passed over: the run is grouped as a single one")
    return config.study if sweep is None else f"{config.study}/{sweep['id']}"
