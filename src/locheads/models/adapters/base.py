"""What the attention pass needs to know about a family of LVLMs, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from jaxtyping import Int
from PIL.Image import Image
from torch import Tensor

from locheads.geometry import Geometry
from locheads.models.config import PromptConfig


class Sharing(StrEnum):
    """How several expressions about one image may share the work on it. A test checks what a family declares."""

    packed = "packed"
    """One sequence [prefix | suffix 1 | suffix 2 | ...] with a block mask: the image is read once."""
    plain = "plain"
    """One sequence per expression with the family's own mask: image tokens attend to the text, the window slides
    over the prompt, or the family makes its masks itself."""


@dataclass(frozen=True)
class PreparedInput:
    """One image and its prompts as the model takes them."""

    prefix: Int[Tensor, "prefix"]
    """Token ids up to and including the last image token: the same for all prompts."""
    suffixes: tuple[Int[Tensor, "suffix"], ...]
    """The rest of each prompt."""
    spans: tuple[tuple[int, int], ...]
    """Per suffix the query tokens, as a half-open range of offsets in the suffix; their rows are averaged."""
    image_tokens: Int[Tensor, "cell"]
    """Positions of the image tokens in the prefix, in reading order of the patch grid."""
    tensors: dict[str, Tensor]
    """Whatever else the model's forward takes for the image, such as pixel_values [1, 3, height, width]."""
    geometry: Geometry
    prefix_positions: Int[Tensor, "3 prefix"] | None = None
    """Position ids of the prefix where they are not 0, 1, 2, ... (M-RoPE). A suffix starts at their maximum + 1 and
    counts up by one in all three rows."""
    token_types: Int[Tensor, "prefix"] | None = None
    """`token_type_ids` / `mm_token_type_ids` of the prefix where the model's forward wants them (suffixes: 0)."""
    token_types_name: str = field(default="token_type_ids")


class Adapter(Protocol):
    """One per family, in a small file: prompt, image tokens, patch grid and its geometry.

    Built as `adapter_class(model_type, source)(processor, config, preprocess, tiles)`; `tiles` may be left out.
    """

    sharing: Sharing

    def prepare(self, image: Image, expressions: Sequence[str], prompt: PromptConfig) -> PreparedInput:
        """Raises DataError for an image or an expression that cannot be asked, ConfigError for a prompt that the
        model cannot be asked in."""
        ...
