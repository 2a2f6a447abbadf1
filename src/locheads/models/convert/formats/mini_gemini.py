"""Mini-Gemini's own format (its later name is MGM): a Gemma or LLaMA decoder, a CLIP, and OpenCLIP's ConvNeXt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import ConvNextConfig, LlavaProcessor, PreTrainedConfig

from locheads.errors import ModelError
from locheads.models.convert import towers
from locheads.models.convert.conversations import chat_template
from locheads.models.convert.recipe import Format, Recipe, Request
from locheads.models.convert.rules import Part, Rule, drop, prefixed, to, with_rows
from locheads.models.convert.source import Checkpoint
from locheads.models.convert.tokenizers import Words, read_tokenizer
from locheads.models.variants.mini_gemini import MiniGeminiConfig

IMAGE = "<image>"
INSIDE, AUX_INSIDE = "model.vision_tower.vision_tower.", "model.vision_tower_aux.vision_"
"""Where a checkpoint keeps towers of its own."""
AUX = "model.vision_tower_aux."
IN_OPEN_CLIP = "visual.trunk."


@dataclass(frozen=True)
class Tower:
    """A vision tower: what it is, what becomes of the checkpoint's own keys, and its own folder where that counts."""

    config: PreTrainedConfig
    inside: tuple[Rule, ...]
    part: Part | None
    note: str


def _fits(settings: Mapping[str, Any]) -> bool:
    return "mm_vision_tower_aux" in settings


def _recipe(request: Request) -> Recipe:
    _check(request)
    words = read_tokenizer(request.source, IMAGE, fast=True)
    rows = max(int(request.need("vocab_size")), words.size)
    weights = Checkpoint(request.source)
    clip, trunk = _clip(request, weights), _trunk(request, weights)
    config = MiniGeminiConfig(
        vision_config=clip.config,
        vision_config_aux=trunk.config,
        text_config=_text_settings(request, rows),
        image_token_index=words.image_token_id,
        image_size_aux=request.need("image_size_aux"),
        vision_feature_layer=request.settings.get("mm_vision_select_layer", -2),
        tie_word_embeddings=_is_gemma(request),
    )
    rules = (*_language(request, rows), *CONNECTOR, *clip.inside, *trunk.inside)
    parts = (Part("checkpoint", weights, rules), clip.part, trunk.part)
    notes = (clip.note, trunk.note)
    return Recipe(config, _processor(request, words, config), tuple(part for part in parts if part), notes)


def _check(request: Request) -> None:
    fixed = {"mm_projector_type": "mlp2x_gelu", "image_grid": 1, "image_global": False, "mm_use_im_start_end": False,
             "mm_vision_select_feature": "patch"}  # fmt: skip
    for key, value in fixed.items():
        if (found := request.settings.get(key, value)) != value:
            raise ModelError(f"{request.source / 'config.json'}: {key}={found} is not supported, only {value} is.")


def _is_gemma(request: Request) -> bool:
    return "gemma" in str(request.settings.get("model_type", "")).lower()


def _text_settings(request: Request, rows: int) -> dict[str, Any]:
    settings = towers.llama_settings(request.settings, rows)
    if not _is_gemma(request):
        return settings
    # Up to 4.38.1 transformers took a Gemma's "gelu" at its word; now it takes the tanh form for it, but for this name.
    act = {"gelu": "gelu_python"}.get(settings["hidden_act"], settings["hidden_act"])
    return {**settings, "model_type": "gemma", "hidden_act": act, "tie_word_embeddings": True}


def _language(request: Request, rows: int) -> tuple[Rule, ...]:
    tied = (drop(r"lm_head\.weight", "Gemma's is its embedding"),) if _is_gemma(request) else ()
    return (*tied, *towers.llama(with_rows(rows)))


CONNECTOR = (
    to(r"model\.mm_projector\.0\.(.+)", r"model.multi_modal_projector.linear_1.\1"),
    to(r"model\.mm_projector\.2\.(.+)", r"model.multi_modal_projector.linear_2.\1"),
    to(r"model\.(vlm_uni_(?:query|aux|val)_projector\..+)", r"model.\1"),
)


