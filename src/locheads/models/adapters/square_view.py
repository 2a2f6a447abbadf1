"""Families that give the model one square view of any image, whose tokens are the patch grid."""

from collections.abc import Sequence
from typing import Any, assert_never

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from locheads.errors import ConfigError, ModelError
from locheads.geometry import Preprocess, padded_square, square_geometry, stretched
from locheads.models.adapters.family import Cells, Corners, FamilyAdapter, Sharing, padded
from locheads.models.adapters.own_aspect import PixtralAdapter
from locheads.models.prompts import PromptText


class LlavaAdapter(FamilyAdapter):
    """LLaVA-1.5, ViP-LLaVA and every checkpoint converted to their format: a square image, one token per patch.

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


class SquareAdapter(FamilyAdapter):
    """The processor resizes any image to one square; all image tokens are the grid (Gemma 3n)."""

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        side = square_root(n_tokens)
        return torch.arange(n_tokens), stretched(*view.size, side, side)


class GotOcr2Adapter(SquareAdapter):
    """GOT-OCR 2: a cell for 4 x 4 patches. Its processor writes 256 tokens unless told otherwise, and cuts no tiles."""

    wrapping = "<img>{}</img>"
    not_for_model = ("num_patches",)

    def image_text(self, inputs: Any) -> str:
        vision = self.config.vision_config
        return self.processor.image_token * (side_of(vision.image_size) // side_of(vision.patch_size) // 4) ** 2


class DeepseekVlAdapter(FamilyAdapter):
    """DeepSeek-VL and Janus: the long side is resized, then bars are added.

    The 7B model (hybrid) sees the image at two sizes; the small one is made from the large one, bars and all.
    """

    square = False

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        images, side = self.processor.image_processor, square_root(n_tokens)
        pixels = getattr(images, "high_res_size", images.size)["height"]
        return torch.arange(n_tokens), padded_square(*view.size, pixels, side, images.min_size)


class Gemma3Adapter(SquareAdapter):
    """Image tokens see each other in both directions, and most layers see a window only: nothing can be shared."""

    sharing = Sharing.plain
    not_for_model = ("num_crops",)

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        return {"token_types": (prefix == self.config.image_token_id).long()}


class PaliGemmaAdapter(SquareAdapter):
    """The whole prompt attends in both directions, image included: nothing can be shared.

    The family's processor puts the first token behind the image and ends every prompt in a line break, which
    therefore is the last token.
    """

    sharing = Sharing.plain
    answer_type = 1

    def image_text(self, inputs: Any) -> str:
        return super().image_text(inputs) + self.processor.tokenizer.bos_token

    def finish(self, question: PromptText) -> PromptText:
        return PromptText(question.text + "\n", question.start, question.end)

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        # 0 is the prompt, in which all tokens see each other.
        return {"token_types": torch.zeros_like(prefix)}


class ChameleonAdapter(FamilyAdapter):
    """Chameleon: a square from the image's middle, whose cells are words of a picture vocabulary.

    The family's processor ends every prompt in a separator.
    """

    square = False

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        side = self.processor.image_processor.crop_size["height"]
        geometry = square_geometry(*view.size, side, square_root(n_tokens), Preprocess.center_crop)
        return torch.arange(n_tokens), geometry

    def view(self, image: Image.Image) -> tuple[Image.Image, Corners]:
        if self.preprocess == Preprocess.pad:
            return padded(image, 0.5)  # its processor's mean, 1, is the half of levels that it scales to 0 ... 2
        return super().view(image)

    def finish(self, question: PromptText) -> PromptText:
        return PromptText(question.text + self.processor.tokenizer.sep_token, question.start, question.end)


def llava_adapter(processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> FamilyAdapter:
    """`model_type` llava holds two families: LLaVA-1.5's, and Pixtral-12B, whose vision tower keeps the aspect."""
    pixtral = config.vision_config.model_type == "pixtral"
    return (PixtralAdapter if pixtral else LlavaAdapter)(processor, config, preprocess, tiles)


def square_root(n: int) -> int:
    """The side of a square grid of n cells. Raises ModelError where there is none."""
    side = round(n**0.5)
    if side * side != n:
        raise ModelError(
            f"The prompt holds {n} image tokens for one view, which are no square grid: the checkpoint's processor and "
            "configuration do not fit together."
        )
    return side


def side_of(size: int | Sequence[int]) -> int:
    """Of a square, which some vision towers write as a pair."""
    return size if isinstance(size, int) else size[0]
