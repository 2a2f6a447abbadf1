"""Weight files in a folder: an original's are opened one at a time, the result's are written in shards."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.modeling_utils import load_state_dict

from locheads.errors import ModelError, boundary
from locheads.store.atomic import replacing, write_json

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PATTERNS = ("model.safetensors", "*.safetensors", "pytorch_model*.bin", "open_clip_pytorch_model.bin")
"""Of the weight files of a folder without an index; the first that finds any counts."""


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError where there is none."""
    hint = f"is {path.parent} a checkpoint's folder? If so, download the file again."
    with boundary(f"{path} cannot be read", ModelError, hint):
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not settings")
    return content


def settings_if_any(path: Path) -> dict[str, Any]:
    """As `read_settings`, empty where there is no such file."""
    return read_settings(path) if path.exists() else {}


class Checkpoint:
    """The weights in a folder, in one file or many, safetensors or .bin."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError where the folder holds no weights, or lacks files that its index names."""
        self.folder = folder
        index = next((folder / name for name in INDEXES if (folder / name).exists()), None)
        self._indexed: dict[str, str] = {} if index is None else _weight_map(index)
        names = sorted(set(self._indexed.values())) or _found(folder)
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise ModelError(
                f"{folder} lacks {len(absent)} of the {len(names)} weight files that its index names, such as "
                f"{absent[0]}: download the rest."
            )
        self.files: tuple[Path, ...] = tuple(folder / name for name in names)
        """In the order in which they are read."""

    def outlines(self) -> Iterator[tuple[str, Tensor]]:
        """Every key with a tensor of its shape and type on the meta device: no weight is read.

        Raises:
            ModelError: a damaged file, or one that lacks a key which the index promises.
        """
        for path in self.files:
            tensors = tensors_of(path, "meta")
            promised = {key for key, name in self._indexed.items() if name == path.name}
            if absent := sorted(promised - set(tensors)):
                raise ModelError(
                    f"{path} lacks {len(absent)} tensors that the index promises, such as {absent[0]}: it is "
                    "incomplete or belongs to another checkpoint; download it again."
                )
            yield from tensors.items()

    def find(self, key: str) -> Tensor | None:
        """A copy of one tensor, from whichever file holds it; None where none does."""
        files = [self.folder / self._indexed[key]] if key in self._indexed else self.files
        found = (tensors[key].clone() for tensors in map(tensors_of, files) if key in tensors)
        return next(found, None)


def tensors_of(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of one weight file, mapped into memory; no code in it runs. Raises ModelError for a damaged one.

    `device`: "meta" for their shapes and types alone.
    """
    with boundary(f"{path} is damaged or incomplete", ModelError, "download it again."):
        content = load_state_dict(path, device)
        if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
            raise ValueError("it holds something else than named tensors")
    return content


def _weight_map(index: Path) -> dict[str, str]:
    found = read_settings(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{index} is damaged: it has no weight_map. Download it again.")
    for name in found.values():
        if Path(name).name != name:
            raise ModelError(f"{index} names a file outside of its folder, {name}: it cannot be trusted.")
    return found


def _found(folder: Path) -> list[str]:
    for pattern in PATTERNS:
        if names := sorted(path.name for path in folder.glob(pattern)):
            return names
    raise ModelError(f"{folder} holds no weights (*.safetensors or pytorch_model*.bin): download them.")


def write_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]], limit: int) -> int:
    """Writes tensors to numbered files with an index, at most `limit` bytes waiting in memory. -> their bytes."""
    places: dict[str, int] = {}
    total = 0
    for i, batch in enumerate(_batches(tensors, limit), start=1):
        with replacing(folder / f"part-{i}") as temporary:
            save_file(batch, temporary, metadata={"format": "pt"})
        places |= dict.fromkeys(batch, i)
        total += sum(tensor.nbytes for tensor in batch.values())
    count = max(places.values())
    final = {i: f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)}
    for i, name in final.items():
        (folder / f"part-{i}").rename(folder / name)
    weight_map = {name: final[i] for name, i in sorted(places.items())}
    write_json(folder / INDEXES[0], {"metadata": {"total_size": total}, "weight_map": weight_map})
    return total


def _batches(tensors: Iterable[tuple[str, Tensor]], limit: int) -> Iterator[dict[str, Tensor]]:
    batch: dict[str, Tensor] = {}
    waiting = 0
    for name, tensor in tensors:
        if batch and waiting + tensor.nbytes > limit:
            yield batch
            batch, waiting = {}, 0
        # Tensors of one file must not share memory, as the parts of a split or tied weights do, nor be strided views.
        shared = tensor.untyped_storage().nbytes() != tensor.nbytes
        batch[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        waiting += tensor.nbytes
    yield batch
