"""Which adapter serves which family. A new family is one small file here and one line below: see TEMPLATE.md."""

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from locheads.errors import ModelError
from locheads.geometry import Preprocess
from locheads.models import variants  # noqa: F401  makes AutoConfig and AutoModel know the families of our own
from locheads.models.adapters import own_aspect, square_view, tiled
from locheads.models.adapters.family import FamilyAdapter, PreparedInput, Sharing, attending_layers
from locheads.models.adapters.probed import ProbedAdapter

FAMILIES: dict[str, Any] = {
    "llava": square_view.llava_adapter,
    "locheads_llava": square_view.LlavaAdapter,
    "locheads_mini_gemini": square_view.LlavaAdapter,
    "vipllava": square_view.LlavaAdapter,
    "llava_next": tiled.LlavaNextAdapter,
    "llava_onevision": tiled.LlavaOnevisionAdapter,
    "deepseek_vl": square_view.DeepseekVlAdapter,
    "deepseek_vl_hybrid": square_view.DeepseekVlAdapter,
    "janus": square_view.DeepseekVlAdapter,
    "got_ocr2": square_view.GotOcr2Adapter,
    "internvl": tiled.InternVlAdapter,
    "aya_vision": tiled.InternVlAdapter,
    "cohere2_vision": tiled.InternVlAdapter,
    "llama4": tiled.Llama4Adapter,
    "perception_lm": tiled.PerceptionLmAdapter,
    "molmo2": tiled.Molmo2Adapter,
    "lfm2_vl": tiled.Lfm2VlAdapter,
    "ovis2": tiled.Ovis2Adapter,
    "qwen2_vl": own_aspect.QwenVlAdapter,
    "qwen2_5_vl": own_aspect.QwenVlAdapter,
    "qwen3_vl": own_aspect.QwenVlAdapter,
    "qwen3_vl_moe": own_aspect.QwenVlAdapter,
    "qwen2_5_omni_thinker": own_aspect.QwenVlAdapter,
    "glm4v": own_aspect.Glm4vAdapter,
    "glm46v": own_aspect.Glm4vAdapter,
    "glm4v_moe": own_aspect.Glm4vAdapter,
    "ernie4_5_vl_moe": own_aspect.ErnieVlAdapter,
    "kimi_k25": own_aspect.KimiAdapter,
    "gemma3n": square_view.SquareAdapter,
    "gemma3": square_view.Gemma3Adapter,
    "gemma4": own_aspect.Gemma4Adapter,
    "paligemma": square_view.PaliGemmaAdapter,
    "idefics3": tiled.IdeficsAdapter,
    "smolvlm": tiled.IdeficsAdapter,
    "mistral3": own_aspect.PixtralAdapter,
    "fuyu": own_aspect.FuyuAdapter,
    "emu3": own_aspect.Emu3Adapter,
    "chameleon": square_view.ChameleonAdapter,
}
"""transformers' `config.model_type` -> adapter, called as (processor, config, preprocess, tiles=False)."""

NO_MAP = "so there is no attention map from the text to the patches"
CROSS_ATTENTION = f"its decoder looks at the image through cross-attention, apart from its own sequence, {NO_MAP}"
FEW_QUERIES = f"turns the image into a few learned queries, none of which belongs to a place in it, {NO_MAP}"
ENCODER_DECODER = f"the image goes to its encoder, and its decoder has no image tokens in its own sequence, {NO_MAP}"
HYBRID = (
    "only some layers of its decoder attend, the others carry what is seen on from token to token; of such decoders "
    "the attention pass knows LFM2's alone"
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(("mllama", "idefics", "blip"), CROSS_ATTENTION),
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo"), f"a Q-Former {FEW_QUERIES}"),
    **dict.fromkeys(("idefics2", "kosmos-2", "kosmos-2.5", "aria"), f"a resampler {FEW_QUERIES}"),
    **dict.fromkeys(("lfm3_vl", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "glm5_next", "minicpm_ocr"), HYBRID),
    **dict.fromkeys(("minicpmv4_6", "minicpmv4_7", "nemotron_h_omni"), HYBRID),
    **dict.fromkeys(("florence2", "pix2struct", "udop", "vision-encoder-decoder"), ENCODER_DECODER),
}
"""Families that can have no adapter, or whose maps the attention pass cannot take, with the reason."""

ON_THE_HUB: dict[str, str] = {
    "multi_modality": "deepseek-community/deepseek-vl-1.3b-chat or -7b-chat",
    "internvl_chat": "OpenGVLab/InternVL3-8B-hf or another repository whose name ends in -hf",
}
"""`model_type` of checkpoints in their authors' own format -> where the hub has their form for transformers."""


def adapter_class(model_type: str, source: str) -> Any:
    """The adapter of a family, to be called as (processor, config, preprocess, tiles=False).

    Raises ModelError for a family without one, saying why there can be none or which file to write.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    check_not_refused(model_type, source)
    if model_type in ON_THE_HUB:
        raise ModelError(
            f"{source} is a {model_type!r} model in its authors' own format, which transformers does not know: use its "
            f"transformers form, model.id={ON_THE_HUB[model_type]}."
        )
    if model_type not in CONFIG_MAPPING_NAMES:
        raise ModelError(
            f"{source} is a {model_type!r} model, which transformers does not know: use a checkpoint in transformers' "
            "own format (often a repository whose name ends in -hf), or convert it: python -m locheads.models.convert."
        )
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        text = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        what = "reads text alone" if text else "answers no text about an image"
        raise ModelError(f"{source} is a {model_type!r} model, which {what}: choose a family of docs/models.md.")
    raise ModelError(
        f"{source} is a {model_type!r} model, which has no adapter yet (there are: {', '.join(sorted(FAMILIES))}): "
        f"write src/locheads/models/adapters/{model_type}.py after TEMPLATE.md in that folder and list it in FAMILIES "
        "of __init__.py; or let the model be asked where its image tokens look: model.adapter=probe."
    )


def check_not_refused(model_type: str, source: str) -> None:
    """Raises ModelError for a family that can have no adapter, with the reason."""
    if model_type in REFUSED:
        raise ModelError(
            f"{source} is a {model_type!r} model, which cannot be used: {REFUSED[model_type]}. Choose a model of "
            "another family."
        )


def default_preprocess(checkpoint: Any) -> Preprocess:
    """How conf/model has a family's images prepared: padded where the original did and the converted checkpoint's
    processor crops (LLaVA-1.5, ViP-LLaVA), else as the checkpoint's own processor does."""
    vision = getattr(getattr(checkpoint, "vision_config", None), "model_type", None)
    padded = checkpoint.model_type in ("llava", "vipllava") and vision != "pixtral"
    return Preprocess.pad if padded else Preprocess.native


__all__ = [
    "FAMILIES", "FamilyAdapter", "PreparedInput", "ProbedAdapter", "Sharing", "adapter_class", "attending_layers",
    "check_not_refused", "default_preprocess",
]  # fmt: skip
