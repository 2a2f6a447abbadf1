"""Where the weights go and in how many bits: checked before anything loads."""

import ctypes
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any, assert_never

from locheads.errors import ConfigError
from locheads.models.config import DType, ModelConfig
from locheads.models.engine import EngineConfig, Quantization, RestAttention
from locheads.settings import require

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_BITS = {Quantization["8bit"]: "load_in_8bit", Quantization["4bit"]: "load_in_4bit"}
FLASH = ", built for this torch and GPU: .venv/bin/python -m pip install --no-build-isolation flash-attn"


def pick_device(name: str) -> "torch.device":
    """ "auto" is CUDA where there is one. Raises ConfigError for a device that torch does not know or have."""
    import torch  # only here: a run that loads no model answers sooner without

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"engine.device={name} is no device: use auto, cpu, cuda or cuda:N.") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    beyond = f"is beyond the {count} CUDA devices that torch sees: count from 0."
    cpu, cuda = device.type == "cpu", device.type == "cuda"
    require(
        (cpu or cuda, f"engine.device={name} is not supported: use auto, cpu, cuda or cuda:N."),
        (cpu or count > 0, f"engine.device={name} was asked for, but torch sees no CUDA device: use cpu or auto."),
        (cpu or (device.index or 0) < count, f"engine.device={name} {beyond}"),
    )
    return device


def check_unloaded(config: ModelConfig, engine: EngineConfig) -> None:
    """As `check_placement`, and without torch where the settings suit every machine."""
    flash, packed = engine.attention != RestAttention.sdpa, engine.quantization != Quantization.none
    anywhere = engine.device in ("auto", "cpu") and engine.device_map is None and config.dtype != DType.float16
    if not anywhere or flash or packed:
        check_placement(config, engine)


def check_placement(config: ModelConfig, engine: EngineConfig) -> "torch.device":
    """The device, once everything about it is known to work together. Raises ConfigError as `placement`."""
    device = pick_device(engine.device)
    cuda = device.type == "cuda"
    float16 = "model.dtype=float16 is neither exact nor quick on a CPU: use float32 or bfloat16."
    require((cuda or config.dtype != DType.float16, float16))
    match engine.attention:
        case RestAttention.sdpa:
            pass
        case RestAttention.flash:
            name = f"engine.attention={RestAttention.flash.name}"
            _need("flash_attn", name, FLASH)
            needs = f"{name} needs a GPU and model.dtype=bfloat16 or float16: use engine.attention=sdpa."
            require((cuda and config.dtype != DType.float32, needs))
        case _:
            assert_never(engine.attention)
    if engine.device_map is not None:
        _need("accelerate", f"engine.device_map={engine.device_map}")
    if engine.quantization != Quantization.none:
        name = f"engine.quantization={engine.quantization.value}"
        require((cuda, f"{name} needs a CUDA device, not {device}: use engine.quantization=none."))
        _need("bitsandbytes", name)
        _need("accelerate", name)
    return device


def placement(config: ModelConfig, engine: EngineConfig) -> tuple["torch.device", dict[str, Any]]:
    """-> (the device, options of `from_pretrained`). Warns of choices that make rows inexact.

    Raises:
        ConfigError: a device or package that is not there, or a choice that makes no sense on the device.
    """
    import torch
    from transformers import BitsAndBytesConfig

    device = check_placement(config, engine)
    dtype = getattr(torch, config.dtype.value)
    options: dict[str, Any] = {"dtype": dtype}
    if engine.device_map is not None:
        options["device_map"] = engine.device_map
    if config.dtype != DType.float32:
        log.warning(
            "model.dtype=%s: attention rows differ from float32 by its rounding, and a little between batches of "
            "different shape (engine.token_budget).", config.dtype.value,
        )  # fmt: skip
    if engine.quantization != Quantization.none:
        log.warning(
            "engine.quantization=%s: the weights are approximations, so attention rows are not those of the model.",
            engine.quantization.value,
        )
        packed = BitsAndBytesConfig(**{_BITS[engine.quantization]: True}, bnb_4bit_compute_dtype=dtype)
        options = {"device_map": {"": device}, **options, "quantization_config": packed}
    return device, options


def keep_freed_memory() -> None:
    """Lets glibc keep what a layer frees for the next one, instead of giving it back to the system each time.

    On a CPU, a forward pass otherwise spends a fifth of its time on fresh pages. At most 64 MiB stay with the process
    that it would have given back. Without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h; 32 MiB is its largest threshold. Left alone, it gets there in steps, or never."""


def _need(package: str, setting: str, how: str = ": run make install EXTRAS=gpu") -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{setting} needs the package {package}{how}.")
