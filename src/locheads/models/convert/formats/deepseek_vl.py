"""DeepSeek-VL's own format: the 1.3B with a SigLIP, and the 7B with a SAM beside it for an image of 1024 pixels."""

import re
from collections.abc import Mapping
from typing import Any

from transformers import (
    DeepseekVLConfig,
    DeepseekVLHybridConfig,
    DeepseekVLHybridProcessor,
    DeepseekVLProcessor,
    SamVisionConfig,
    SiglipVisionConfig,
)
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil
from transformers.models.deepseek_vl_hybrid.image_processing_pil_deepseek_vl_hybrid import (
    DeepseekVLHybridImageProcessorPil,
)

from locheads.errors import ModelError
from locheads.models.convert import towers
from locheads.models.convert.conversations import chat_template
from locheads.models.convert.recipe import Format, Recipe, Request
from locheads.models.convert.rules import Part, drop, prefixed, split_rows, to, with_rows
from locheads.models.convert.source import Checkpoint, read_json
from locheads.models.convert.tokenizers import Words, read_tokenizer

IMAGE = "<image_placeholder>"
LLAMA = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "max_position_embeddings": 2048,
}  # fmt: skip
"""What transformers 4 took where a LLaMA's configuration was silent, as DeepSeek-VL's are."""
SIGLIP_HEADS = 16
"""Of every SigLIP that the original knows by name."""
SAM = {"sam_b_downsample": {"num_attention_heads": 12, "global_attn_indexes": [2, 5, 8, 11], "window_size": 14}}
"""What the original knows of a SAM by its name; sizes are taken from the weights."""
HIGH, LOW = "vision_model.vision_tower_high.vision_tower.", "vision_model.vision_tower_low.vision_tower."
ROUNDING = "transformers rounds the resized short side where the original truncates it: it may be one pixel longer."


def _fits(settings: Mapping[str, Any]) -> bool:
    kinds = ("CLIPVisionTower", "HybridVisionTower")
    return settings.get("model_type") == "multi_modality" and settings.get("vision_config", {}).get("cls") in kinds


def _recipe(request: Request) -> Recipe:
    words = read_tokenizer(request.source, IMAGE, fast=True)
    weights = Checkpoint(request.source)
    shapes = {key: tuple(outline.shape) for key, outline in weights.outlines()}
    language = {**LLAMA, **request.need("language_config")}
    rows = max(int(language.get("vocab_size", 32000)), words.size)
    hybrid = request.need("vision_config")["cls"] == "HybridVisionTower"
    common = {
        "text_config": towers.llama_settings(language, rows),
        "image_token_id": words.image_token_id,
        "tie_word_embeddings": False,
    }
    params = request.settings["vision_config"]["params"]
    decoder = towers.llama(with_rows(rows), source="language_model.")
    if hybrid:
        config = DeepseekVLHybridConfig(
            vision_config=_siglip(shapes, LOW, params["low_res_cfg"]["image_size"]),
            high_res_vision_config=_sam(request, shapes, params["high_res_cfg"]), **common,
        )  # fmt: skip
        rules = (*decoder, *prefixed(LOW, SIGLIP), *prefixed(HIGH, SAM_RULES), *HYBRID_ALIGNER)
    else:
        config = DeepseekVLConfig(
            vision_config=_siglip(shapes, "vision_model.vision_tower.", params["image_size"]), **common
        )
        rules = (*decoder, *prefixed("vision_model.vision_tower.", SIGLIP), *ALIGNER)
    build = _hybrid_processor if hybrid else _processor
    return Recipe(config, build(request, words, config), (Part("checkpoint", weights, rules),), (ROUNDING,))


def _siglip(shapes: Mapping[str, tuple[int, ...]], prefix: str, side: int) -> SiglipVisionConfig:
    width, _, patch, _ = _shape(shapes, prefix + "patch_embed.proj.weight")
    return SiglipVisionConfig(
        hidden_size=width, patch_size=patch, image_size=side, num_attention_heads=SIGLIP_HEADS,
        intermediate_size=_shape(shapes, prefix + "blocks.0.mlp.fc1.weight")[0],
        num_hidden_layers=_depth(shapes, prefix), hidden_act="gelu", layer_norm_eps=1e-6, vision_use_head=False,
    )  # fmt: skip


def _sam(request: Request, shapes: Mapping[str, tuple[int, ...]], params: Mapping[str, Any]) -> SamVisionConfig:
    name = params["model_name"]
    if name not in SAM:
        raise ModelError(
            f"{request.source / 'config.json'}: the tower {name} is unknown, only {', '.join(SAM)} is known."
        )
    width, _, patch, _ = _shape(shapes, HIGH + "patch_embed.proj.weight")
    depth = _depth(shapes, HIGH)
    known: dict[str, Any] = {**SAM[name]}
    known["global_attn_indexes"] = [i for i in known["global_attn_indexes"] if i < depth]
    return SamVisionConfig(
        hidden_size=width, patch_size=patch, image_size=params["image_size"], num_hidden_layers=depth,
        output_channels=_shape(shapes, HIGH + "neck.0.weight")[0],
        mlp_dim=_shape(shapes, HIGH + "blocks.0.mlp.lin1.weight")[0], layer_norm_eps=1e-6, **known,
    )  # fmt: skip


def _shape(shapes: Mapping[str, tuple[int, ...]], key: str) -> tuple[int, ...]:
    if key not in shapes:
        raise ModelError(f"The checkpoint has no {key}, which a DeepSeek-VL has: weight files are missing.")
    return shapes[key]


