"""Pixtral's vision tower, in Pixtral-12B (a Llava) and Mistral-Small-3.1 (Mistral3): any aspect ratio, row by row."""

from typing import Any

import torch
from PIL import Image

from locheads.geometry import Preprocess, stretched
from locheads.models.adapters.family import Cells, FamilyAdapter


class PixtralAdapter(FamilyAdapter):
    """The image, scaled down where it is large, is stretched to whole patches; each row of tokens ends in a break.

    The breaks are tokens of their own id, so the image tokens alone are the grid.
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
