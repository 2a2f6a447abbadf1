"""What the attention pass needs to know about a family of LVLMs, and what all adapters share.

A family states what is specific to it, and `FamilyAdapter` prepares the input. The checkpoint's own processor does the
work on images and text, in two halves, so that an image is processed once for all its expressions: its image processor
makes the tensors, and `replace_image_token` the text that stands for the image in every prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, assert_never

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from locheads.errors import ConfigError, DataError, ModelError, boundary, chosen
from locheads.geometry import Geometry, Preprocess
from locheads.models.config import PromptConfig
from locheads.models.prompts import IMAGE, PromptText, chat_prompt_text, fill, prompt_text, tokenise

PARTS = "the checkpoint's processor does not fit its configuration; download or save the checkpoint again."
MAX_PIXELS = 100_000_000
"""Larger images are refused: decoded and resized as floats they take gigabytes."""

Corners = tuple[float, float, float, float]
"""Where the whole original lies in an image made from it, xyxy in the made image's pixels."""

Cells = tuple[Int[Tensor, "cell"], Geometry]
"""Which of the image tokens are the grid's cells, in reading order (indices into the prompt's image tokens), and
where they lie in the image that the processor was given."""

UNDER_THEIR_NAMES = {"return_legacy_image_output": False}
"""What a processor is told that calls the pixels otherwise than its model (Fuyu, Video-LLaVA)."""


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
    """Token ids up to the last image token and what belongs to the image behind it: the same for all prompts."""
    suffixes: tuple[Int[Tensor, "suffix"], ...]
    """The rest of each prompt."""
    spans: tuple[tuple[int, int], ...]
    """Per suffix the query tokens, as a half-open range of offsets in the suffix; their rows are averaged."""
    image_tokens: Int[Tensor, "cell"]
    """Positions of the image tokens in the prefix, in reading order of the patch grid."""
    tensors: dict[str, Tensor]
    """Whatever else the model's forward takes for the image, such as pixel_values [1, 3, height, width]."""
    geometry: Geometry
    prefix_positions: Int[Tensor, "axis prefix"] | None = None
    """Position ids of the prefix where they are not 0, 1, 2, ... (M-RoPE). A suffix starts at their maximum + 1 and
    counts up by one in all rows, three or four."""
    token_types: Int[Tensor, "prefix"] | None = None
    """`token_type_ids` / `mm_token_type_ids` of the prefix where the model's forward wants them (suffixes: 0)."""
    token_types_name: str = "token_type_ids"
    suffix_types: tuple[Int[Tensor, "suffix"], ...] | None = None
    """The same of the suffixes; None: 0 for all their tokens."""
    picked: tuple[tuple[int, ...], ...] | None = None
    """Per suffix which tokens of its span count, as offsets in it; None: all."""

    def some(self, which: Sequence[int]) -> "PreparedInput":
        """With these of its prompts alone."""
        return replace(
            self,
            suffixes=tuple(self.suffixes[i] for i in which),
            spans=tuple(self.spans[i] for i in which),
            suffix_types=self.suffix_types and tuple(self.suffix_types[i] for i in which),
            picked=self.picked and tuple(self.picked[i] for i in which),
        )


