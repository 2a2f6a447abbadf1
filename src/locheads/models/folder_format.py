"""Whether a folder holds a checkpoint that can be used at all: files, format, family, precision."""

import importlib.util
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from locheads.errors import ModelError
from locheads.models.adapters import FAMILIES, ON_THE_HUB, adapter_class
from locheads.models.convert.checkpoint import settings_if_any
from locheads.models.convert.conversion import FORMATS
from locheads.models.folder import Check, Folder, NotApplicable

POINTER = b"version https://git-lfs"
"""How the text begins that git leaves where git-lfs has not brought the file."""
PACKERS = {"gptq": "gptqmodel", "awq": "gptqmodel", "fp8": "accelerate", "compressed-tensors": "compressed_tensors",
           "bitsandbytes": "bitsandbytes", "gguf": "gguf"}  # fmt: skip
"""Ways of quantising weights -> the package that reads them."""


def _whole_files(folder: Folder) -> str:
    """No file is a stand-in for one that git-lfs has not brought."""
    files = [file for file in sorted(folder.path.iterdir()) if file.is_file()]
    pointers = [file.name for file in files if _begins(file) == POINTER]
    if pointers:
        raise ModelError(
            f"{folder.path} has {len(pointers)} git-lfs pointers in place of files, such as {pointers[0]}: run git lfs "
            "install and git lfs pull in it, or download it with stage=fetch."
        )
    return f"{len(files)} files"


def _begins(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(POINTER))


def _transformers_form(folder: Folder) -> str:
    """It is a whole model in transformers' form, and no adapter lies beside it."""
    if "adapter_config.json" in folder.names:
        raise ModelError(_adapter(folder))
    if "config.json" not in folder.names:
        raise ModelError(_no_settings(folder))
    settings, kind = folder.settings, folder.settings.get("model_type")
    if any(form.fits(settings) for form in FORMATS.values()):
        delta = " --base LANGUAGE_MODEL" if folder.is_named_delta else ""
        raise ModelError(
            f"{folder.path} is in its authors' original format: convert it with python -m locheads.models.convert "
            f"{folder.path} NEW{delta}, and use model.id=NEW."
        )
    if "mm_vision_tower" in settings or "mm_projector_type" in settings:
        raise ModelError(
            f"{folder.path} is in a form of LLaVA's original format that is not converted ({_classes(settings)}): use "
            "its transformers form, often a repository whose name ends in -hf."
        )
    if not isinstance(kind, str):
        raise ModelError(f"config.json of {folder.path} names no model_type: it is no transformers checkpoint's.")
    return f"transformers, {kind} ({_classes(settings)})"


def _classes(settings: dict[str, Any]) -> str:
    return ", ".join(map(str, settings.get("architectures") or ["no architecture named"]))


def _adapter(folder: Folder) -> str:
    """The sentence for an adapter alone, or beside a model."""
    settings = settings_if_any(folder.path / "adapter_config.json")
    base, kind = settings.get("base_model_name_or_path") or "a base that it does not name", settings.get("peft_type")
    merge = (
        f"in peft, PeftModel.from_pretrained(base, '{folder.path}').merge_and_unload().save_pretrained(NEW) makes one "
        "model of both; save the base's processor there, too, and use model.id=NEW"
    )
    whole = any(name.startswith(("model.safetensors", "model-0", "pytorch_model")) for name in folder.names)
    if whole:
        return (
            f"{folder.path} holds a {kind} adapter (adapter_config.json) beside a whole model, and it is not said "
            f"which is meant: {merge}; or take adapter_config.json away to use the model without it."
        )
    return f"{folder.path} holds a {kind} adapter alone, whose base is {base}: {merge}."


def _no_settings(folder: Folder) -> str:
    """The sentence for a folder without config.json."""
    found = (file for pattern in ("*/config.json", "*/*/config.json") for file in folder.path.glob(pattern))
    inside = sorted(file.parent for file in found)
    if inside:
        return f"{folder.path} is no checkpoint, but holds some: use model.id={inside[0]}."
    hint = "name a folder with a transformers checkpoint, or download it again."
    return f"{folder.path} has no config.json{folder.foreign or f': {hint}'}"


def _family(folder: Folder) -> str:
    """Its family can be used."""
    settings, kind = folder.settings, folder.settings["model_type"]
    if folder.config.adapter is not None:
        return NotApplicable(f"{kind}, by the adapter {folder.config.adapter}")
    unknown = kind not in {*FAMILIES, *CONFIG_MAPPING_NAMES, *ON_THE_HUB}
    if unknown and "auto_map" in settings and not folder.config.trust_remote_code:
        raise ModelError(
            f"{folder.path} is a {kind!r} model, whose code lies beside its weights and is not run: use its form for "
            "transformers, often named -hf; or, where you have read and trust that code, set "
            "model.trust_remote_code=true and model.adapter to an adapter of your own."
        )
    kind = str(kind) if unknown or kind in ON_THE_HUB else folder.model.model_type
    adapter_class(kind, str(folder.path))
    return kind


def _precision(folder: Folder) -> str:
    """Its weights are whole numbers of bits, or the package that unpacks them is there."""
    settings = folder.settings
    if "quantization" in settings:  # MLX's name for it
        raise ModelError(
            f"{folder.path} is quantised for MLX: use the transformers checkpoint that it was made from, and "
            "engine.quantization=4bit where memory is short."
        )
    packed = settings.get("quantization_config")
    if not isinstance(packed, dict):
        return "weights are not quantised"
    method = str(packed.get("quant_method", "an unnamed way"))
    package = PACKERS.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModelError(
            f"{folder.path} is quantised ({method}), which needs the package {package}: use the checkpoint that it "
            "was made from, with engine.quantization=4bit where memory is short."
        )
    return f"quantised ({method}): attention rows are not those of the original"


FORMAT: dict[str, Check] = {
    "files": _whole_files,
    "format": _transformers_form,
    "family": _family,
    "precision": _precision,
}
"""Whether it is a checkpoint that can be used at all: asked before anything else is."""
