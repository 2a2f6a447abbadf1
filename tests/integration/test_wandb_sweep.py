"""The search that W&B drives: what its agent would start is a command that run.py understands."""

import itertools
import subprocess
import sys
from typing import Any

import pytest
import yaml
from running import ROOT
from test_pipeline_config import CONF, composed
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from locheads.config import check
from locheads.evaluation.metric_table import Place, shown

SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "wandb_sweep" / "grounding.yaml").read_text())


def values(parameter: dict[str, Any]) -> list[Any]:
    """Every value, or both ends."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def command(chosen: dict[str, Any]) -> list[str]:
    """As W&B's agent puts it together, with W&B's own functions."""
    macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    macros["program"] = [SWEEP["program"]]
    parts = create_sweep_command(list(SWEEP["command"]))
    return [each for part in parts for each in macros.get(part.strip("${}"), [part])]


def choices() -> list[dict[str, Any]]:
    names, listed = zip(*((name, values(p)) for name, p in SWEEP["parameters"].items()), strict=True)
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*listed)]


def test_every_choice_is_a_valid_configuration() -> None:
    seen = set()
    for chosen in choices()[::7] + choices()[-1:]:
        python, program, *overrides = command(chosen)
        assert (python, program) == (".venv/bin/python", "run.py") and (ROOT / program).is_file()
        config = composed(CONF, *overrides)
        check(config)
        assert config.tracker.kind.value == "wandb" and config.stage.value == "evaluate"
        assert (config.heads.k, config.grounding.kernel) == (chosen["heads.k"], chosen["grounding.kernel"])
        seen.add((config.grounding.border.value, config.grounding.component.value, config.grounding.sigma))
    assert len(seen) == 4 * 2 * 2


def test_the_optimised_number_is_logged_under_its_name() -> None:
    assert SWEEP["metric"] == {"name": "rec_acc50", "goal": "maximize"}
    named = {metric.plain_name: key for key, metric in shown(Place.SUMMARY).items()}
    assert named[SWEEP["metric"]["name"]] == "rec_acc@0.5"


@pytest.mark.parametrize(("subcommand", "option"), [("sync", "--include-online"), ("agent", "--count")])
def test_the_options_of_wandb_that_we_document_exist(subcommand: str, option: str) -> None:
    texts = [(ROOT / name).read_text() for name in ("docs/wandb.md", "experiments/wandb_sweep/grounding.yaml")]
    assert any(f"wandb {subcommand}" in text and option in text for text in texts)
    told = subprocess.run([sys.executable, "-m", "wandb", subcommand, "--help"], capture_output=True, text=True)
    assert option in told.stdout