class FamilyAdapter:
    """Base of every family's adapter: prompt, image tokens, patch grid and its geometry.

    Built as `adapter_class(model_type, source)(processor, config, preprocess, tiles)`; `tiles` may be left out. A
    family overrides `cells`, and of the rest what differs.
    """

    sharing: Sharing = Sharing.packed
    has_tiles: ClassVar[bool] = False
    """Whether `model.tiles` means anything."""
    square: ClassVar[bool] = True
    """Whether the processor resizes any image to a square by itself, so that `squash` is what it does anyway."""
    wrapping: str = "{}"
    """What `<image>` in a template becomes; {} is the model's own placeholder."""
    not_for_model: ClassVar[tuple[str, ...]] = ()
    """Outputs of the image processor that the model's forward does not take."""
    stock_options: Mapping[str, Any] = {}
    """What the whole processor must be told so that it gives what the model's forward takes."""
    after_image: int = 0
    """How many tokens behind the last image token the model takes for a part of the image."""
    answer_type: int = 0
    """The `token_type_ids` of the model's own answer, where its forward wants them."""

    def __init__(self, processor: Any, config: Any, preprocess: Preprocess, tiles: bool = False) -> None:
        """Raises ConfigError for an option that the family does not have, and for no choice of `Preprocess`."""
        if tiles and not self.has_tiles:
            raise ConfigError(f"model.tiles=true: a {config.model_type} model does not cut images into tiles.")
        self.processor, self.config, self.tiles = processor, config, tiles
        self.preprocess = chosen(Preprocess, preprocess)
        text = config.get_text_config(decoder=True)
        self._context = getattr(text, "max_position_embeddings", None)
        if _slides(text) or len(attending_layers(text)) < text.num_hidden_layers:
            # A window over the packed sequence would cut other tokens than one over each prompt, and a convolution
            # would take the end of one expression into the next.
            self.sharing = Sharing.plain

    def prepare(self, image: Image.Image, expressions: Sequence[str], prompt: PromptConfig) -> PreparedInput:
        """One image and its prompts as the model takes them.

        Raises:
            DataError: an image or an expression that cannot be asked.
            ConfigError: a prompt that this model cannot be asked in.
            ModelError: the checkpoint's processor does not fit its configuration.
        """
        view, corners = self.view(check_image(image).convert("RGB"))
        refuses = f"The model's image processor refuses an image of {view.width} x {view.height} pixels"
        with boundary(refuses, DataError, "is there anything odd about it?"):
            inputs = self._process(view)
        with boundary("The text that stands for the image cannot be written", ModelError, PARTS):
            image_text = self.image_text(inputs)
        questions = [self._ask(prompt, expression, image_text) for expression in expressions]
        encoded = [self._tokenise(one, prompt.query, inputs) for one in questions]
        ids = [torch.tensor(row) for row, _ in encoded]
        positions = self._image_positions(ids)
        end = int(positions[-1]) + 1 + self.after_image
        self._check_length(ids, expressions)
        with boundary("The image's patch grid cannot be worked out", ModelError, PARTS):
            cells, geometry = self.cells(len(positions), inputs, view)
            extras = self.extras(ids[0][:end], inputs)
        return PreparedInput(
            prefix=ids[0][:end],
            suffixes=tuple(row[end:] for row in ids),
            spans=tuple((first - end, last - end) for _, (first, last) in encoded),
            image_tokens=positions[cells],
            tensors={key: value for key, value in inputs.items() if key not in self.not_for_model},
            geometry=geometry.seen_through(*image.size, corners),
            **extras,
        )

    # What a family may override.

    @property
    def image_token_id(self) -> int:
        """The token that stands for a patch of the image."""
        return int(self.config.image_token_id)

    @property
    def placeholder(self) -> str:
        """What stands for the image in a text that the family's processor takes."""
        return str(self.processor.image_token)

    def examine(self, lvlm: Any) -> None:
        """What has to be found out on the loaded model (an `Lvlm`) before the first image."""

    def found(self) -> dict[str, Any]:
        """What was found out, as plain values for the record of a run."""
        return {}

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        """The grid. `n_tokens`: how many image tokens the prompt holds; `inputs`: the image processor's output;
        `view`: the image that it was given."""
        raise NotImplementedError

    def image_options(self) -> dict[str, Any]:
        """What the family's processor passes to its image processor by default."""
        options = getattr(self.processor, "images_kwargs", {})
        return {name: value for name, value in options.items() if name != "return_tensors"}

    def image_text(self, inputs: Any) -> str:
        """The text that stands for the image in a prompt, special tokens and all."""
        return self.processor.replace_image_token(inputs, 0)

    def finish(self, question: PromptText) -> PromptText:
        """The prompt as the family's processor would complete it."""
        return question

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        """More fields of PreparedInput: positions, token types."""
        return {}

    def view(self, image: Image.Image) -> tuple[Image.Image, Corners]:
        """-> (what the processor is given for `preprocess`, where the whole image lies in that)."""
        match self.preprocess:
            case Preprocess.pad:
                return padded(image, self.processor.image_processor.image_mean)
            case Preprocess.center_crop:
                return cropped(image)
            case Preprocess.squash if not self.square:
                side = max(image.size)
                return image.resize((side, side), Image.Resampling.BICUBIC), (0.0, 0.0, float(side), float(side))
            case Preprocess.squash | Preprocess.native:
                return image, (0.0, 0.0, float(image.width), float(image.height))
            case _:
                assert_never(self.preprocess)

    # The machinery.

    def _process(self, view: Image.Image) -> Any:
        return self.processor.image_processor(view, return_tensors="pt", **self.image_options())

    def _ask(self, prompt: PromptConfig, expression: str, image_text: str) -> PromptText:
        if prompt.chat:
            return self.finish(fill(chat_prompt_text(prompt, expression, self.processor), self.placeholder, image_text))
        question = fill(prompt_text(prompt, expression), IMAGE, self.wrapping.format(self.placeholder))
        return self.finish(fill(question, self.placeholder, image_text))

    def _tokenise(self, question: PromptText, query: str, inputs: Any) -> tuple[list[int], tuple[int, int]]:
        return tokenise(self.processor.tokenizer, question, query, self._adds_special(question))

    def _adds_special(self, question: PromptText) -> bool:
        """A chat template often writes the first token itself; twice would be wrong."""
        first = self.processor.tokenizer.bos_token
        return first is None or not question.text.startswith(first)

    def _image_positions(self, ids: Sequence[Int[Tensor, "token"]]) -> Int[Tensor, "image_token"]:
        """Raises DataError where an expression holds image tokens, so that prompts differ in them."""
        token = self.image_token_id
        found = [(row == token).nonzero().squeeze(1) for row in ids]
        if len(found[0]) == 0:
            raise ModelError(
                f"The tokenizer makes no image tokens (id {token}) of the image's placeholder "
                f"{self.placeholder!r}: the checkpoint's tokenizer and configuration do not fit together."
            )
        if any(len(one) != len(found[0]) or (one != found[0]).any() for one in found):
            raise DataError("An expression holds the model's image token: take it out.")
        return found[0]

    def _check_length(self, ids: Sequence[Int[Tensor, "token"]], expressions: Sequence[str]) -> None:
        for row, expression in zip(ids, expressions, strict=True):
            if self._context is not None and len(row) > self._context:
                raise DataError(
                    f"The prompt for the expression {expression[:40]!r} has {len(row)} tokens, and the model reads "
                    f"{self._context} at most: shorten the expression or the template."
                )


