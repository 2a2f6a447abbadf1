"""Where in an image each of its tokens looks: parts of the image are painted over, and the tokens that change are seen.

What changes is what the text decoder is given, after image processor, vision tower and projector: no knowledge of a
family enters, but that its decoder has image tokens in its own sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.ndimage import binary_closing
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from locheads.errors import ModelError
from locheads.models.capture import ONE_PASS
from locheads.models.config import PromptConfig

Look = Callable[[Image.Image], Float[Tensor, "token hidden"]]
"""What the decoder is given for the image tokens of an image, in the order of the prompt."""

PROMPT = PromptConfig(template="<image>\n{expression}")
"""How a model is asked where only the image's part of the prompt matters."""
ASPECTS = {"wide": (640, 320), "square": (448, 448), "tall": (320, 640)}
"""Images on which a geometry is tried: (width, height) in pixels."""
SOFTMAX = (nn.functional.softmax, torch.softmax, Tensor.softmax)

PATCH = 4
"""Side in pixels of the noise's squares at the least: finer noise is averaged away where the image is scaled down."""


LEAST = 1e-3
"""Of the strongest response: what is less is rounding."""


FLAT = 1.5
"""A token whose own place moves it less than this many times as much as another has none on that axis."""


class _Seen(Exception):
    """The decoder's input is there: nothing after it needs to run."""


def decoder_input(model: Any, inputs: Mapping[str, Any]) -> Float[Tensor, "batch token hidden"]:
    """What the first layer of the text decoder is given, in float32 on the CPU; see `decoder_call`."""
    return decoder_call(model, inputs)[0]


@torch.inference_mode()
def decoder_call(model: Any, inputs: Mapping[str, Any]) -> tuple[Float[Tensor, "batch token hidden"], Tensor | None]:
    """-> (`decoder_input`, the position ids that the decoder is given, None where it counts); nothing after it runs.

    `inputs`: of the model's forward, where the model is. Raises ModelError for a model without such a decoder.
    """
    got: list[Tensor] = []
    positions: list[Tensor | None] = []

    def take(_: Any, arguments: tuple, options: dict) -> None:
        got.append(arguments[0] if arguments else options["hidden_states"])
        raise _Seen

    def count(_: Any, __: tuple, options: dict) -> None:
        positions.append(options.get("position_ids"))

    with ONE_PASS:
        hooks = [
            _first_layer(model).register_forward_pre_hook(take, with_kwargs=True),
            model.get_decoder().register_forward_pre_hook(count, with_kwargs=True),
        ]
        try:
            model.base_model(**inputs, use_cache=False)
        except _Seen:
            pass
        finally:
            for hook in hooks:
                hook.remove()
    if not got:
        raise ModelError("The model's forward pass does not run its text decoder: it has no image tokens to look at.")
    # Gemma 3n's layers take several versions of the sequence, [version, batch, token, hidden]: first the input itself.
    given = got[0] if got[0].dim() == 3 else got[0][0]
    return given.float().cpu(), positions[0]


def _first_layer(model: Any) -> nn.Module:
    decoder = model.get_decoder()
    for part in (decoder, getattr(decoder, "model", None), getattr(decoder, "decoder", None)):
        if isinstance(layers := getattr(part, "layers", None), nn.ModuleList):
            return layers[0]
    raise ModelError(f"The text decoder {type(decoder).__name__} has no layers that can be told apart.")


