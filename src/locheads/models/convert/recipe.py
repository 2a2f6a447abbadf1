"""What a format makes of a checkpoint, before any weight is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from locheads.errors import ModelError
from locheads.models.convert.rules import Part


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    source: Path
    settings: Mapping[str, Any]
    """The source's config.json."""
    vision_tower: Path | None = None
    """Folder of the vision tower, where the checkpoint names it without containing it."""
    vision_tower_aux: Path | None = None
    """Folder of the second vision tower (Mini-Gemini)."""
    base: Path | None = None
    """Folder of the weights that delta weights are added to."""
    conversation: str | None = None
    """Name of the chat template, where it is not the format's own."""

    def need(self, key: str) -> Any:
        """A setting of config.json. Raises ModelError where it is absent."""
        if key not in self.settings:
            raise ModelError(f"{self.source / 'config.json'} has no {key}: it is incomplete, or of another format.")
        return self.settings[key]


@dataclass(frozen=True)
class Recipe:
    """All that a conversion needs."""

    config: PreTrainedConfig
    """Of the result."""
    processor: Any
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    """Choices that were made for the reader of the manifest."""


@dataclass(frozen=True)
class Format:
    """A kind of original checkpoint."""

    name: str
    describes: str
    """One line for --list."""
    fits: Callable[[Mapping[str, Any]], bool]
    """Whether a config.json is of this kind."""
    recipe: Callable[[Request], Recipe]
