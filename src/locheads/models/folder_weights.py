"""Whether the weights of a folder are whole and a model's own: their files, names, embeddings, size."""

import os
import re
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.models.config import DType
from locheads.models.convert.checkpoint import INDEXES
from locheads.models.convert.from_llava import DELTA_NORM
from locheads.models.folder import Check, Folder, NotApplicable, apart

BYTES = {DType.float32: 4, DType.bfloat16: 2, DType.float16: 2}
SINGLE = ("model.safetensors", "pytorch_model.bin")
"""Files that need none of the INDEXES."""
PACKED = (".qweight", ".qzeros", ".SCB", ".absmax", ".weight_scale", ".weight_scale_inv", ".weight_packed", ".scales")
"""Ends of tensors' names that only quantised weights have."""
WRAPPED = {
    "base_model.model.": "peft leaves before them: save what its merge_and_unload() returns",
    "module.": "DistributedDataParallel leaves before them: save its .module",
    "_orig_mod.": "torch.compile leaves before them: save its ._orig_mod",
    "_forward_module.": "a trainer leaves before them: save the model itself",
}
"""Beginnings of tensors' names that a wrapper of the model has left -> what to do."""


def _weight_files(folder: Folder) -> str:
    """The weight files are there, whole, and hold what their index says."""
    try:
        files = folder.weights.files
    except ModelError as error:
        if folder.downloaded:
            return NotApplicable("not all weights are downloaded yet: run stage=fetch first")
        if foreign := folder.foreign:
            raise ModelError(f"{folder.path} has no weights for transformers{foreign}") from error
        raise error
    if files[0].suffix == ".safetensors" and _written_by(files[0]) == "mlx":
        raise ModelError(
            f"{folder.path} holds weights of MLX, whose tensors have other shapes: use the transformers checkpoint "
            "that they were made from."
        )
    indexed = any(name in folder.names for name in INDEXES)
    if not indexed and not {*SINGLE} & {file.name for file in files}:
        raise ModelError(
            f"{folder.path} has weights ({files[0].name}) and no index that says what is where: download "
            f"{INDEXES[files[0].suffix == '.bin']}, too, or name a single file {SINGLE[files[0].suffix == '.bin']}."
        )
    return f"{len(files)} files of {len(folder.tensors)} tensors"


def _written_by(file: Path) -> str | None:
    broken = boundary(f"{file} is damaged or incomplete", ModelError, "download it again.")
    with broken, safe_open(file, framework="pt") as opened:
        return (opened.metadata() or {}).get("format")


def _tensor_names(folder: Folder) -> str:
    """The tensors are named as the model's are, and there are those of every decoder layer."""
    if not folder.has_tensors:
        return NotApplicable("no weights to look into")
    names = folder.tensors.keys()
    for start, why in WRAPPED.items():
        if sum(name.startswith(start) for name in names) > len(names) / 2:
            raise ModelError(f"The tensors of {folder.path} are named {start}..., which {why}.")
    if lora := next((name for name in names if "lora_A" in name), None):
        raise ModelError(f"{folder.path} holds layers of LoRA, such as {lora}: save what merge_and_unload() returns.")
    llava = str(folder.settings.get("model_type")).startswith("llava")  # Kimi has a projector of the same name
    if llava and any(name.startswith(("model.mm_projector.", "model.vision_tower.vision_tower.")) for name in names):
        raise ModelError(
            f"The tensors of {folder.path} are named as in LLaVA's original format, and config.json is not of it: "
            "take the original's config.json and convert it, python -m locheads.models.convert."
        )
    packed = next((name for name, tensor in folder.tensors.items() if _is_packed(name, tensor)), None)
    if packed and "quantization_config" not in folder.settings:
        raise ModelError(
            f"{folder.path} holds quantised weights, such as {packed}, and config.json does not say how: use the "
            "checkpoint that it was made from."
        )
    return _layers(folder)


def _is_packed(name: str, tensor: Tensor) -> bool:
    return name.endswith(PACKED) or (name.endswith("weight") and tensor.dtype.itemsize == 1)


def _layers(folder: Folder) -> str:
    found = {int(part) for name in folder.tensors if not apart(name) for part in re.findall(r"layers\.(\d+)\.", name)}
    needed = folder.text.num_hidden_layers
    absent = sorted(set(range(needed)) - found)
    if found and absent:
        raise ModelError(
            f"{folder.path} lacks the weights of {len(absent)} of its {needed} decoder layers, such as layer "
            f"{absent[0]}: the file is incomplete or belongs to another model; download or save it again."
        )
    return f"{needed} decoder layers"


def _vocabulary(folder: Folder) -> str:
    """The embeddings are as many as config.json says, and the image's token is one of them."""
    rows = folder.embeddings
    if rows is None:
        return NotApplicable("no embeddings to look into")
    said, image = getattr(folder.text, "vocab_size", rows), getattr(folder.model, "image_token_id", None)
    if rows != said:
        raise ModelError(
            f"The weights of {folder.path} hold {rows} token embeddings, and config.json says vocab_size {said}: one "
            "of them is another model's, or was saved before tokens were added; save the whole model again."
        )
    if isinstance(image, int) and image >= rows:
        raise ModelError(
            f"The image's token of {folder.path} has the id {image}, and there are {rows} token embeddings: "
            "config.json belongs to another model; download or save the checkpoint again."
        )
    return f"{rows} token embeddings"


def _no_difference(folder: Folder) -> str:
    """The weights are a model's, not what is to be added to a base."""
    if folder.is_named_delta:
        raise ModelError(_delta(folder))
    name = next((name for name in folder.tensors if _is_last_norm(name)), None) if folder.has_tensors else None
    # Gemma's norms are stored as the difference to 1.
    if name is None or "gemma" in folder.text.model_type or not folder.tensors[name].is_floating_point():
        return NotApplicable("no norm by which it shows")
    norm = folder.weights.find(name)
    if norm is not None and norm.float().abs().mean() < DELTA_NORM:
        raise ModelError(_delta(folder))
    return "the last norm is a model's own"


def _is_last_norm(name: str) -> bool:
    return name.endswith("model.norm.weight") and not apart(name)


def _delta(folder: Folder) -> str:
    return (
        f"{folder.path} holds delta weights, the difference to a base model: add the base's weights to them as their "
        "page says, and use model.id= the folder of the sum."
    )


def memory(folder: Folder) -> str:
    """Gigabytes by type of number; the machine's own memory must hold those of the chosen one."""
    if not folder.has_tensors:
        return NotApplicable("no weights to look into")
    numbers = sum(tensor.numel() for tensor in folder.tensors.values())
    disk = sum(file.stat().st_size for file in folder.weights.files) / 1e9
    needs = ", ".join(f"{dtype.value} {numbers * size / 1e9:.1f} GB" for dtype, size in BYTES.items())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if numbers * BYTES[folder.config.dtype] / 1e9 > there and not torch.cuda.is_available():
        raise ModelError(
            f"The weights of {folder.path} need more memory than the {there:.1f} GB of this machine ({needs}): choose "
            "model.dtype=bfloat16, or a machine with a GPU."
        )
    return f"{disk:.1f} GB on disk; in memory {needs}, of {there:.1f} GB"


WEIGHT_FILES: dict[str, Check] = {
    "weight files": _weight_files,
    "tensor names": _tensor_names,
    "vocabulary": _vocabulary,
    "delta weights": _no_difference,
}
