"""Which model the demo loads, from what a user types after --model."""

import re
from pathlib import Path

from omegaconf import OmegaConf

from locheads.errors import ConfigError
from locheads.models.choices import ModelConfig
from locheads.models.load import POCKET

CONF = Path(__file__).resolve().parents[3] / "conf" / "model"
"""Where a checkout of the repository has its model files; absent beside an installed package."""


def model_config(name: str, conf: Path = CONF) -> ModelConfig:
    """The settings of conf/model/NAME.yaml; for a hub id or a folder, the defaults with it as `id`.

    Raises:
        ConfigError: it is none of them.
    """
    file = conf / f"{name}.yaml"
    if "/" not in name and file.is_file():
        merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(file))
        config = OmegaConf.to_object(merged)
        assert isinstance(config, ModelConfig)
        return config
    if name == POCKET or "/" in name or Path(name).is_dir():
        return ModelConfig(name=name, id=name)
    names = ", ".join(sorted(path.stem for path in conf.glob("*.yaml"))) or POCKET
    raise ConfigError(f"There is no model {name}: use a hub id (owner/name), a folder with a checkpoint, or {names}.")


def chosen_heads(text: str | None) -> str | list[str] | None:
    """What follows --heads, as `Grounder` takes it: names as a list, anything else as the path of a heads.json."""
    if text is not None and re.fullmatch(r"L\d+H\d+(,L\d+H\d+)*", text):
        return text.split(",")
    return text
