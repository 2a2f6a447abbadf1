"""What the attention pass needs to know about a family of LVLMs, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Int
from PIL.Image import Image
from torch import Tensor

from locheads.config import PromptConfig
from locheads.models.geometry import Geometry


@dataclass(frozen=True)
class PreparedInput:
    """One picture and its prompts as the model takes them."""

    prefix: Int[Tensor, "prefix"]
    """Token ids up to and including the last image token: the same for all prompts."""
    suffixes: tuple[Int[Tensor, "suffix"], ...]
    """The rest of each prompt; its last token is the query."""
    image_tokens: Int[Tensor, "cell"]
    """Positions of the image tokens in the prefix, in reading order of the patch grid."""
    tensors: dict[str, Tensor]
    """Whatever else the model's forward takes, such as pixel_values [1, 3, height, width]."""
    geometry: Geometry


class Adapter(Protocol):
    """One per family, in a file of its own: prompt, image tokens, patch grid and its geometry."""

    def prepare(self, image: Image, expressions: Sequence[str], prompt: PromptConfig) -> PreparedInput:
        """Raises DataError for an expression that cannot be asked."""
        ...
