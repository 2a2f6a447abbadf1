"""A model for use from Python: loaded by its name, or taken over as transformers loaded it."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.adapters import default_preprocess
from locheads.models.config import ModelConfig
from locheads.models.engine import EngineConfig
from locheads.models.identity import POCKET
from locheads.models.load import Lvlm, adapted, load_lvlm, model_config
from locheads.models.processors import complete


@dataclass(frozen=True)
class LoadedModel(Lvlm):
    """A model that is ready to be asked, with the settings that it is asked with."""

    config: ModelConfig

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, query heads per layer) of the text decoder."""
        text = self.model.config.get_text_config(decoder=True)
        return text.num_hidden_layers, text.num_attention_heads


def load_model(
    model: str | ModelConfig | PreTrainedModel = POCKET,
    processor: Any = None,
    *,
    preprocess: str | None = None,
    adapter: str | None = None,
    device: str = "auto",
) -> LoadedModel:
    """Loads a model, or takes one that is loaded.

    Args:
        model: the name of a file in conf/model, a hub id, a folder or "pocket"; a ModelConfig; or a transformers model
            that stays where it is. Its text decoder's attention function becomes one that can record.
        processor: of a transformers model; what it does not say is taken from the model's configuration.
        preprocess: of a transformers model, see `Preprocess`. None: as conf/model has it for the family.
        adapter: of a transformers model: "package.module:Class" where its family is your own, or "probe".
        device: auto, cpu, cuda or cuda:N, for a model that is loaded here.

    Raises:
        ModelError, ConfigError: one sentence on what is missing.
    """
    if isinstance(model, PreTrainedModel):
        return _taken(model, processor, preprocess, adapter)
    if processor is not None or preprocess is not None or adapter is not None:
        raise ConfigError("processor, preprocess and adapter belong to a transformers model: use a ModelConfig here.")
    config = settings_of(model)
    loaded = load_lvlm(config, EngineConfig(device=device))
    return LoadedModel(loaded.model, loaded.adapter, loaded.device, config, has_head=loaded.has_head)


def settings_of(model: str | os.PathLike[str] | ModelConfig) -> ModelConfig:
    """The settings with which a model is asked, see `model_config`. Raises ConfigError for what names none."""
    return model if isinstance(model, ModelConfig) else model_config(model_name(model))


def model_name(model: Any) -> str:
    """Raises ConfigError for what is neither a text nor a path."""
    if not isinstance(model, str | os.PathLike):
        raise ConfigError(f"model must be a name, a hub id or a folder, not {type(model).__name__}.")
    return os.fspath(model)


def _taken(model: PreTrainedModel, processor: Any, preprocess: str | None, adapter: str | None) -> LoadedModel:
    """A transformers model with the adapter of its family and the capture installed."""
    if processor is None:
        raise ConfigError("processor is missing: give the model's own, AutoProcessor.from_pretrained(...).")
    if model.training:
        raise ConfigError("The model is in training mode, in which its attention is random: call model.eval() first.")
    name = model.name_or_path or type(model).__name__
    how = Preprocess(preprocess) if preprocess else default_preprocess(model.config)
    config = ModelConfig(name=name, id=name, preprocess=how, adapter=adapter)
    prepared = adapted(config, EngineConfig(), model, complete(processor, model.config, name), name)
    loaded = LoadedModel(model, prepared, torch.device(model.device), config)
    prepared.examine(loaded)
    return loaded
