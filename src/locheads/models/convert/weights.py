"""Streams weights from the sources into sharded safetensors files: one source file is open at a time."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from locheads.errors import ModelError
from locheads.models.convert.rules import Part, Plan
from locheads.models.convert.source import opened
from locheads.store.atomic import replacing, write_json

SHARD_BYTES = 800_000_000
"""Of one result file. It bounds the memory besides the source file that is open: a buffer and its copy when written."""


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
        size = tensor.nbytes
        if self._waiting and self._bytes + size > self.limit:
            self.flush()
        self._waiting[name] = tensor
        self._bytes += size
        self.total += size

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
        count = len(self._written)
        places: dict[str, str] = {}
        for i, names in enumerate(self._written):
            final = f"model-{i + 1:05}-of-{count:05}.safetensors"
            self._path(i).rename(self.folder / final)
            places |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(places.items()))}
        write_json(self.folder / "model.safetensors.index.json", index)

    def _path(self, i: int) -> Path:
        return self.folder / f"part-{i + 1:05}.safetensors"


def stream(
    parts: Sequence[Part], plan: Plan, folder: Path, limit: int = SHARD_BYTES, done: Callable[[], None] = lambda: None
) -> int:
    """Makes every tensor that the plan names. -> their bytes.

    Args:
        parts, plan: what `account` has found complete.
        folder: where the files go.
        limit: bytes of one result file.
        done: called after each tensor of the sources.
    """
    shards = Shards(folder, limit)
    for part, steps in zip(parts, plan, strict=True):
        for path in part.weights.files:
            with opened(path) as tensors:
                for key in tensors:
                    step = steps[key]
                    if step.targets:
                        tensor = _with_base(part, key, tensors[key])
                        for target, result in zip(step.targets, step.made(tensor), strict=True):
                            shards.add(target, _own(result))
                    done()
                shards.flush()
    shards.finish()
    return shards.total


def _own(tensor: Tensor) -> Tensor:
    """Tensors of one file must not share memory, as the parts of a split or tied weights do."""
    return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.nbytes else tensor


def _with_base(part: Part, key: str, tensor: Tensor) -> Tensor:
    """For delta weights the sum with the base, which may have fewer rows: the vocabulary grew since."""
    if part.base is None:
        return tensor
    base = part.base.find(key)
    if base is None and ("mm_projector" in key or "vision_tower" in key):
        return tensor
    if base is None:
        raise ModelError(f"{part.base.folder} has no {key}, which the delta weights change: it is not their base.")
    grown = key.endswith(("embed_tokens.weight", "lm_head.weight")) and base.shape[0] <= tensor.shape[0]
    if base.shape[1:] != tensor.shape[1:] or not (grown or base.shape == tensor.shape):
        raise ModelError(
            f"{key} has the shape {list(tensor.shape)} in the delta weights and {list(base.shape)} in their base "
            f"{part.base.folder}: this is not the base that they were made from."
        )
    total = tensor.clone()
    total[: base.shape[0]] += base.to(total.dtype)
    return total


def count(plan: Plan) -> int:
    """Tensors of all sources."""
    return len(list(itertools.chain.from_iterable(plan)))
