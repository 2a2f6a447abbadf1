"""From a model's name or configuration to a loaded LVLM with its adapter; everything that can be checked is, first."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import AutoModelForImageTextToText, PreTrainedModel

from locheads import dotted
from locheads.errors import ConfigError, ModelError, boundary
from locheads.models import capture
from locheads.models.adapters import (
    FamilyAdapter,
    ProbedAdapter,
    adapter_class,
    check_not_refused,
    default_preprocess,
)
from locheads.models.config import PROBE, ModelConfig
from locheads.models.engine import EngineConfig
from locheads.models.folder_checks import WEIGHTS, refuse
from locheads.models.folder_format import FORMAT
from locheads.models.identity import PARTS, POCKET, POCKET_FOLDERS, ModelIdentity, folder_digest, source_of
from locheads.models.placement import keep_freed_memory, placement
from locheads.models.processors import (
    image_choice,
    load_processor,
    read,
    read_configuration,
    read_image_processor,
)

log = logging.getLogger(__name__)

CONF = Path(__file__).parents[1] / "conf" / "model"
"""The files of `model=NAME`."""

INFORMED: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Weights that do not fit the model are told with its loading, and refused then."""


@dataclass(frozen=True)
class Lvlm:
    """A loaded model, ready for the attention pass."""

    model: PreTrainedModel
    adapter: FamilyAdapter
    device: torch.device
    has_head: bool = field(default=True, kw_only=True)
    """Whether its weights hold those that turn its last layer into words; attention needs none."""


def model_config(name: str, conf: Path = CONF) -> ModelConfig:
    """The settings that `run.py model=NAME` has, for the name of a file in conf/model or the id in one of them.

    For another hub id or folder: those that conf/model gives to the checkpoint's family.

    Raises:
        ConfigError: it is none of them.
        ModelError: the checkpoint is not there, or of a family without an adapter.
    """
    known = {file.stem: file for file in sorted(conf.glob("*.yaml"))}
    if name in known:
        return _settings(known[name])
    for file in known.values():
        if (config := _settings(file)).id == name:
            return config
    if name in POCKET_FOLDERS:
        return ModelConfig(name=name, id=name)
    if "/" not in name and not Path(name).is_dir():
        names = ", ".join(known) or POCKET
        raise ConfigError(
            f"There is no model {name}: use a hub id (owner/name), a folder with a checkpoint, or {names}."
        )
    _, checkpoint = _checkpoint(ModelConfig(name=name, id=name))
    return ModelConfig(name=name, id=name, preprocess=default_preprocess(checkpoint))


def read_identity(config: ModelConfig, cache: Path | None = None) -> ModelIdentity:
    """Reads the checkpoint's configuration, and its weights only to hash them. See `identify`, which keeps it.

    Args:
        config: which checkpoint.
        cache: folder that remembers the hashes of files that have not changed; None: hash them all.

    Raises:
        ModelError: nothing there, not a checkpoint, or a family without an adapter.
        ConfigError: model.image_backend names a form that does not exist, or cannot run here.
    """
    source, checkpoint = _checkpoint(config)
    weights = getattr(checkpoint, "_commit_hash", None) or folder_digest(Path(source), cache)
    shape = _shape(source, checkpoint)
    return ModelIdentity(source, checkpoint.model_type, *shape, weights, *_image_processor(source, config, checkpoint))


def decoder_shape(config: ModelConfig) -> tuple[int, int]:
    """(layers, query heads per layer) of the text decoder, from the checkpoint's configuration. Raises ModelError."""
    return _shape(*_checkpoint(config))


def text_shape(config: ModelConfig) -> dict[str, int]:
    """Layers, hidden and intermediate size of the text decoder. Raises ModelError as `identify`."""
    text = _checkpoint(config)[1].get_text_config(decoder=True)
    return {"layers": text.num_hidden_layers, "hidden": text.hidden_size, "intermediate": text.intermediate_size}


def load_lvlm(config: ModelConfig, engine: EngineConfig, layers: int | None = None) -> Lvlm:
    """Loads weights, processor and adapter, and installs the capture.

    Args:
        config: which checkpoint.
        engine: where it goes and in how many bits.
        layers: how many decoder layers are needed; the weights of those beyond are not loaded. None: all.

    Raises:
        ModelError: as `identify`, or weights that are damaged or do not fill the model.
        ConfigError: a device or package that is not there, or a choice that makes no sense on the device.
    """
    source, checkpoint = _checkpoint(config)
    device, options = placement(config, engine)
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    if device.type == "cpu":
        keep_freed_memory()
    _shape(source, checkpoint)
    refuse(config, WEIGHTS)
    processor = load_processor(source, config, checkpoint)
    choice = image_choice(source, config, checkpoint)
    if choice is not None and (sentence := choice.warning(config.image_backend, config.id)):
        log.warning("%s", sentence)
    if layers is not None:
        keep_layers(checkpoint, layers)
    loader = AutoModelForImageTextToText.from_pretrained
    model, info = read(source, config, loader, config=checkpoint, **INFORMED, **options)
    has_head = _check_complete(source, info)
    adapter = adapted(config, engine, model, processor, source)
    # Quantized and spread weights are already where they belong, and refuse to be moved.
    placed = model.eval() if "device_map" in options else model.eval().to(device)
    lvlm = Lvlm(placed, adapter, placed.device, has_head=has_head)
    adapter.examine(lvlm)
    return lvlm


