"""The attention pass: the only step that runs the LVLM."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image

from locheads.config import PromptConfig
from locheads.discovery.criteria import attention_sum
from locheads.models.adapters import PreparedInput
from locheads.models.capture import recording
from locheads.models.geometry import Geometry
from locheads.models.load import Lvlm
from locheads.models.packing import Packed, pack
from locheads.types import Attention, ImageGroup


def attend(lvlm: Lvlm, group: ImageGroup, image: Image, prompt: PromptConfig) -> Attention:
    """The attention pass for a picture of a data set, see `attend_image`."""
    maps, geometry = attend_image(lvlm, image, [sample.expression for sample in group.samples], prompt)
    ids = tuple(sample.sample_id for sample in group.samples)
    return Attention(group.image_id, ids, maps, attention_sum(maps), geometry)


def attend_image(
    lvlm: Lvlm, image: Image, expressions: Sequence[str], prompt: PromptConfig
) -> tuple[Float[np.ndarray, "sample layer head row col"], Geometry]:
    """Maps of every layer and head from the last input token of each expression to the image tokens.

    One forward pass for all expressions of the picture.

    Raises:
        DataError: an expression that cannot be asked.
    """
    prepared = lvlm.adapter.prepare(image, expressions, prompt)
    rows = _rows(lvlm, prepared)
    return rows.reshape(*rows.shape[:3], prepared.geometry.rows, prepared.geometry.cols), prepared.geometry


@torch.inference_mode()
def _rows(lvlm: Lvlm, prepared: PreparedInput) -> Float[np.ndarray, "sample layer head cell"]:
    packed = pack(prepared.prefix, prepared.suffixes)
    with recording(packed.queries.to(lvlm.device), prepared.image_tokens.to(lvlm.device)) as recorder:
        _forward(lvlm, packed, prepared)
    return torch.stack(recorder.rows)[:, 0].permute(2, 0, 1, 3).cpu().numpy()


def _forward(lvlm: Lvlm, packed: Packed, prepared: PreparedInput) -> None:
    dtype = lvlm.model.dtype
    tensors = {k: v.to(lvlm.device, dtype if v.is_floating_point() else None) for k, v in prepared.tensors.items()}
    # base_model: no logits are needed, so the LM head does not run.
    lvlm.model.base_model(
        input_ids=packed.input_ids.to(lvlm.device),
        position_ids=packed.position_ids.to(lvlm.device),
        attention_mask=packed.mask.to(lvlm.device),
        use_cache=False,
        **tensors,
    )
