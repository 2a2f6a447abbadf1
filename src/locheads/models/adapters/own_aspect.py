"""Families that give the model one view of the image in its own aspect ratio, whose tokens are the patch grid."""

import sys
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from locheads.geometry import Preprocess, placed, stretched
from locheads.models.adapters.family import UNDER_THEIR_NAMES, Cells, FamilyAdapter, Sharing
from locheads.models.config import PromptConfig
from locheads.models.prompts import IMAGE, PromptText, fill, prompt_text, tokenise


class PixtralAdapter(FamilyAdapter):
    """Pixtral-12B (a Llava) and Mistral-Small-3.1 (Mistral3), row by row.

    The image, scaled down where it is large, is stretched to whole patches. Each row of tokens ends in a break of its
    own id, so the image tokens alone are the grid.
    """

    square = False

    def __init__(self, processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> None:
        super().__init__(processor, config, preprocess, tiles)
        self._cell = processor.patch_size * processor.spatial_merge_size

    def image_options(self) -> dict[str, Any]:
        return {"patch_size": {"height": self._cell, "width": self._cell}}

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        height, width = (int(side) for side in inputs["image_sizes"][0])
        return torch.arange(n_tokens), stretched(*view.size, height // self._cell, width // self._cell)


class QwenVlAdapter(FamilyAdapter):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen2.5-Omni: cells of 2 x 2 patches, positions in three dimensions.

    The image is stretched to whole cells, as near to its aspect ratio as they allow.
    """

    square = False
    wrapping = "<|vision_start|>{}<|vision_end|>"

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        return torch.arange(n_tokens), stretched(*view.size, *self._grid(inputs))

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        """Text counts up in all three rows; an image at position p has time p, and rows and columns from p on."""
        rows, cols = self._grid(inputs)
        start = len(prefix) - self.after_image - rows * cols
        text = torch.arange(start).expand(3, -1)
        image = torch.stack(torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(cols), indexing="ij"))
        after = torch.arange(self.after_image).expand(3, -1) + start + max(rows, cols)
        return {"prefix_positions": torch.cat([text, start + image.flatten(1), after], dim=1)}

    def _grid(self, inputs: Any) -> tuple[int, int]:
        merge = self.processor.image_processor.merge_size
        _, rows, cols = (int(n) for n in inputs["image_grid_thw"][0])
        return rows // merge, cols // merge


class KimiAdapter(QwenVlAdapter):
    """Kimi K2.5: the image, scaled down where it is large, gets bars at its right and bottom up to whole cells."""

    wrapping = "<|media_begin|>image<|media_content|>{}<|media_end|>"

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        images, (rows, cols) = self.processor.image_processor, self._grid(inputs)
        resize = module_of(images).navit_resize
        limits = images.patch_size, images.merge_size, images.max_patches, images.size["max_height"]
        (height, width), _ = resize(view.height, view.width, *limits)
        cell = images.patch_size * images.merge_size
        return torch.arange(n_tokens), placed(*view.size, rows, cols, (0.0, 0.0, width / cell, height / cell))

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        return {}  # it counts positions as text does


class Glm4vAdapter(QwenVlAdapter):
    """GLM-4.1V, GLM-4.5V, GLM-4.6V: as Qwen-VL, with tags of their own."""

    wrapping = "<|begin_of_image|>{}<|end_of_image|>"


class ErnieVlAdapter(QwenVlAdapter):
    """ERNIE 4.5-VL: as Qwen-VL, and the image with its two tags goes to experts of its own."""

    wrapping = "<|IMAGE_START|>{}<|IMAGE_END|>"
    after_image = 1

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        of_image = [getattr(self.config, f"image_{part}token_id") for part in ("", "start_", "end_")]
        types = torch.isin(prefix, torch.tensor(of_image)).long()
        positions = super().extras(prefix, inputs)
        return {**positions, "token_types": types, "token_types_name": "moe_mm_token_type_ids"}


class Gemma4Adapter(FamilyAdapter):
    """Gemma 4: cells of 3 x 3 patches, as many as the processor is set to, in the image's own aspect ratio.

    Most layers see a window only, and in the large models image tokens see each other: nothing can be shared.
    """

    sharing = Sharing.plain
    square = False
    not_for_model = ("num_soft_tokens_per_image",)

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        last = inputs["image_position_ids"][0].max(dim=0).values + 1  # what fills up is at -1
        cols, rows = (int(n) // self.processor.image_processor.pooling_kernel_size for n in last)
        return torch.arange(n_tokens), stretched(*view.size, rows, cols)

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        is_image = (prefix == self.config.image_token_id).long()
        return {"token_types": is_image, "token_types_name": "mm_token_type_ids"}


class FuyuAdapter(FamilyAdapter):
    """Fuyu: patches without a vision tower, each row ended by a token of its own.

    The image, scaled down where it is large, gets bars at its right and bottom up to whole patches. The family's
    processor puts it before all text, wherever a template has it, tokenises the two apart, and ends every prompt in the
    token that begins an answer.
    """

    square = False
    wrapping = ""
    not_for_model = ("grid", "size")
    stock_options = UNDER_THEIR_NAMES

    def image_text(self, inputs: Any) -> str:
        rows, cols = inputs["grid"]
        return self.processor.replace_image_token(inputs, 0, num_patches=rows * cols, row_width=cols)

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        rows, cols = inputs["grid"]
        height, width = (side / self.config.patch_size for side in inputs["size"])
        return torch.arange(n_tokens), placed(*view.size, rows, cols, (0.0, 0.0, width, height))

    def _process(self, view: Image.Image) -> Any:
        made, side = super()._process(view), self.config.patch_size
        size = [int(made[f"image_unpadded_{name}s"][0][0]) for name in ("height", "width")]
        rows, cols = (-(-pixels // side) for pixels in size)
        # Its processor does this, too, but only with torchvision.
        image = made["images"][0][0][:, : rows * side, : cols * side]
        patches = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 3, 4, 0).reshape(rows * cols, -1)
        return {"pixel_values": patches, "grid": (rows, cols), "size": size}

    def _ask(self, prompt: PromptConfig, expression: str, image_text: str) -> PromptText:
        if prompt.chat:
            return super()._ask(prompt, expression, image_text)
        asked, image = fill(prompt_text(prompt, expression), IMAGE, ""), self.processor.image_token
        first = PromptText(f"{image}{asked.text}<0x04>", asked.start + len(image), asked.end + len(image))
        return fill(first, image, image_text)

    def _tokenise(self, question: PromptText, query: str, inputs: Any) -> tuple[list[int], tuple[int, int]]:
        image, begin, text = question.text.partition("<s>")
        words, cut = self.processor.tokenizer, len(image + begin)
        # Without the piece for a blank that the tokenizer puts before any text.
        before = words(image + begin, add_special_tokens=False)["input_ids"][1:]
        own = PromptText(text, question.start - cut, question.end - cut)
        ids, (first, end) = tokenise(words, own, query, special=False)
        return [*before, *ids], (first + len(before), end + len(before))


class Emu3Adapter(FamilyAdapter):
    """Emu3: a cell is a word of a picture vocabulary, for 8 x 8 pixels; each row ends in a word with the cells' own id.

    The image is stretched to whole cells, as near to its aspect ratio as they allow. The family's processor puts the
    first token before a prompt, since the tokenizer does not.
    """

    square = False

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        rows, cols = (int(side) // self.processor.downsample_ratio for side in inputs["image_sizes"][0])
        tokens = torch.arange(n_tokens).reshape(rows, cols + 1)[:, :cols]
        return tokens.flatten(), stretched(*view.size, rows, cols)

    def _process(self, view: Image.Image) -> Any:
        # Of 1 or 3 rows, its image processor takes an image for one whose colours come first.
        width, height = view.size
        return super()._process(view if height > 3 else view.resize((width, 4)))

    def finish(self, question: PromptText) -> PromptText:
        first = self.processor.bos_token
        return PromptText(first + question.text, question.start + len(first), question.end + len(first))


def module_of(images: Any) -> Any:
    """Where an image processor's class stands, and the functions that it works with."""
    return sys.modules[type(images).__module__]