def _depth(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    found = [int(match[1]) for key in shapes if (match := re.match(re.escape(prefix) + r"blocks\.(\d+)\.", key))]
    return max(found, default=-1) + 1


_SEEN, _HIGH = "model.vision_model.", "model.high_res_vision_model.vision_encoder."
_LAYER = _SEEN + r"encoder.layers.\1."
SIGLIP = (
    # [1, patch, width] in timm, a table here.
    to(r"pos_embed", _SEEN + "embeddings.position_embedding.weight", change=lambda tensor: (tensor[0],)),
    to(r"patch_embed\.proj\.(.+)", _SEEN + r"embeddings.patch_embedding.\1"),
    to(
        r"blocks\.(\d+)\.attn\.qkv\.(.+)",
        *(_LAYER + rf"self_attn.{name}_proj.\2" for name in "qkv"),
        change=split_rows(1, 1, 1),
    ),
    to(r"blocks\.(\d+)\.attn\.proj\.(.+)", _LAYER + r"self_attn.out_proj.\2"),
    to(r"blocks\.(\d+)\.norm([12])\.(.+)", _LAYER + r"layer_norm\2.\3"),
    to(r"blocks\.(\d+)\.mlp\.(.+)", _LAYER + r"mlp.\2"),
    to(r"norm\.(.+)", _SEEN + r"post_layernorm.\1"),
    drop(r"attn_pool\..+", "SigLIP's pooling, which the original leaves out"),
)
"""Key map of a SigLIP in timm's names."""

_NECK = ("conv1", "layer_norm1", "conv2", "layer_norm2")
SAM_RULES = (
    to(r"pos_embed", _HIGH + "pos_embed"),
    to(r"patch_embed\.proj\.(.+)", _HIGH + r"patch_embed.projection.\1"),
    to(r"blocks\.(\d+)\.norm([12])\.(.+)", _HIGH + r"layers.\1.layer_norm\2.\3"),
    to(r"blocks\.(\d+)\.(attn|mlp)\.(.+)", _HIGH + r"layers.\1.\2.\3"),
    *(to(rf"neck\.{i}\.(.+)", _HIGH + rf"neck.{name}.\1") for i, name in enumerate(_NECK)),
    *(to(rf"neck_hd\.{i}\.(.+)", rf"model.high_res_vision_neck.{name}.\1") for i, name in enumerate(_NECK)),
    *(to(rf"downsamples\.{i}\.(.+)", rf"model.high_res_vision_proj.conv{i + 1}.\1") for i in (0, 1)),
    to(r"hd_alpha_downsamples", "model.high_res_vision_alpha"),
)
"""Key map of the SAM with a second neck for the first layer that sees everything."""

ALIGNER = tuple(to(rf"aligner\.layers\.{i}\.(.+)", rf"model.aligner.linear{n}.\1") for i, n in ((0, 1), (2, 2)))
HYBRID_ALIGNER = (
    to(r"aligner\.high_up_proj\.(.+)", r"model.aligner.high_res_vision_proj.\1"),
    to(r"aligner\.low_up_proj\.(.+)", r"model.aligner.vision_proj.\1"),
    to(r"aligner\.layers\.1\.(.+)", r"model.aligner.proj.\1"),
    drop(r"vision_model\.(high|low)_layer_norm\..+", "the original makes them and does not use them"),
)


def _processor(request: Request, words: Words, config: DeepseekVLConfig) -> DeepseekVLProcessor:
    pixels = read_json(request.source / "preprocessor_config.json")
    side = config.vision_config.image_size
    images = DeepseekVLImageProcessorPil(
        size={"height": side, "width": side}, min_size=pixels.get("min_size", 14),
        image_mean=pixels.get("image_mean", towers.CLIP_MEAN), image_std=pixels.get("image_std", towers.CLIP_STD),
    )  # fmt: skip
    return DeepseekVLProcessor(
        images, words.tokenizer, chat_template=chat_template(request.conversation or "deepseek_vl", IMAGE),
        num_image_tokens=(side // config.vision_config.patch_size) ** 2,
    )  # fmt: skip


def _hybrid_processor(request: Request, words: Words, config: DeepseekVLHybridConfig) -> DeepseekVLHybridProcessor:
    """Each tower of the original normalises for itself; the small image is made from the large one, bilinearly."""
    pixels = read_json(request.source / "preprocessor_config.json")
    params = request.settings["vision_config"]["params"]
    low, high = params["low_res_cfg"], params["high_res_cfg"]
    sides = {name: {"height": cfg["image_size"], "width": cfg["image_size"]} for name, cfg in
             (("size", low), ("high_res_size", high))}  # fmt: skip
    images = DeepseekVLHybridImageProcessorPil(
        **sides, min_size=pixels.get("min_size", 14), resample=2, high_res_resample=3,
        image_mean=low["pixel_mean"], image_std=low["pixel_std"],
        high_res_image_mean=high["pixel_mean"], high_res_image_std=high["pixel_std"],
    )  # fmt: skip
    return DeepseekVLHybridProcessor(
        images, words.tokenizer, chat_template=chat_template(request.conversation or "deepseek_vl", IMAGE),
        num_image_tokens=(low["image_size"] // config.vision_config.patch_size) ** 2,
    )  # fmt: skip


DEEPSEEK_VL = Format("deepseek_vl", "DeepSeek-VL 1.3B and 7B as DeepSeek's own code saves them", _fits, _recipe)
