"""Which adapter serves which family. A new family is one small file here and one line below: see TEMPLATE.md."""

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from locheads.errors import ModelError
from locheads.geometry import Preprocess
from locheads.models import variants  # noqa: F401  makes AutoConfig and AutoModel know the families of our own
from locheads.models.adapters.family import Adapter, PreparedInput, Sharing
from locheads.models.adapters.one_view import (
    DeepseekVlAdapter,
    DeepseekVlHybridAdapter,
    Gemma3Adapter,
    LlavaAdapter,
    PaliGemmaAdapter,
    PixtralAdapter,
    QwenVlAdapter,
    llava_adapter,
)
from locheads.models.adapters.tiled import IdeficsAdapter, InternVlAdapter, LlavaNextAdapter, LlavaOnevisionAdapter

FAMILIES: dict[str, Any] = {
    "llava": llava_adapter,
    "locheads_llava": LlavaAdapter,
    "locheads_mini_gemini": LlavaAdapter,
    "vipllava": LlavaAdapter,
    "llava_next": LlavaNextAdapter,
    "llava_onevision": LlavaOnevisionAdapter,
    "deepseek_vl": DeepseekVlAdapter,
    "deepseek_vl_hybrid": DeepseekVlHybridAdapter,
    "internvl": InternVlAdapter,
    "qwen2_vl": QwenVlAdapter,
    "qwen2_5_vl": QwenVlAdapter,
    "qwen3_vl": QwenVlAdapter,
    "gemma3": Gemma3Adapter,
    "paligemma": PaliGemmaAdapter,
    "idefics3": IdeficsAdapter,
    "smolvlm": IdeficsAdapter,
    "mistral3": PixtralAdapter,
}
"""transformers' `config.model_type` -> adapter, called as (processor, config, preprocess, tiles=False)."""

CROSS_ATTENTION = "its decoder looks at the image through cross-attention, apart from its own sequence"
Q_FORMER = "a Q-Former turns the image into a few learned queries, none of which belongs to a place in it"
RESAMPLER = "a resampler turns the image into a few learned queries, none of which belongs to a place in it"
ENCODER_DECODER = "the image goes to its encoder, and its decoder has no image tokens in its own sequence"
REFUSED: dict[str, str] = {
    "mllama": CROSS_ATTENTION,
    "idefics": CROSS_ATTENTION,
    "blip": CROSS_ATTENTION,
    "blip-2": Q_FORMER,
    "instructblip": Q_FORMER,
    "instructblipvideo": Q_FORMER,
    "idefics2": RESAMPLER,
    "kosmos-2": RESAMPLER,
    "kosmos-2.5": RESAMPLER,
    "florence2": ENCODER_DECODER,
    "pix2struct": ENCODER_DECODER,
    "udop": ENCODER_DECODER,
    "vision-encoder-decoder": ENCODER_DECODER,
}
"""Families that can have no adapter, with the reason."""


ON_THE_HUB: dict[str, str] = {
    "multi_modality": "deepseek-community/deepseek-vl-1.3b-chat or -7b-chat",
    "internvl_chat": "OpenGVLab/InternVL3-8B-hf or another repository whose name ends in -hf",
}
"""`model_type` of checkpoints in their authors' own format -> where the hub has their form for transformers."""


def own_format(model_type: str, source: str) -> ModelError:
    """The message about a checkpoint whose form for transformers lies on the hub."""
    return ModelError(
        f"{source} is a {model_type!r} model in its authors' own format, which transformers does not know: use its "
        f"transformers form, model.id={ON_THE_HUB[model_type]}."
    )


def adapter_class(model_type: str, source: str) -> Any:
    """The adapter of a family, to be called as (processor, config, preprocess, tiles=False).

    Raises ModelError for a family without one, saying why there can be none or which file to write.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    if model_type in REFUSED:
        raise ModelError(
            f"{source} is a {model_type!r} model, which cannot be used: {REFUSED[model_type]}, so there is no "
            "attention map from the text to the patches. Choose a model of another family."
        )
    if model_type in ON_THE_HUB:
        raise own_format(model_type, source)
    if model_type not in CONFIG_MAPPING_NAMES:
        raise ModelError(
            f"{source} is a {model_type!r} model, which transformers does not know: use a checkpoint in transformers' "
            "own format (often a repository whose name ends in -hf), or convert it: python -m locheads.models.convert."
        )
    raise ModelError(
        f"{source} is a {model_type!r} model, which has no adapter yet (there are: {', '.join(sorted(FAMILIES))}): "
        f"write src/locheads/models/adapters/{model_type}.py after TEMPLATE.md in that folder and list it in FAMILIES "
        "of __init__.py."
    )


def default_preprocess(checkpoint: Any) -> Preprocess:
    """How conf/model has a family's images prepared: padded where the original did and the converted checkpoint's
    processor crops (LLaVA-1.5, ViP-LLaVA), else as the checkpoint's own processor does."""
    vision = getattr(getattr(checkpoint, "vision_config", None), "model_type", None)
    padded = checkpoint.model_type in ("llava", "vipllava") and vision != "pixtral"
    return Preprocess.pad if padded else Preprocess.native


__all__ = [
    "FAMILIES",
    "ON_THE_HUB",
    "REFUSED",
    "Adapter",
    "PreparedInput",
    "Sharing",
    "adapter_class",
    "default_preprocess",
    "own_format",
]
