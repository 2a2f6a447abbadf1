"""Families that give the model a view of the whole image and tiles of it.

InternVL, Aya Vision, Command A Vision, Llama 4, Idefics3 and SmolVLM: equal tiles in reading order, then the view.
LFM2-VL too, with a view of the image's own aspect ratio. Ovis2, Perception-LM and Molmo 2: the view, then the tiles.
LLaVA-NeXT (1.6) and LLaVA-OneVision: the view, then tiles with a line break after each row.
"""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension

from locheads.errors import DataError, ModelError
from locheads.geometry import Geometry, Preprocess, placed, stretched
from locheads.models.adapters.family import Cells, FamilyAdapter, Sharing
from locheads.models.adapters.own_aspect import module_of
from locheads.models.adapters.square_view import side_of, square_root
from locheads.models.prompts import PromptText


class TiledAdapter(FamilyAdapter):
    """The whole image's view is the default grid; with `model.tiles`, the tiles side by side.

    An image that the processor does not cut has the one view either way.
    """

    has_tiles = True
    view_first: ClassVar[bool] = False
    """Whether the view stands before the tiles."""

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        """-> (rows, columns) of tiles, (0, 0) where the image is not cut."""
        raise NotImplementedError

    def whole(self, n_tokens: int, inputs: Any, tiles: int) -> tuple[int, int]:
        """-> (rows, columns) of the whole image's view, beside so many tiles: as large as each of them."""
        side = square_root(n_tokens // (tiles + 1))
        return side, side

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        rows, cols = self.layout(inputs, view)
        high, wide = self.whole(n_tokens, inputs, rows * cols)
        if self.tiles and rows * cols > 0:
            side = square_root((n_tokens - high * wide) // (rows * cols))
            # Image tokens come tile after tile; the grid's reading order is that of all tiles laid out.
            tokens = torch.arange(rows * cols * side * side).reshape(rows, cols, side, side).transpose(1, 2).flatten()
            # On average over the tiles, where each ends in a strip that the tower does not look at (see `overhang`).
            return tokens + high * wide * self.view_first, stretched(*view.size, rows * side, cols * side)
        start = 0 if self.view_first else n_tokens - high * wide
        return torch.arange(start, start + high * wide), stretched(*view.size, high, wide, self.across())

    def across(self) -> float:
        """How many times larger the view is than its grid."""
        return overhang(self.config.vision_config)


class InternVlAdapter(TiledAdapter):
    """InternVL, Aya Vision and Command A Vision: as many tiles as suit the image's size and aspect ratio."""

    not_for_model = ("num_patches",)

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        if int(inputs["num_patches"][0]) == 1:
            return 0, 0
        images = self.processor.image_processor
        tile = (images.size["height"], images.size["width"])
        choose = module_of(images).get_optimal_tiled_canvas
        cols, rows = choose((view.height, view.width), tile, images.min_patches, images.max_patches)
        return rows, cols


class Ovis2Adapter(TiledAdapter):
    """A token is the mean of visual words by their probabilities. Tags stand before the tiles and between them."""

    view_first = True
    not_for_model = ("grids",)

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        rows, cols = (int(n) for n in inputs["grids"][0])
        return (rows, cols) if rows * cols > 1 else (0, 0)


class PerceptionLmAdapter(TiledAdapter):
    """The view always, then tiles unless the checkpoint is set to do without."""

    view_first = True

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        images, size = self.processor.image_processor, (view.width, view.height)
        if inputs["pixel_values"][0].shape[0] == 1:
            return 0, 0
        fits = images._fit_image_to_canvas(*size, images.tile_size)
        cols, rows = fits or images._find_closest_aspect_ratio(*size, images.tile_size)
        return rows, cols

    def across(self) -> float:
        return 1.0  # its tower's configuration names no sizes: timm knows them


class Llama4Adapter(TiledAdapter):
    """Tiles of the image with its aspect ratio kept, black at the right and bottom; then the view, squashed.

    An image of one tile has no other view. Most layers see a chunk of 8,192 tokens only: nothing can be shared.
    """

    square = False
    not_for_model = ("aspect_ratios",)

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        rows, cols = (int(n) for n in inputs["aspect_ratios"][0])
        return (rows, cols) if rows * cols > 1 else (0, 0)

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        tokens, geometry = super().cells(n_tokens, inputs, view)
        rows, cols = (int(n) for n in inputs["aspect_ratios"][0])
        if rows * cols > 1 and not self.tiles:
            return tokens, geometry
        width, height = self._within(view, rows, cols)
        corners = (0.0, 0.0, width * geometry.cols, height * geometry.rows)
        return tokens, placed(*view.size, geometry.rows, geometry.cols, corners)

    def _within(self, view: Image.Image, rows: int, cols: int) -> tuple[float, float]:
        """Which parts of the tiles' width and height the image fills."""
        images, pixels = self.processor.image_processor, (view.height, view.width)
        side = images.size["height"]
        canvas = (rows * side, cols * side)
        room = canvas
        if not images.resize_to_max_canvas:  # an image is not enlarged beyond one tile
            room = tuple(min(max(n, side), most) for n, most in zip(pixels, canvas, strict=True))
        height, width = module_of(images).get_max_res_without_distortion(pixels, room)
        return max(width, 1) / canvas[1], max(height, 1) / canvas[0]


class Molmo2Adapter(TiledAdapter):
    """The view, then the cells of overlapping tiles joined to one grid, each row ended by a token of its own.

    All tokens of the image see each other, tags and ends of rows included, so nothing can be shared. A cell is 2 x 2
    patches, and at the right and bottom there may be half a cell.
    """

    sharing = Sharing.plain
    not_for_model = ()

    def __init__(self, processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> None:
        super().__init__(processor, config, preprocess, tiles)
        self.after_image = 2 if processor.image_use_col_tokens else 1

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        images = self.processor.image_processor
        rows, cols, tile_rows, tile_cols = (int(n) for n in inputs["image_grids"][0])
        side = images.size["height"]
        if not self.tiles:
            corners = (side / images.patch_size / pool for pool in reversed(images.pooling_size))
            return torch.arange(rows * cols), placed(*view.size, rows, cols, (0.0, 0.0, *corners))
        limits = images.max_crops, images.overlap_margins, side, images.patch_size
        _, _, height, width = module_of(images).compute_crop_geometry(view.height, view.width, *limits)
        far = (
            n / images.patch_size / pool for n, pool in zip((width, height), reversed(images.pooling_size), strict=True)
        )
        tokens = rows * cols + torch.arange(tile_rows * tile_cols)
        return tokens, placed(*view.size, tile_rows, tile_cols, (0.0, 0.0, *far))

    def finish(self, question: PromptText) -> PromptText:
        words = self.processor.tokenizer
        first = words.bos_token or words.eos_token
        if question.text.startswith(first):
            return question
        return PromptText(first + question.text, question.start + len(first), question.end + len(first))

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        of_image = torch.tensor(self.processor.image_token_ids)
        return {"token_types": torch.isin(prefix, of_image).long(), "token_types_name": "mm_token_type_ids"}


class Lfm2VlAdapter(TiledAdapter):
    """LFM2-VL: tiles with their row and column written before each, and the view in the image's own aspect ratio.

    Most layers of its decoder are convolutions, which carry text from token to token: nothing can be shared.
    """

    square = False
    not_for_model = ("image_rows", "image_cols", "image_sizes")

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        rows, cols = int(inputs["image_rows"][0]), int(inputs["image_cols"][0])
        return (rows, cols) if rows * cols > 1 else (0, 0)

    def whole(self, n_tokens: int, inputs: Any, tiles: int) -> tuple[int, int]:
        images = self.processor.image_processor
        cell = images.encoder_patch_size * images.downsample_factor
        rows, cols = (int(side) // cell for side in inputs["image_sizes"][0])
        return rows, cols

    def across(self) -> float:
        return 1.0

    def image_text(self, inputs: Any) -> str:
        tagged = self.processor.use_image_special_tokens
        return self.processor.replace_image_token(inputs, 0, use_image_special_tokens=tagged)

    def _adds_special(self, question: PromptText) -> bool:
        return False


class IdeficsAdapter(TiledAdapter):
    """Tiles with their row and column written before each."""

    not_for_model = ("rows", "cols")

    def layout(self, inputs: Any, view: Image.Image) -> tuple[int, int]:
        return int(inputs["rows"][0][0]), int(inputs["cols"][0][0])


class LlavaNextAdapter(FamilyAdapter):
    """The base view, squashed to a square, is the default grid; with `model.tiles`, the tiles' cells without breaks.

    The tiles show the image with its aspect ratio kept; the model drops the cells that lie on padding alone. Their
    geometry is right on average where each ends in a strip that the tower does not look at (see `overhang`).
    """

    has_tiles = True

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        side = self._side()
        if not self.tiles:
            return torch.arange(side * side), stretched(*view.size, side, side, overhang(self.config.vision_config))
        geometry = self._tile_geometry(view)
        rows, cols = geometry.rows, geometry.cols
        if n_tokens != side * side + rows * (cols + 1):
            raise ModelError(
                f"The prompt holds {n_tokens} image tokens, which are not those of {rows} x {cols} cells of tiles: the "
                "checkpoint's processor and configuration do not fit together."
            )
        return side * side + torch.arange(rows * (cols + 1)).reshape(rows, cols + 1)[:, :cols].flatten(), geometry

    def shrink(self, rows: int, cols: int) -> tuple[int, int]:
        """How many cells the model keeps of so many."""
        return rows, cols

    def _side(self) -> int:
        vision = self.config.vision_config
        return vision.image_size // vision.patch_size

    def _tile_geometry(self, view: Image.Image) -> Geometry:
        width, height = view.size
        pixels, side = self.config.vision_config.image_size, self._side()
        best = select_best_resolution([height, width], self.processor.image_processor.image_grid_pinpoints)
        shape = torch.empty((3, height, width), device="meta")
        fitted = get_patch_output_size(shape, best, input_data_format=ChannelDimension.FIRST)
        # In cells of the tiles laid out: where the image lies, and what is cut off above and left of it.
        canvas = [n * side // pixels for n in best]
        size = [n * side / pixels for n in fitted]
        start = [(whole - part) // 2 * side / pixels for whole, part in zip(best, fitted, strict=True)]
        cut = _unpadded(height, width, *canvas)
        kept = [n - 2 * c for n, c in zip(canvas, cut, strict=True)]
        if min(kept) < 1:
            raise DataError(
                f"The image of {width} x {height} pixels is so narrow that the model keeps no cell of its tiles: use "
                "model.tiles=false, or model.preprocess=pad."
            )
        final = self.shrink(*kept)
        (y0, y1), (x0, x1) = (
            ((s - c) * f / k, (s - c + n) * f / k) for s, c, n, k, f in zip(start, cut, size, kept, final, strict=True)
        )
        return placed(width, height, *final, (x0, y0, x1, y1))


class LlavaOnevisionAdapter(LlavaNextAdapter):
    """As LLaVA-NeXT, and a large image's tiles are scaled down to a limited number of cells."""

    def shrink(self, rows: int, cols: int) -> tuple[int, int]:
        limit = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(rows * cols / (limit * self._side() ** 2))
        return (int(rows // ratio), int(cols // ratio)) if ratio > 1.1 else (rows, cols)


def overhang(vision: Any) -> float:
    """How many times larger a view is than the patches that the vision tower cuts from it.

    1 but where its size is no multiple of the patch: 384 pixels hold 27 patches of 14, and 6 pixels more.
    """
    size, patch = side_of(vision.image_size), side_of(vision.patch_size)
    return size / patch / (size // patch)


def _unpadded(height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    """How many rows above (and as many below), or columns left (and right), the model drops as padding."""
    if width / height > cols / rows:
        return (rows - int(round(height * (cols / width), 7))) // 2, 0
    return 0, (cols - int(round(width * (rows / height), 7))) // 2
