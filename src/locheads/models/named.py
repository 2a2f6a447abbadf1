"""Which settings a model has that is only named: those of conf/model, else its family's."""

from pathlib import Path

from omegaconf import OmegaConf

from locheads.errors import ConfigError
from locheads.models.adapters import default_preprocess
from locheads.models.config import ModelConfig
from locheads.models.load import POCKET, read_checkpoint

CONF = Path(__file__).parents[1] / "conf" / "model"
"""The files of `model=NAME`."""


def model_config(name: str, conf: Path = CONF) -> ModelConfig:
    """The settings that `run.py model=NAME` has, for the name of a file in conf/model or the id in one of them.

    For another hub id or folder: those that conf/model gives to the checkpoint's family.

    Raises:
        ConfigError: it is none of them.
        ModelError: the checkpoint is not there, or of a family without an adapter.
    """
    known = {file.stem: file for file in sorted(conf.glob("*.yaml"))}
    if name in known:
        return _read(known[name])
    for file in known.values():
        if (config := _read(file)).id == name:
            return config
    if name == POCKET:
        return ModelConfig()
    if "/" not in name and not Path(name).is_dir():
        names = ", ".join(known) or POCKET
        raise ConfigError(
            f"There is no model {name}: use a hub id (owner/name), a folder with a checkpoint, or {names}."
        )
    config = ModelConfig(name=name, id=name)
    return ModelConfig(name=name, id=name, preprocess=default_preprocess(read_checkpoint(config)))


def _read(file: Path) -> ModelConfig:
    merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(file))
    # What was converted lies below paths.outputs, which is this unless a command line says otherwise.
    whole = OmegaConf.create({"model": merged, "paths": {"outputs": "outputs"}})
    config = OmegaConf.to_object(whole.model)
    assert isinstance(config, ModelConfig)
    return config