class NearSighted(TorchFunctionMode):
    """While open, tokens of a tower see themselves alone, so that each keeps to its own place.

    Which place that is, neither a tower's attention decides nor a convolution that goes from one place to the next, nor
    a group norm, which has the mean and variance of the first image that it saw: where tokens are words of a picture
    vocabulary, a change of either makes other words anywhere.
    Attention between different tokens, as of the queries of a Q-Former or resampler to the patches, stays as it is:
    there are not as many of the ones as of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._moments: dict[Any, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict[str, Any] | None = None
    ) -> Any:
        if function is nn.functional.scaled_dot_product_attention and len(arguments) >= 3:
            query, key, value = arguments[:3]
            if query.shape[-2] == key.shape[-2]:
                return value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
        if function is nn.functional.group_norm:
            return self._group_norm(*arguments, **options or {})
        if function is nn.functional.conv2d and len(arguments) > 3:
            pixels, weight, bias, stride, *how = arguments
            arguments = (pixels, _of_its_place(weight, stride), bias, stride, *how)
        result = function(*arguments, **options or {})
        if function in SOFTMAX and result.ndim > 2 and result.shape[-1] == result.shape[-2]:
            return torch.eye(result.shape[-1], dtype=result.dtype, device=result.device).expand_as(result)
        return result

    def _group_norm(self, pixels: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        apart = pixels.unflatten(1, (groups, -1))
        over = tuple(range(2, apart.ndim))
        variance, mean = self._moments.setdefault(weight, torch.var_mean(apart, over, correction=0, keepdim=True))
        normed = ((apart - mean) * (variance + eps).rsqrt()).flatten(1, 2).movedim(1, -1)
        return (normed * weight + bias).movedim(-1, 1)


def _of_its_place(weight: Tensor, stride: int | tuple[int, ...]) -> Tensor:
    """What a convolution has for its own place alone, where it steps by one; one that cuts patches stays as it is."""
    if weight.shape[-1] == 1 or stride not in (1, (1, 1)):
        return weight
    row, col = (size // 2 for size in weight.shape[-2:])
    own = torch.zeros_like(weight)
    own[..., row, col] = weight[..., row, col]
    return own


def noise(width: int, height: int, seed: int) -> Image.Image:
    """An image of coloured squares: every patch of it holds something, unlike those of a plain ground."""
    side = max(PATCH, min(width, height) // 48)
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // side), -(-width // side), 3), dtype=np.uint8)
    return Image.fromarray(small.repeat(side, axis=0).repeat(side, axis=1)[:height, :width])


def response(look: Look, image: Image.Image, ground: Tensor, box: Sequence[int]) -> Float[np.ndarray, "token"]:
    """How far each image token moves when a rectangle (xyxy, in pixels) of the image is painted over with noise.

    `ground`: what `look` gave of the image as it is.
    """
    x0, y0, x1, y1 = box
    painted = image.copy()
    painted.paste(noise(x1 - x0, y1 - y0, seed=7), (x0, y0))
    return (look(painted) - ground).norm(dim=-1).numpy()


@dataclass(frozen=True)
class Places:
    """Where in an image each of its tokens looks."""

    centres: Float[np.ndarray, "token 2"]
    """(x, y) in pixels of the image; NaN where nothing in the image moves the token."""
    sizes: Float[np.ndarray, "token 2"]
    """Width and height of what moves it, in the same pixels."""
    contrast: Float[np.ndarray, "token"]
    """How much more its own place moves a token than another does, on the axis that tells more: 1 is no more, and 0 is
    a token that nothing moves, such as a line break."""


def find_places(look: Look, width: int, height: int, bands: tuple[int, int] = (24, 24), grounds: int = 2) -> Places:
    """Paints one band after the other over images of noise, first upright ones and then level ones.

    `bands`: how many of each; a token's place is found to a part of one. Every band costs a forward pass of the vision
    tower on each of so many `grounds`, over which the response is averaged.
    """
    images = [noise(width, height, seed) for seed in range(grounds)]
    seen = [(image, look(image)) for image in images]
    found = []
    for axis, pixels in enumerate((width, height)):
        edges = np.linspace(0, pixels, min(bands[axis], pixels) + 1).round().astype(int).tolist()
        boxes = [(a, 0, b, height) if axis == 0 else (0, a, width, b) for a, b in pairwise(edges)]
        moved = np.mean([[response(look, *one, box) for box in boxes] for one in seen], axis=0).T
        found.append(_peaks(moved, np.array(edges)))
    centres, sizes, contrasts = (np.stack(one, axis=1) for one in zip(*found, strict=True))
    return Places(centres, sizes, contrasts.max(axis=1))


def _peaks(moved: Float[np.ndarray, "token band"], edges: Float[np.ndarray, "edge"]) -> tuple[np.ndarray, ...]:
    """-> (centre of the bands around each token's highest, their width, how far that one stands above the others).

    A vision tower's attention moves every token a little whatever is painted, and some bands move all tokens more than
    others do: both are taken out.
    """
    usual = np.median(moved, axis=1, keepdims=True)
    relative = moved / np.maximum(usual, moved.max() * LEAST + 1e-30)
    above = np.clip(relative - np.maximum(np.quantile(relative, 0.25, axis=0), 1), 0, None)
    peak, highs = above.argmax(axis=1)[:, None], above >= above.max(axis=1, keepdims=True) / 4
    lows = ~(binary_closing(highs, np.ones((1, 3), dtype=bool)) | highs)
    # Bands without a low one between them and the highest have as many low ones before them.
    run = np.cumsum(lows, axis=1)
    near = (run == np.take_along_axis(run, peak, axis=1)) & ~lows
    with np.errstate(invalid="ignore", divide="ignore"):
        middles = (edges[1:] + edges[:-1]) / 2
        centre = (above * near) @ middles / (above * near).sum(axis=1)
    contrast = np.where(moved.any(axis=1), 1 + above.max(axis=1), 0)
    # What all bands move alike lies along all of them, as the cells of the only row do.
    flat, whole = (contrast > 0) & (contrast < FLAT), float(edges[-1] - edges[0])
    return np.where(flat, whole / 2, centre), np.where(flat, whole, near @ np.diff(edges)), contrast
