"""From a model's configuration to a loaded LVLM with its adapter; everything that can be checked is, first."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import logging as transformers_log

from locheads.config import DType, EngineConfig, ModelConfig
from locheads.errors import ConfigError, ModelError
from locheads.models import capture
from locheads.models.adapters import Adapter, adapter_class
from locheads.store.digest import files_digest

POCKET = "pocket"


@dataclass(frozen=True)
class ModelIdentity:
    """What is known of a checkpoint without loading its weights."""

    source: str
    """Folder or hub id, as `from_pretrained` takes it."""
    model_type: str
    layers: int
    heads: int
    """Query heads per layer of the text decoder."""
    weights: str
    """sha256 over the weight files of a folder, or the commit of a hub snapshot."""


@dataclass(frozen=True)
class Lvlm:
    """A loaded model, ready for the attention pass."""

    model: PreTrainedModel
    adapter: Adapter
    device: torch.device


def identify(config: ModelConfig) -> ModelIdentity:
    """Reads the checkpoint's configuration, and its weights only to hash them.

    Raises:
        ModelError: nothing there, not a checkpoint, or a family without an adapter.
    """
    source, checkpoint = _checkpoint(config)
    text = checkpoint.get_text_config(decoder=True)
    weights = getattr(checkpoint, "_commit_hash", None) or _folder_digest(Path(source))
    return ModelIdentity(source, checkpoint.model_type, text.num_hidden_layers, text.num_attention_heads, weights)


def load_lvlm(config: ModelConfig, engine: EngineConfig) -> Lvlm:
    """Loads weights, processor and adapter, and installs the capture.

    Raises:
        ModelError: as `identify`, or weights that are damaged or do not fill the model.
        ConfigError: a device that is not there.
    """
    source, checkpoint = _checkpoint(config)
    device = pick_device(engine.device)
    if device.type == "cpu" and config.dtype is DType.float16:
        raise ConfigError("model.dtype=float16 is neither exact nor quick on a CPU: use float32 or bfloat16.")
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    model, info = _read(
        source,
        lambda: AutoModelForImageTextToText.from_pretrained(
            source, dtype=getattr(torch, config.dtype.value), output_loading_info=True, **_options(config)
        ),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} weights of its model, such as {missing[0]}: the file is "
            "incomplete or belongs to another model; download or save it again."
        )
    processor = _read(source, lambda: AutoProcessor.from_pretrained(source, **_options(config)))
    capture.install(model)
    adapter = adapter_class(checkpoint.model_type, source)(processor, model.config, config.preprocess)
    return Lvlm(model.eval().to(device), adapter, device)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises ConfigError for a device that torch does not know or have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"engine.device={name} is no device: use auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"engine.device={name} is not supported: use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"engine.device={name} was asked for, but torch sees no CUDA device: use cpu or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"engine.device={name} is beyond the {count} CUDA devices that torch sees: count from 0.")
    return device


def _checkpoint(config: ModelConfig) -> tuple[str, Any]:
    """-> (folder or hub id, its configuration), of a family that has an adapter."""
    source = str(resources.files("locheads.pocket") / "weights") if config.id == POCKET else config.id
    if _looks_like_a_folder(source) and not Path(source).is_dir():
        raise ModelError(f"There is no folder {source}: model.id must be 'pocket', a checkpoint's folder, or a hub id.")
    checkpoint = _read(source, lambda: AutoConfig.from_pretrained(source, **_options(config)))
    adapter_class(checkpoint.model_type, source)
    return source, checkpoint


def _looks_like_a_folder(source: str) -> bool:
    """A hub id is OWNER/NAME at most."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1


def _options(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def _read(source: str, action: Any) -> Any:
    """Runs a from_pretrained; its many kinds of failure become one sentence."""
    level, bar = transformers_log.get_verbosity(), transformers_log.is_progress_bar_enabled()
    try:
        # Its image processors announce that they do without torchvision: expected, and of no consequence.
        transformers_log.set_verbosity_error()
        if Path(source).is_dir():  # nothing to download, and copying weights in memory needs no bar
            transformers_log.disable_progress_bar()
        return action()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"Cannot load the model {source} ({reason}): model.id must be 'pocket', a folder with a transformers "
            "checkpoint, or a hub id that is downloaded or can be reached."
        ) from error
    finally:
        transformers_log.set_verbosity(level)
        if bar:
            transformers_log.enable_progress_bar()


def _folder_digest(folder: Path) -> str:
    kinds = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja")
    return files_digest(sorted(path for path in folder.iterdir() if path.suffix in kinds))
