"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: any aspect ratio, cells of 2 x 2 patches, positions in three dimensions."""

from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from locheads.geometry import stretched
from locheads.models.adapters.family import Cells, FamilyAdapter


class QwenVlAdapter(FamilyAdapter):
    """The image is stretched to whole cells, as near to its aspect ratio as they allow."""

    square = False
    wrapping = "<|vision_start|>{}<|vision_end|>"

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        return torch.arange(n_tokens), stretched(*view.size, *self._grid(inputs))

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        """Text counts up in all three rows; an image at position p has time p, and rows and columns from p on."""
        rows, cols = self._grid(inputs)
        start = len(prefix) - rows * cols
        text = torch.arange(start).expand(3, -1)
        image = torch.stack(torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(cols), indexing="ij"))
        return {"prefix_positions": torch.cat([text, start + image.flatten(1)], dim=1)}

    def _grid(self, inputs: Any) -> tuple[int, int]:
        merge = self.processor.image_processor.merge_size
        _, rows, cols = (int(n) for n in inputs["image_grid_thw"][0])
        return rows // merge, cols // merge
