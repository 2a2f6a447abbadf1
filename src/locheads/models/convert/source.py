"""Weight files of an original checkpoint, opened one at a time."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.text import reason

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PATTERNS = ("*.safetensors", "pytorch_model*.bin", "open_clip_pytorch_model.bin")
"""Of the weight files of a folder without an index; the first that finds any counts."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError where there is none."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror or error}): is {path.parent} a checkpoint's folder?"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: it holds no JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it holds a {type(content).__name__}, not settings. Download it again.")
    return content


class Checkpoint:
    """The weights in a folder, in one file or many, safetensors or .bin."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError where the folder holds no weights, or lacks files that its index names."""
        self.folder = folder
        self._indexed: dict[str, str] = {}
        for name in INDEXES:
            if (folder / name).exists():
                self._indexed = _weight_map(folder / name)
                break
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
            with opened(path) as tensors:
                promised = {key for key, name in self._indexed.items() if name == path.name}
                if absent := sorted(promised - set(tensors)):
                    raise ModelError(
                        f"{path} lacks {len(absent)} tensors that the index promises, such as {absent[0]}: it is "
                        "incomplete or belongs to another checkpoint; download it again."
                    )
                yield from ((key, tensor.to("meta")) for key, tensor in tensors.items())

    def find(self, key: str) -> Tensor | None:
        """A copy of one tensor, from whichever file holds it; None where none does."""
        files = [self.folder / self._indexed[key]] if key in self._indexed else self.files
        for path in files:
            with opened(path) as tensors:
                if key in tensors:
                    return tensors[key].clone()
        return None


class _Lazy(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each mapped into memory when it is asked for."""

    def __init__(self, file: Any) -> None:
        self._file, self._keys = file, sorted(file.keys())

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        return self._file.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@contextmanager
def opened(path: Path) -> Iterator[Mapping[str, Tensor]]:
    """The tensors of one weight file, mapped into memory. Raises ModelError for a damaged one."""
    if path.suffix != ".safetensors":
        with boundary(f"{path} is damaged or incomplete", ModelError, "download it again."):
            content = _unpickled(path)
        yield content
        return
    try:
        with safe_open(path, framework="pt") as file:
            yield _Lazy(file)
    # Not a boundary: what the caller does meanwhile is its own.
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or incomplete ({reason(error)}): download it again.") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    """Only tensors and plain containers are let in: no code of the file runs."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
        content = torch.load(path, map_location="cpu", weights_only=True)  # PyTorch before 1.6 wrote no archive
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise RuntimeError("it holds something else than named tensors")
    return content


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{index} is damaged: it has no weight_map. Download it again.")
    outside = [name for name in found.values() if Path(name).name != name]
    if outside:
        raise ModelError(f"{index} names a file outside of its folder, {outside[0]}: it cannot be trusted.")
    return found


def _found(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}.")
    for pattern in PATTERNS:
        if names := sorted(path.name for path in folder.glob(pattern)):
            return names
    raise ModelError(f"{folder} holds no weights (*.safetensors or pytorch_model*.bin): download them.")
