"""LLaVA with another projector than transformers' own two layers: a single linear one, or one with layer norms."""

import re

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llava.modeling_llava import LlavaModel

from locheads.errors import ModelError


@strict
class LlavaVariantConfig(LlavaConfig):
    """A LlavaConfig with the two settings of the original that transformers' own does not have."""

    model_type = "locheads_llava"

    projector: str = "linear"
    """The original's `mm_projector_type`: linear (LLaVA v1), mlp2x_gelu (1.5), mlp2x_gelu_Norm (Yi-VL)."""
    image_wrapping: str = "{}"
    """What stands around the image tokens in every prompt: `<im_start>{}<im_end>` where LLaVA v1 was trained so."""


def projector(kind: str, inputs: int, outputs: int) -> nn.Sequential:
    """The original's projector; the names of its weights are those of the original, 0.weight and so on.

    Raises:
        ModelError: a kind that is not one of these.
    """
    form = re.fullmatch(r"linear|mlp(?P<depth>\d+)x_gelu(?P<norm>_Norm)?", kind)
    if form is None:
        raise ModelError(f"The projector {kind!r} is unknown: linear, mlp2x_gelu and mlp2x_gelu_Norm can be built.")
    layers: list[nn.Module] = []
    for i in range(int(form["depth"] or 1)):
        layers += [nn.GELU()] if i else []
        layers.append(nn.Linear(inputs if i == 0 else outputs, outputs))
        layers += [nn.LayerNorm(outputs)] if form["norm"] else []
    return nn.Sequential(*layers)


class LlavaVariantModel(LlavaModel):
    """LlavaModel with the projector of its configuration."""

    config: LlavaVariantConfig

    def __init__(self, config: LlavaVariantConfig) -> None:
        super().__init__(config)
        sizes = config.vision_config.hidden_size, config.text_config.hidden_size
        self.multi_modal_projector = projector(config.projector, *sizes)
        self.post_init()


class LlavaVariantForConditionalGeneration(LlavaForConditionalGeneration):
    """LlavaForConditionalGeneration on top of `LlavaVariantModel`."""

    config: LlavaVariantConfig

    def __init__(self, config: LlavaVariantConfig) -> None:
        super().__init__(config)
        self.model = LlavaVariantModel(config)
        self.post_init()
