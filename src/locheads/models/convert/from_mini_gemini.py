"""Mini-Gemini's own format (its later name is MGM): a Gemma or LLaMA decoder, a CLIP, and OpenCLIP's ConvNeXt."""

import re
from pathlib import Path
from typing import Any

from transformers import ConvNextConfig, LlavaProcessor, PreTrainedTokenizerFast

from locheads.errors import ModelError
from locheads.models.convert import vision_towers as towers
from locheads.models.convert.checkpoint import Checkpoint
from locheads.models.convert.original_tokenizers import IMAGE, chat_template, read_tokenizer
from locheads.models.convert.rules import Format, Part, Recipe, Request, Rule, prefixed, to, with_rows
from locheads.models.variants import MiniGeminiConfig

AUX = "model.vision_tower_aux."
IN_OPEN_CLIP = "visual.trunk."
FIXED = {
    "mm_projector_type": "mlp2x_gelu", "image_grid": 1, "image_global": False, "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
}  # fmt: skip
"""Settings that can be converted with one value only."""
CONNECTOR = (
    *towers.TWO_LAYERS,
    to(r"model\.(vlm_uni_(?:query|aux|val)_projector\..+)", r"model.\1"),
)

_STAGE, _MADE = r"stages\.(\d+)\.", AUX + r"stages.\1."
_BLOCK, _LAYER = _STAGE + r"blocks\.(\d+)\.", _MADE + r"layers.\2."
CONVNEXT = (
    to(r"stem\.0\.(.+)", AUX + r"embeddings.patch_embeddings.\1"),
    to(r"stem\.1\.(.+)", AUX + r"embeddings.layernorm.\1"),
    to(_STAGE + r"downsample\.(.+)", _MADE + r"downsampling_layer.\2"),
    to(_BLOCK + r"conv_dw\.(.+)", _LAYER + r"dwconv.\3"),
    to(_BLOCK + r"norm\.(.+)", _LAYER + r"layernorm.\3"),
    to(_BLOCK + r"mlp\.fc([12])\.(.+)", _LAYER + r"pwconv\3.\4"),
    to(_BLOCK + r"gamma", _LAYER + "layer_scale_parameter"),
)
"""Key map of a ConvNeXt in timm's names."""
REST_OF_CLIP = Rule(
    rf"(?!{re.escape(IN_OPEN_CLIP)}(stem|stages)\.).+", unused="other parts of the CLIP that the ConvNeXt is from"
)


def _recipe(request: Request) -> Recipe:
    for key, value in FIXED.items():
        if (found := request.settings.get(key, value)) != value:
            raise ModelError(f"{request.source / 'config.json'}: {key}={found} is not supported, only {value} is.")
    words = read_tokenizer(request.source, fast=True)
    rows = towers.vocabulary_rows(request, words)
    weights = Checkpoint(request.source)
    # The checkpoint's own CLIP counts, as in the original code, which loads it over the folder's.
    clip = towers.find_tower(request, weights, True, lambda folder, _: towers.describe_clip(request, folder))
    trunk = _trunk(request, weights)
    config = MiniGeminiConfig(
        vision_config=clip.config,
        vision_config_aux=trunk.config,
        text_config=_text_settings(request, rows),
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        image_size_aux=request.need("image_size_aux"),
        vision_feature_layer=request.settings.get("mm_vision_select_layer", -2),
        tie_word_embeddings=_is_gemma(request),
    )
    tied = (Rule(r"lm_head\.weight", unused="Gemma's is its embedding"),) if _is_gemma(request) else ()
    rules = (*tied, *towers.llama(with_rows(rows)), *CONNECTOR, *clip.inside, *trunk.inside)
    parts = (Part("checkpoint", weights, rules), clip.part, trunk.part)
    notes = (clip.note, trunk.note)
    return Recipe(config, _processor(request, words, config), tuple(part for part in parts if part), notes)


def _is_gemma(request: Request) -> bool:
    return "gemma" in str(request.settings.get("model_type", "")).lower()


def _text_settings(request: Request, rows: int) -> dict[str, Any]:
    settings = towers.llama_settings(request.settings, rows)
    if not _is_gemma(request):
        return settings
    # Up to 4.38.1 transformers took a Gemma's "gelu" at its word; now it takes the tanh form for it, but for this name.
    act = {"gelu": "gelu_python"}.get(settings["hidden_act"], settings["hidden_act"])
    return {**settings, "model_type": "gemma", "hidden_act": act, "tie_word_embeddings": True}


def _trunk(request: Request, weights: Checkpoint) -> towers.Tower:
    """The ConvNeXt's own folder counts, as in the original code, unless it was tuned along."""

    def describe(folder: Path | None, own: bool) -> towers.Description:
        if folder is None or own:
            return _convnext_config(weights, towers.AUX_INSIDE), CONVNEXT
        return _convnext_config(Checkpoint(folder), IN_OPEN_CLIP), (*prefixed(IN_OPEN_CLIP, CONVNEXT), REST_OF_CLIP)

    tuned = bool(request.settings.get("optimize_vision_tower_aux", False))
    return towers.find_tower(request, weights, tuned, describe, "vision_tower_aux")


def _convnext_config(weights: Checkpoint, prefix: str) -> ConvNextConfig:
    """Widths and depths of the stages, as the weights have them: its own settings only name the model."""
    widths: dict[int, int] = {}
    depths: dict[int, int] = {}
    for key, outline in weights.outlines():
        if match := re.fullmatch(re.escape(prefix) + r"stages\.(\d+)\.blocks\.(\d+)\.norm\.weight", key):
            stage, block = int(match[1]), int(match[2])
            widths[stage], depths[stage] = outline.shape[0], max(depths.get(stage, 0), block + 1)
    stages = sorted(widths)
    if not stages or stages != list(range(len(stages))):
        raise ModelError(f"{weights.folder} holds no ConvNeXt ({prefix}stages.0 and so on): give another folder.")
    return ConvNextConfig(
        num_stages=len(stages), hidden_sizes=[widths[i] for i in stages], depths=[depths[i] for i in stages]
    )


def _processor(request: Request, words: PreTrainedTokenizerFast, config: MiniGeminiConfig) -> LlavaProcessor:
    side, grid = config.image_size_aux, config.vision_config.image_size // config.vision_config.patch_size
    pad = request.settings.get("image_aspect_ratio") == "pad"
    conversation = request.conversation or ("mini_gemini" if _is_gemma(request) else "vicuna_v1")
    return LlavaProcessor(
        towers.image_processor(side, pad), words, patch_size=side // grid, num_additional_image_tokens=1,
        vision_feature_select_strategy="default", chat_template=chat_template(conversation, IMAGE),
    )  # fmt: skip


MINI_GEMINI = Format(
    "mini_gemini",
    "Mini-Gemini (MGM) with one image per prompt, such as MGM-2B",
    lambda settings: "mm_vision_tower_aux" in settings,
    _recipe,
)