def _clip(request: Request, weights: Checkpoint) -> Tower:
    """The checkpoint's own counts, as in the original code, which loads it over the folder's."""
    name = str(request.need("mm_vision_tower"))
    folder = towers.folder_of(request.source, name, request.vision_tower)
    contained = any(key.startswith(INSIDE) for key, _ in weights.outlines())
    config = towers.clip_config(folder) if folder else towers.known_clip(name)
    if config is None or (folder is None and not contained):
        raise ModelError(towers.absent(request.source, name, "--vision-tower"))
    if contained:
        return Tower(config, prefixed(INSIDE, towers.CLIP), None, f"The vision tower is the checkpoint's own ({name}).")
    assert folder is not None
    note = f"The vision tower {name} was read from {folder}."
    return Tower(config, (), Part("vision tower", Checkpoint(folder), towers.CLIP), note)


def _trunk(request: Request, weights: Checkpoint) -> Tower:
    """The ConvNeXt's own folder counts, as in the original code, unless it was tuned along."""
    name = str(request.need("mm_vision_tower_aux"))
    folder = towers.folder_of(request.source, name, request.vision_tower_aux, "open_clip_pytorch_model.bin")
    contained = any(key.startswith(AUX_INSIDE) for key, _ in weights.outlines())
    if folder is None and not contained:
        raise ModelError(towers.absent(request.source, name, "--vision-tower-aux"))
    tuned = bool(request.settings.get("optimize_vision_tower_aux", False))
    if contained and (folder is None or tuned):
        config = _convnext_config(weights, AUX_INSIDE)
        return Tower(config, _convnext(AUX_INSIDE), None, f"The second tower is the checkpoint's own ({name}).")
    assert folder is not None
    unused = drop(r"model\.vision_tower_aux\..+", "the original code reads the tower from its own folder")
    rest = drop(rf"(?!{re.escape(IN_OPEN_CLIP)}(stem|stages)\.).+", "other parts of the CLIP that the ConvNeXt is from")
    part = Part("second vision tower", Checkpoint(folder), (*_convnext(IN_OPEN_CLIP), rest))
    return Tower(_convnext_config(part.weights, IN_OPEN_CLIP), (unused,), part, f"{name} was read from {folder}.")


def _convnext(prefix: str) -> tuple[Rule, ...]:
    """Key map of a ConvNeXt in timm's names."""
    stage, made = r"stages\.(\d+)\.", AUX + r"stages.\1."
    block, layer = stage + r"blocks\.(\d+)\.", made + r"layers.\2."
    return prefixed(
        prefix,
        (
            to(r"stem\.0\.(.+)", AUX + r"embeddings.patch_embeddings.\1"),
            to(r"stem\.1\.(.+)", AUX + r"embeddings.layernorm.\1"),
            to(stage + r"downsample\.(.+)", made + r"downsampling_layer.\2"),
            to(block + r"conv_dw\.(.+)", layer + r"dwconv.\3"),
            to(block + r"norm\.(.+)", layer + r"layernorm.\3"),
            to(block + r"mlp\.fc([12])\.(.+)", layer + r"pwconv\3.\4"),
            to(block + r"gamma", layer + "layer_scale_parameter"),
        ),
    )


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


def _processor(request: Request, words: Words, config: MiniGeminiConfig) -> LlavaProcessor:
    side, grid = config.image_size_aux, config.vision_config.image_size // config.vision_config.patch_size
    pad = request.settings.get("image_aspect_ratio") == "pad"
    conversation = request.conversation or ("mini_gemini" if _is_gemma(request) else "vicuna_v1")
    return LlavaProcessor(
        towers.image_processor(side, towers.CLIP_MEAN, towers.CLIP_STD, pad), words.tokenizer, patch_size=side // grid,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat_template(conversation, IMAGE),
    )  # fmt: skip


MINI_GEMINI = Format("mini_gemini", "Mini-Gemini (MGM) with one image per prompt, such as MGM-2B", _fits, _recipe)
