"""The configuration as `run.py` would compose it, with the launcher's settings, for commands that start runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf, open_dict

from locheads.config import Config
from locheads.pipeline.cli import plain, validated


@dataclass(frozen=True)
class Composed:
    """What a list of overrides amounts to."""

    config: Config
    launcher: dict[str, Any]
    """Settings of hydra/launcher, without its class."""


def composed(conf: Path, overrides: list[str]) -> Composed:
    """Raises what Hydra and OmegaConf raise for a wrong override (see `mistakes.explain`)."""
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf.absolute())):
        both = compose("config", overrides, return_hydra_config=True)
    launcher = OmegaConf.to_container(both.hydra.launcher, resolve=False)
    assert isinstance(launcher, dict)
    with open_dict(both):
        del both["hydra"]
    unset = ("_target_", "submitit_folder", "name")
    return Composed(validated(plain(both)), {str(key): value for key, value in launcher.items() if key not in unset})