def _check_complete(source: str, info: dict[str, Any]) -> bool:
    """Whether the weights hold what makes words of the last layer. Raises ModelError where the rest is not filled."""
    if other := sorted(info["mismatched_keys"]):
        name, saved, wanted = other[0]
        raise ModelError(
            f"{source} has {len(other)} weights of another shape than its config.json asks for, such as {name} "
            f"({list(saved)}, not {list(wanted)}): one of them is of another model; download or save it again."
        )
    missing = sorted(info["missing_keys"])
    # The words' probabilities are asked for by no attention map: `check_makes_words` refuses a model without them.
    has_head = not any(map(_is_head, missing))
    if missing := [name for name in missing if not _is_head(name)]:
        raise ModelError(
            f"{source} lacks {len(missing)} weights of its model, such as {missing[0]}: the file is "
            "incomplete or belongs to another model; download or save it again."
        )
    return has_head


def _is_head(name: str) -> bool:
    return name.endswith("lm_head.weight")


def adapted(config: ModelConfig, engine: EngineConfig, model: Any, processor: Any, source: str) -> FamilyAdapter:
    """The adapter of a loaded model, in whose text decoder the capture is installed. Raises as `adapter_of`."""
    with boundary(f"The parts of {source} cannot be used together", ModelError, PARTS):
        family = adapter_of(config, model.config.model_type, source)
        adapter = family(processor, model.config, config.preprocess, config.tiles)
        capture.install(model, engine.attention.value)
    return adapter


def adapter_of(config: ModelConfig, model_type: str, source: str) -> Any:
    """The user's own adapter, the one that asks the model, or the family's: called as (processor, config, preprocess,
    tiles).

    Raises:
        ConfigError: model.adapter names no subclass of FamilyAdapter.
        ModelError: as `adapter_class`.
    """
    if config.adapter is None:
        return adapter_class(model_type, source)
    if config.adapter == PROBE:
        check_not_refused(model_type, source)
        return ProbedAdapter
    own = dotted.load(config.adapter, FamilyAdapter, "model.adapter")
    if not isinstance(own, type):
        raise ConfigError(f"model.adapter={config.adapter} is an object: name its class.")
    return own


def keep_layers(checkpoint: Any, layers: int) -> None:
    """Makes the configuration describe a model with only the first `layers` decoder layers.

    Before the model is built: several families ignore a later change. Their weights are then "unexpected", which
    is as it should be, while a weight that is missing among the rest is refused as ever.
    """
    text = checkpoint.get_text_config(decoder=True)
    if getattr(text, "hidden_size_per_layer_input", None) or getattr(text, "num_kv_shared_layers", None):
        return  # Gemma 3n and 4: embeddings are as wide as there are layers, late layers take the keys of earlier ones
    text.num_hidden_layers = min(layers, text.num_hidden_layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]


def _settings(file: Path) -> ModelConfig:
    merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(file))
    # What was converted lies below paths.outputs, which is this unless a command line says otherwise.
    whole = OmegaConf.create({"model": merged, "paths": {"outputs": "outputs"}})
    config = OmegaConf.to_object(whole.model)
    assert isinstance(config, ModelConfig)
    return config


def _checkpoint(config: ModelConfig) -> tuple[str, Any]:
    """-> (folder or hub id, its configuration), of a family that has an adapter."""
    source = source_of(config)
    if config.adapter is not None:
        adapter_of(config, "", source)  # its module may make a family of the user's own known to transformers
    refuse(config, FORMAT)
    checkpoint = read_configuration(source, config)
    adapter_of(config, checkpoint.model_type, source)
    return source, checkpoint


def _shape(source: str, checkpoint: Any) -> tuple[int, int]:
    with boundary(f"config.json of {source} describes no text decoder", ModelError, PARTS):
        text = checkpoint.get_text_config(decoder=True)
        shape = text.num_hidden_layers, text.num_attention_heads
        if not all(isinstance(number, int) and number > 0 for number in shape):
            raise ValueError(f"{shape[0]!r} layers of {shape[1]!r} heads")
    return shape


def _image_processor(source: str, config: ModelConfig, checkpoint: Any) -> tuple[str | None, str | None]:
    """-> (class and backend, the checkpoint's own backend); None for what is not known, or where none can be loaded:
    that is an error only for who needs it, see `load_lvlm`."""
    own: str | None = None
    try:
        choice = image_choice(source, config, checkpoint)
        own = None if choice is None else choice.own.value
        processor = read_image_processor(source, config, choice)
    except ModelError:
        return None, own
    return f"{type(processor).__name__} ({getattr(processor, 'backend', None) or 'own'})", own
