"""Families whose processor resizes any image to one square, and gives one token per cell of a square grid."""

from typing import Any, ClassVar

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from locheads.errors import ModelError
from locheads.geometry import padded_square, stretched
from locheads.models.adapters.base import Sharing
from locheads.models.adapters.family import Cells, FamilyAdapter
from locheads.models.prompts import Asked


class SquareAdapter(FamilyAdapter):
    """All image tokens are the grid."""

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        side = square_root(n_tokens)
        return torch.arange(n_tokens), stretched(*view.size, side, side)


class DeepseekVlAdapter(FamilyAdapter):
    """DeepSeek-VL: the long side is resized, then bars are added. The 7B model sees the image at two sizes."""

    square = False
    size_name: ClassVar[str] = "size"
    """The image processor's setting that decides the roundings."""

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        images, side = self.processor.image_processor, square_root(n_tokens)
        pixels = getattr(images, self.size_name)["height"]
        return torch.arange(n_tokens), padded_square(*view.size, pixels, side, images.min_size)


class DeepseekVlHybridAdapter(DeepseekVlAdapter):
    """The small image is made from the large one after the bars are added."""

    size_name = "high_res_size"


class Gemma3Adapter(SquareAdapter):
    """Image tokens see each other in both directions, and most layers see a window only: nothing can be shared."""

    sharing = Sharing.plain
    not_for_model = ("num_crops",)

    def image_options(self) -> dict[str, Any]:
        return {"do_pan_and_scan": False}

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        return {"token_types": (prefix == self.config.image_token_id).long()}


class PaliGemmaAdapter(SquareAdapter):
    """The whole prompt attends in both directions, image included: nothing can be shared.

    The family's processor puts the first token behind the image and ends every prompt in a line break, which
    therefore is the last token.
    """

    sharing = Sharing.plain

    def image_text(self, inputs: Any) -> str:
        return super().image_text(inputs) + self.processor.tokenizer.bos_token

    def finish(self, asked: Asked) -> Asked:
        return Asked(asked.text + "\n", asked.start, asked.end)

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        # 0 is the prompt, in which all tokens see each other; 1 would be an answer.
        return {"token_types": torch.zeros_like(prefix)}


def square_root(n: int) -> int:
    """The side of a square grid of n cells. Raises ModelError where there is none."""
    side = round(n**0.5)
    if side * side != n:
        raise ModelError(
            f"The prompt holds {n} image tokens for one view, which are no square grid: the checkpoint's processor and "
            "configuration do not fit together."
        )
    return side
