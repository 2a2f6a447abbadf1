"""Which tokens answer where in an image something bright is painted: through processor, vision tower and projector."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from locheads.errors import ModelError
from locheads.models.adapters import PreparedInput
from locheads.models.attend import run_batch
from locheads.models.batching import collate, single
from locheads.models.capture import Done
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm
from locheads.types import Box

GROUND, PAINT = (90, 90, 90), (255, 255, 255)
PROMPT = PromptConfig(template="<image>\n{expression}")


def plain_image(width: int, height: int) -> Image.Image:
    """A ground on which anything that is painted stands out."""
    return Image.new("RGB", (width, height), GROUND)


def token_response(lvlm: Lvlm, image: Image.Image, boxes: Sequence[Box]) -> Float[np.ndarray, "box token"]:
    """How much each token's vector changes, before the decoder, where each box (xyxy in whole pixels) is painted white.

    The tokens are those of the prompt up to the last image token.
    """
    before = token_vectors(lvlm, _prepared(lvlm, image))
    changes = [token_vectors(lvlm, _prepared(lvlm, _painted(image, box))) - before for box in boxes]
    return torch.stack(changes).norm(dim=-1).cpu().numpy()


@torch.inference_mode()
def token_vectors(lvlm: Lvlm, prepared: PreparedInput) -> Float[Tensor, "token hidden"]:
    """What the decoder is given for the prefix, in float32; the decoder does not run.

    Raises:
        ModelError: the decoder is given no vectors.
    """
    got: list[Tensor] = []

    def take(_: object, arguments: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
        got.append(options["inputs_embeds"])
        raise Done

    hook = lvlm.model.get_decoder().register_forward_pre_hook(take, with_kwargs=True)
    try:
        run_batch(lvlm, collate(single(prepared)[:1], shared=False))
    except Done:
        pass
    finally:
        hook.remove()
    if not got:
        raise ModelError("The model's decoder was given no image tokens: the family needs an adapter of its own.")
    return got[0][0, : len(prepared.prefix)].float()


def _prepared(lvlm: Lvlm, image: Image.Image) -> PreparedInput:
    return lvlm.adapter.prepare(image, ["it"], PROMPT)


def _painted(image: Image.Image, box: Box) -> Image.Image:
    x0, y0, x1, y1 = (round(side) for side in box)
    copy = image.copy()
    copy.paste(PAINT, (x0, y0, x1, y1))
    return copy