def check_image(image: Image.Image) -> Image.Image:
    """The image itself. Raises DataError where it has no pixels, or more than 100 million."""
    width, height = image.size
    if width == 0 or height == 0:
        raise DataError(f"The image has {width} x {height} pixels: there is nothing to see.")
    if width * height > MAX_PIXELS:
        raise DataError(f"The image has {width} x {height} pixels, more than 100 million: scale it down.")
    return image


def padded(image: Image.Image, mean: float | Sequence[float]) -> tuple[Image.Image, Corners]:
    """The image on a square of the mean colour, bars split with floor division as by the original LLaVA."""
    colour = [mean] * 3 if isinstance(mean, float) else mean
    longest = max(image.size)
    x, y = (longest - image.width) // 2, (longest - image.height) // 2
    canvas = Image.new("RGB", (longest, longest), tuple(int(c * 255) for c in colour))
    canvas.paste(image, (x, y))
    return canvas, (float(x), float(y), float(x + image.width), float(y + image.height))


def cropped(image: Image.Image) -> tuple[Image.Image, Corners]:
    """The square in the image's middle, in original pixels."""
    side = min(image.size)
    x, y = (image.width - side) // 2, (image.height - side) // 2
    corners = (-float(x), -float(y), float(image.width - x), float(image.height - y))
    return image.crop((x, y, x + side, y + side)), corners


def attending_layers(text: Any) -> list[int]:
    """Which layers of a decoder attend, by its configuration: all but the convolutions of LFM2."""
    kinds = getattr(text, "layer_types", None) or ()
    return [layer for layer in range(text.num_hidden_layers) if layer >= len(kinds) or kinds[layer] != "conv"]


def _slides(text: Any) -> bool:
    """Whether any layer of the text decoder sees only a window or a chunk of the sequence."""
    kinds = getattr(text, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return "chunked_attention" in kinds
    return getattr(text, "sliding_window", None) is not None and getattr(text, "use_sliding_window", True)
