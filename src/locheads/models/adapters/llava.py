"""LLaVA-1.5 and every checkpoint converted to its format: a square picture, one token per patch."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from locheads.config import PromptConfig
from locheads.models.adapters.base import PreparedInput
from locheads.models.geometry import Preprocess, square_geometry
from locheads.models.prompts import IMAGE, render_prompt


class LlavaAdapter:
    """Prepares inputs with the checkpoint's own tokenizer and image processor.

    The converted checkpoints' processor centre-crops; the original LLaVA-1.5 pads to a square with the mean
    colour. Both are offered, so the processor's own crop setting is overridden either way.
    """

    def __init__(self, processor: Any, config: Any, preprocess: Preprocess) -> None:
        self._tokenizer = processor.tokenizer
        self._images = processor.image_processor
        self._image_token = processor.image_token
        self._image_token_id = config.image_token_id
        self._side = config.vision_config.image_size
        self._grid = config.vision_config.image_size // config.vision_config.patch_size
        self._preprocess = preprocess

    def prepare(self, image: Image.Image, expressions: Sequence[str], prompt: PromptConfig) -> PreparedInput:
        """See `Adapter.prepare`."""
        texts = [render_prompt(prompt, expression) for expression in expressions]
        ids = [self._tokenise(text) for text in texts]
        is_image = ids[0] == self._image_token_id
        end = int(is_image.nonzero()[-1]) + 1
        return PreparedInput(
            prefix=ids[0][:end],
            suffixes=tuple(row[end:] for row in ids),
            image_tokens=is_image.nonzero().squeeze(1),
            tensors={"pixel_values": self._pixels(image)},
            geometry=square_geometry(*image.size, self._side, self._grid, self._preprocess),
        )

    def _tokenise(self, text: str) -> torch.Tensor:
        tokens = self._image_token * self._grid**2
        return self._tokenizer(text.replace(IMAGE, tokens), return_tensors="pt").input_ids[0]

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        square = {"height": self._side, "width": self._side}
        if self._preprocess is Preprocess.center_crop:
            options = {"size": {"shortest_edge": self._side}, "crop_size": square, "do_center_crop": True}
        else:
            options = {"size": square, "do_center_crop": False}
        if self._preprocess is Preprocess.pad:
            image = self._pad(image)
        # do_pad off: a LlavaImageProcessor that pads by itself would do so before a crop or squash, too.
        return self._images(image, return_tensors="pt", do_pad=False, **options)["pixel_values"]

    def _pad(self, image: Image.Image) -> Image.Image:
        longest = max(image.size)
        canvas = Image.new("RGB", (longest, longest), tuple(int(c * 255) for c in self._images.image_mean))
        canvas.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        return canvas
