"""A checkpoint's folder: its files, read when they are asked for, and what else holds of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import AutoTokenizer

from locheads import dotted
from locheads.errors import ModelError, boundary
from locheads.models.config import ModelConfig
from locheads.models.convert.checkpoint import Checkpoint, settings_if_any
from locheads.models.identity import PARTS, source_of
from locheads.models.processors import load_processor, read, read_configuration, readable

APART = ("vision", "visual", "image", "audio", "talker")
"""One of these stands in the name of every tensor of a tower, or of what speaks: of all that is no text decoder."""
FOREIGN = {
    ".gguf": "quantised for llama.cpp: use the transformers checkpoint that it was made from.",
    ".npz": "weights of MLX: use the transformers checkpoint that they were made from.",
    ".pth": "weights in their authors' own format: use the transformers form, often named -hf.",
    "params.json": "settings in their authors' own format: use the transformers form, often named -hf.",
    ".ckpt": "a trainer's checkpoint: save the model with save_pretrained.",
    ".distcp": "a part of a distributed run's checkpoint: save the whole model with save_pretrained.",
}
"""Ends of files that take the place of transformers' -> what they are, and what to do."""


class NotApplicable(str):
    """What a check says that has nothing to look at."""


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder, its files read when they are asked for."""

    path: Path
    config: ModelConfig
    downloaded: bool
    """A download of the hub's, of which not every file need be here yet."""

    @cached_property
    def names(self) -> frozenset[str]:
        """Of its files."""
        return frozenset(file.name for file in self.path.iterdir())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """config.json; empty where there is none. Raises ModelError for a damaged one."""
        return settings_if_any(self.path / "config.json")

    @cached_property
    def model(self) -> Any:
        """config.json with its family's defaults. Raises ModelError."""
        if dotted.is_dotted(self.config.adapter or ""):  # its module may make a family of the user's own known
            dotted.load(str(self.config.adapter), None, "model.adapter")
        return read_configuration(str(self.path), self.config)

    @cached_property
    def text(self) -> Any:
        """The text decoder's part of it. Raises ModelError."""
        with boundary(f"config.json of {self.path} describes no text decoder", ModelError, PARTS):
            return self.model.get_text_config(decoder=True)

    @cached_property
    def weights(self) -> Checkpoint:
        """Raises ModelError where weight files are missing."""
        return Checkpoint(self.path)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor's shape and type by its name. Raises ModelError for damaged files."""
        return dict(self.weights.outlines())

    @cached_property
    def tokenizer(self) -> Any:
        """Raises ModelError."""
        with readable(str(self.path), self.config) as path:
            return read(path, self.config, AutoTokenizer.from_pretrained, named=str(self.path))

    @cached_property
    def processor(self) -> Any:
        """Raises ModelError as `load_processor`."""
        return load_processor(str(self.path), self.config, self.model)

    @property
    def has_tensors(self) -> bool:
        """Whether there are weight files that can be read."""
        try:
            return bool(self.tensors)
        except ModelError:
            return False

    @property
    def embeddings(self) -> int | None:
        """How many token embeddings the weights hold; None where they hold none that can be read."""
        if not self.has_tensors:
            return None
        names = (name for name in self.tensors if name.endswith("embed_tokens.weight") and not apart(name))
        found = (self.tensors[name] for name in names)
        return next((len(tensor) for tensor in found if tensor.dim() == 2), None)

    @property
    def is_named_delta(self) -> bool:
        """Whether it is called the difference to a base model."""
        names = (self.path.name, self.config.id, str(self.settings.get("_name_or_path", "")))
        return any(re.search(r"(^|[-_])delta([-_]|$)", Path(name).name.lower()) for name in names)

    @property
    def foreign(self) -> str | None:
        """How the sentence on what is missing ends where weights of another form are there instead."""
        for name in sorted(self.names):
            what = next((what for end, what in FOREIGN.items() if name.endswith(end)), None)
            if what is not None:
                return f", and holds {name}, {what}"
        return None


Check = Callable[[Folder], str]


def folder_of(config: ModelConfig) -> Folder | None:
    """Where the checkpoint lies; None for a hub id of which nothing is downloaded. Raises ModelError."""
    source = source_of(config)
    if Path(source).is_dir():
        return Folder(Path(source), config, downloaded=False)
    with boundary(f"The downloads of {source} cannot be read", ModelError, "is it a hub id, owner/name?"):
        found = try_to_load_from_cache(source, "config.json", revision=config.revision)
    return Folder(Path(found).parent, config, downloaded=True) if isinstance(found, str) else None


def apart(name: str) -> bool:
    """Whether the tensor of that name belongs to no text decoder."""
    return any(part in name for part in APART)
