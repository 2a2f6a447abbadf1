"""InternVL, Idefics3 and SmolVLM: equal tiles in reading order, then a view of the whole image."""

from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

# Its module needs torchvision in neither form.
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from locheads.geometry import stretched
from locheads.models.adapters.family import Cells, FamilyAdapter
from locheads.models.adapters.square import square_root


class TiledAdapter(FamilyAdapter):
    """The whole image's view is the default grid; with `model.tiles`, the tiles side by side.

    An image that the processor does not cut has the one view either way.
    """

    has_tiles = True

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        """-> (rows, columns) of tiles, (0, 0) where the image is not cut."""
        raise NotImplementedError

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        rows, cols = self.layout(inputs, view)
        each = n_tokens // (rows * cols + 1)
        side = square_root(each)
        if self.tiles and rows * cols > 0:
            # On average over the tiles, where each ends in a strip that the tower does not look at (see `overhang`).
            return side_by_side(rows, cols, side), stretched(*view.size, rows * side, cols * side)
        across = overhang(self.config.vision_config)
        return torch.arange(n_tokens - each, n_tokens), stretched(*view.size, side, side, across)


class InternVlAdapter(TiledAdapter):
    """Tiles of 16 x 16 cells, as many and as wide as suits the image's aspect ratio."""

    not_for_model = ("num_patches",)

    def image_options(self) -> dict[str, Any]:
        return {"crop_to_patches": True}

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        if int(inputs["num_patches"][0]) == 1:
            return 0, 0
        images = self.processor.image_processor
        tile = (images.size["height"], images.size["width"])
        cols, rows = get_optimal_tiled_canvas((view.height, view.width), tile, images.min_patches, images.max_patches)
        return rows, cols


class IdeficsAdapter(TiledAdapter):
    """Tiles with their row and column written before each."""

    not_for_model = ("rows", "cols")

    def image_options(self) -> dict[str, Any]:
        return {"return_row_col_info": True}

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        return int(inputs["rows"][0][0]), int(inputs["cols"][0][0])


def overhang(vision: Any) -> float:
    """How many times larger a view is than the patches that the vision tower cuts from it.

    1 but where its size is no multiple of the patch: 384 pixels hold 27 patches of 14, and 6 pixels more.
    """
    size, patch = (n if isinstance(n, int) else n[0] for n in (vision.image_size, vision.patch_size))
    return size / patch / (size // patch)


def side_by_side(rows: int, cols: int, side: int) -> Int[Tensor, "cell"]:
    """Image tokens, tile after tile, in the reading order of all tiles laid out: the n-th cell's token."""
    tokens = torch.arange(rows * cols * side * side).reshape(rows, cols, side, side)
    return tokens.permute(0, 2, 1, 3).flatten()
