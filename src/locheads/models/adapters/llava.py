"""LLaVA-1.5, ViP-LLaVA and every checkpoint converted to their format: a square image, one token per patch."""

from collections.abc import Sequence
from typing import Any, assert_never

import torch
from PIL import Image

from locheads.errors import ConfigError
from locheads.geometry import Preprocess, square_geometry
from locheads.models.adapters.family import Cells, Corners, FamilyAdapter, padded
from locheads.models.adapters.pixtral import PixtralAdapter


class LlavaAdapter(FamilyAdapter):
    """Prepares inputs with the checkpoint's own tokenizer and image processor.

    The converted checkpoints' processor centre-crops; the original LLaVA-1.5 pads to a square with the mean
    colour. All forms are offered, so the processor's own crop setting is overridden but for `native`.
    """

    def __init__(self, processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> None:
        super().__init__(processor, config, preprocess, tiles)
        vision = config.vision_config
        self._side, self._patch = side_of(vision.image_size), side_of(vision.patch_size)
        self.wrapping = getattr(config, "image_wrapping", self.wrapping)
        self._grid = self._side // self._patch
        if large := getattr(config, "image_size_aux", None):  # Mini-Gemini makes the small image from a large one
            self._side, self._patch = large, large // self._grid
        # A CLIP tower's first token is no patch; with the strategy "full" the model keeps it.
        full = getattr(config, "vision_feature_select_strategy", "default") == "full"
        self._classes = int(full and getattr(vision, "model_type", "") == "clip_vision_model")
        self._how = self._stock() if self.preprocess == Preprocess.native else self.preprocess

    def image_text(self, inputs: Any) -> str:
        return self.processor.image_token * (self._grid**2 + self._classes)

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        geometry = square_geometry(*view.size, self._side, self._grid, self._how, self._patch)
        return torch.arange(self._classes, n_tokens), geometry

    def view(self, image: Image.Image) -> tuple[Image.Image, Corners]:
        # The geometry of `cells` is that of the image before the padding.
        return image, (0.0, 0.0, float(image.width), float(image.height))

    def _process(self, view: Image.Image) -> Any:
        images, square = self.processor.image_processor, {"height": self._side, "width": self._side}
        options: dict[str, Any] = {"size": square, "do_center_crop": False}
        match self._how:
            case Preprocess.center_crop:
                options = {"size": {"shortest_edge": self._side}, "crop_size": square, "do_center_crop": True}
            case Preprocess.pad:
                view = padded(view, images.image_mean)[0]
            case Preprocess.squash:
                pass
            case Preprocess.native:
                raise ValueError("_stock says what native is")
            case _:
                assert_never(self._how)
        # do_pad off: a LlavaImageProcessor that pads by itself would do so before a crop or squash, too.
        return images(view, return_tensors="pt", do_pad=False, **options)

    def _stock(self) -> Preprocess:
        """What the checkpoint's own processor does."""
        images = self.processor.image_processor
        if getattr(images, "do_pad", False):
            return Preprocess.pad
        if not getattr(images, "do_center_crop", False):
            return Preprocess.squash
        resized = images.size["shortest_edge"]
        if resized != self._side:
            raise ConfigError(
                f"model.preprocess=native: this checkpoint's processor resizes to {resized} pixels before it crops to "
                f"{self._side}, which is not supported: use pad, center_crop or squash."
            )
        return Preprocess.center_crop


def side_of(size: int | Sequence[int]) -> int:
    """Of a square, which some vision towers write as a pair."""
    return size if isinstance(size, int) else size[0]


def llava_adapter(processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> FamilyAdapter:
    """`model_type` llava holds two families: LLaVA-1.5's, and Pixtral-12B, whose vision tower keeps the aspect."""
    pixtral = config.vision_config.model_type == "pixtral"
    return (PixtralAdapter if pixtral else LlavaAdapter)(processor, config, preprocess, tiles)
