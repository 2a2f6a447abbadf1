"""Weight files in a folder: an original's are opened one at a time, the result's are written in shards."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.store.atomic import replacing, write_json
from locheads.text import reason

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PATTERNS = ("*.safetensors", "pytorch_model*.bin", "open_clip_pytorch_model.bin")
"""Of the weight files of a folder without an index; the first that finds any counts."""


def read_settings(path: Path) -> dict[str, Any]:
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
            yield {key: file.get_tensor(key) for key in sorted(file.keys())}  # views of the mapped file
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
    found = read_settings(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{index} is damaged: it has no weight_map. Download it again.")
    outside = [name for name in found.values() if Path(name).name != name]
    if outside:
        raise ModelError(f"{index} names a file outside of its folder, {outside[0]}: it cannot be trusted.")
    return found


def _found(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}: give the folder of the checkpoint.")
    for pattern in PATTERNS:
        if names := sorted(path.name for path in folder.glob(pattern)):
            return names
    raise ModelError(f"{folder} holds no weights (*.safetensors or pytorch_model*.bin): download them.")


class Shards:
    """Writes tensors to numbered files of a folder, never more than `limit` bytes waiting in memory."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._waiting: dict[str, Tensor] = {}
        self._bytes = 0
        self._written: list[list[str]] = []
        self.total = 0
        """Bytes of all tensors so far."""

    def add(self, name: str, tensor: Tensor) -> None:
        """Keeps the tensor until its file is full."""
        if self._waiting and self._bytes + tensor.nbytes > self.limit:
            self.flush()
        # Tensors of one file must not share memory, as the parts of a split or tied weights do.
        shared = tensor.untyped_storage().nbytes() != tensor.nbytes
        self._waiting[name] = tensor.clone() if shared else tensor
        self._bytes += tensor.nbytes
        self.total += tensor.nbytes

    def flush(self) -> None:
        """Writes what waits. Before a source file is closed: the tensors may lie in it."""
        if not self._waiting:
            return
        # Views into a larger tensor would be refused.
        whole = {name: tensor.contiguous() for name, tensor in self._waiting.items()}
        with replacing(self._path(len(self._written))) as temporary:
            save_file(whole, temporary, metadata={"format": "pt"})
        self._written.append(list(whole))
        self._waiting, self._bytes = {}, 0

    def finish(self) -> None:
        """Gives the files their final names and writes the index."""
        self.flush()
        places: dict[str, str] = {}
        for i, names in enumerate(self._written):
            final = f"model-{i + 1:05}-of-{len(self._written):05}.safetensors"
            self._path(i).rename(self.folder / final)
            places |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(places.items()))}
        write_json(self.folder / INDEXES[0], index)

    def _path(self, i: int) -> Path:
        return self.folder / f"part-{i + 1:05}.safetensors"
