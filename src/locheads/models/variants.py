"""The parts that transformers' own Llava lacks, each the smallest subclass that adds it.

Importing this makes them known to AutoConfig and AutoModelForImageTextToText under their `model_type`, so a converted
checkpoint loads like any other, without code from its folder. `LlavaVariant` has another projector than transformers'
own two layers: a single linear one, or one with layer norms. Mini-Gemini (arXiv 2403.18814) is a LLaVA whose CLIP
tokens each look up details in a ConvNeXt's view of the same patch, enlarged ("patch info mining"); the large image is
given, and the small one is made from it, as in the original.
"""

import re
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    ConvNextConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.convnext.modeling_convnext import ConvNextEmbeddings, ConvNextStage
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


@strict
class MiniGeminiConfig(LlavaConfig):
    """A LlavaConfig with a second vision tower."""

    model_type = "locheads_mini_gemini"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        **LlavaConfig.sub_configs_defaults,
        "vision_config_aux": SubConfigSpec(config_class=AutoConfig, model_type="convnext"),
    }

    vision_config_aux: Any = None
    image_size_aux: int = 768
    """Side of the large image, in pixels."""


class ConvNextTrunk(nn.Module):
    """A ConvNeXt without its head: the features of all stages, at the size of the first."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.embeddings = ConvNextEmbeddings(config)
        sizes = [config.hidden_sizes[0], *config.hidden_sizes]
        self.stages = nn.ModuleList(
            ConvNextStage(config, sizes[i], sizes[i + 1], stride=1 if i == 0 else 2, depth=depth)
            for i, depth in enumerate(config.depths)
        )

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel row col"]:
        x, found = self.embeddings(pixels), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        size = found[0].shape[-2:]
        large = [interpolate(y.float(), size=size, mode="bilinear").to(y.dtype) for y in found[1:]]
        return torch.cat([found[0], *large], dim=1)


class MiniGeminiModel(LlavaModel):
    """LlavaModel that adds what the second tower sees to every token of the first."""

    config: MiniGeminiConfig

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        width, detail = config.vision_config.hidden_size, sum(config.vision_config_aux.hidden_sizes)
        self.vision_tower_aux = ConvNextTrunk(config.vision_config_aux)
        self.vlm_uni_query_projector = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.vlm_uni_aux_projector = nn.Sequential(nn.LayerNorm(detail), nn.Linear(detail, width))
        self.vlm_uni_val_projector = nn.Sequential(nn.LayerNorm(detail), nn.Linear(detail, width))
        # Gemma multiplies whatever it is given by this, images too; transformers' own does so to words only.
        gemma = config.text_config.model_type == "gemma"
        self.scale = config.text_config.hidden_size**0.5 if gemma else 1.0
        self.post_init()

    def get_image_features(
        self,
        pixel_values: Float[Tensor, "batch 3 side side"],
        vision_feature_layer: int | None = None,
        vision_feature_select_strategy: str | None = None,
        image_sizes: None = None,
        **options: Any,
    ) -> BaseModelOutputWithPooling:
        """What the text decoder gets for each large image, in `pooler_output`: a list of [cell, width]."""
        side = self.config.vision_config.image_size
        small = interpolate(pixel_values, size=(side, side), mode="bilinear", align_corners=False)
        states = self.vision_tower(small, output_hidden_states=True, return_dict=True).hidden_states
        tokens = states[self.config.vision_feature_layer][:, 1:]
        mined = self.mine(tokens, self.vision_tower_aux(pixel_values))
        features = self.multi_modal_projector(tokens + mined) * self.scale
        return BaseModelOutputWithPooling(pooler_output=list(features))

    def mine(
        self, tokens: Float[Tensor, "batch cell width"], details: Float[Tensor, "batch channel row col"]
    ) -> Float[Tensor, "batch cell width"]:
        """Each token attends to the details that lie in its own cell, and to nothing else."""
        grid = round(tokens.shape[1] ** 0.5)
        inside = details.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))  # batch, channel, row, y, col, x
        inside = inside.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)  # batch, cell, detail, channel
        query, keys = self.vlm_uni_query_projector(tokens), self.vlm_uni_aux_projector(inside)
        weights = (query[:, :, None] @ (keys.transpose(-1, -2) / keys.shape[-1] ** 0.5)).softmax(dim=-1)
        return (weights @ self.vlm_uni_val_projector(inside))[:, :, 0]


class _OnTopOf(LlavaForConditionalGeneration):
    """LlavaForConditionalGeneration on top of a model of ours."""

    inner: ClassVar[type[LlavaModel]]

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        self.model = self.inner(config)
        self.post_init()


class LlavaVariantForConditionalGeneration(_OnTopOf):
    config: LlavaVariantConfig
    inner = LlavaVariantModel


class MiniGeminiForConditionalGeneration(_OnTopOf):
    config: MiniGeminiConfig
    inner = MiniGeminiModel


VARIANTS: dict[Any, Any] = {
    LlavaVariantConfig: LlavaVariantForConditionalGeneration,
    MiniGeminiConfig: MiniGeminiForConditionalGeneration,
}
"""Configuration -> model."""

for _config, _model in VARIANTS.items():
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageTextToText.register(_config, _model, exist_ok=True)
