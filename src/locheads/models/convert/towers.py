"""Key maps and settings of the vision towers that several formats share."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, InternVLVisionConfig
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.errors import ModelError
from locheads.models.convert.rules import Change, Rule, drop, split_rows, to
from locheads.models.convert.source import read_json

TOWER = "model.vision_tower."
"""Where a LLaVA keeps its vision tower."""
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

KNOWN_CLIPS: dict[str, dict[str, Any]] = {
    f"clip-vit-large-patch14{suffix}": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": side, "projection_dim": 768,
    }
    for suffix, side in (("", 224), ("-336", 336))
}  # fmt: skip
"""OpenAI's towers."""

LLAMA_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
)  # fmt: skip
"""Settings of the text decoder that an original config.json mixes with its own."""

CLIP: tuple[Rule, ...] = (
    drop(r"vision_model\.embeddings\.position_ids", "counts 0, 1, 2, ..."),
    to(r"vision_model\.(.+)", TOWER + r"\1"),
    drop(r"(text_model|text_projection|visual_projection)\..+|logit_scale", "CLIP's text half"),
)
"""A CLIPModel or CLIPVisionModel as transformers 4 saved it."""


def known_clip(name: str) -> CLIPVisionConfig | None:
    """The configuration of a tower that checkpoints contain without it, by its repository's name."""
    settings = KNOWN_CLIPS.get(Path(name).name)
    return None if settings is None else CLIPVisionConfig(**settings)


def folder_of(source: Path, name: str, given: Path | None, file: str = "config.json") -> Path | None:
    """The folder of a tower: the one that was given, or where its name points to in the checkpoint's or by itself."""
    if given is not None:
        return given
    return next((folder for folder in (source / name, Path(name)) if (folder / file).exists()), None)


def absent(source: Path, name: str, option: str) -> str:
    """What is said where a tower's folder is needed."""
    return (
        f"{source} names its vision tower {name} and does not contain it, or not its settings: download that "
        f"repository and give its folder with {option} DIR."
    )


def clip_config(folder: Path) -> CLIPVisionConfig:
    """From the config.json of a CLIP, or of its vision half. Raises ModelError where it is another model's."""
    settings = read_json(folder / "config.json")
    vision = settings.get("vision_config", settings)
    if not str(vision.get("model_type", "clip")).startswith("clip"):
        raise ModelError(f"{folder} is a {vision['model_type']!r} model, not the CLIP vision tower that is needed.")
    known = CLIPVisionConfig().to_dict()
    return CLIPVisionConfig(**{key: value for key, value in vision.items() if key in known and key != "dtype"})


def pixel_settings(folder: Path | None, side: int, pad: bool) -> LlavaImageProcessorPil:
    """The tower's own image processor, with the original's choice between bars and a crop.

    Raises:
        ModelError: a tower whose processor makes images of another size than its patches fill.
    """
    path = None if folder is None else folder / "preprocessor_config.json"
    settings = read_json(path) if path is not None and path.exists() else {}
    crop = settings.get("crop_size", side)
    if (crop["height"] if isinstance(crop, dict) else crop) != side:
        raise ModelError(f"{path} crops to {crop}, and config.json beside it says image_size={side}.")
    return image_processor(side, settings.get("image_mean", CLIP_MEAN), settings.get("image_std", CLIP_STD), pad)


def image_processor(side: int, mean: list[float], std: list[float], pad: bool) -> LlavaImageProcessorPil:
    """Resizes the short side to `side`, bicubic, and crops, after bars of the mean colour where `pad`."""
    return LlavaImageProcessorPil(
        do_pad=pad, size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_center_crop=True,
        image_mean=mean, image_std=std,
    )  # fmt: skip


def llama_settings(settings: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The text decoder's configuration, with `rows` in its vocabulary."""
    return {
        "model_type": "llama",
        **{key: settings[key] for key in LLAMA_KEYS if settings.get(key) is not None},
        "vocab_size": rows,
    }


def llama(rows: Change, *, source: str = "", target: str = "model.language_model.") -> tuple[Rule, ...]:
    """Key map of a LlamaForCausalLM whose keys begin with `source`; `rows` changes the vocabulary's two matrices."""
    own = re.escape(source)
    return (
        drop(own + r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "follows from the configuration"),
        to(own + r"model\.embed_tokens\.weight", target + "embed_tokens.weight", change=rows),
        to(own + r"model\.((?:layers\.\d+|norm)\..+)", target + r"\1"),
        to(own + r"lm_head\.weight", "lm_head.weight", change=rows),
    )


def intern_vit_config(settings: Mapping[str, Any], image_size: int) -> InternVLVisionConfig:
    """Of an InternViT, from the settings that its own repository saves."""
    return InternVLVisionConfig(
        hidden_size=settings.get("hidden_size", 3200),
        intermediate_size=settings.get("intermediate_size", 12800),
        num_hidden_layers=settings.get("num_hidden_layers", 48),
        num_attention_heads=settings.get("num_attention_heads", 25),
        attention_bias=settings.get("qkv_bias", False),
        use_qk_norm=settings.get("qk_normalization", True),
        norm_type=settings.get("norm_type", "rms_norm"),
        layer_norm_eps=settings.get("layer_norm_eps", 1e-6),
        hidden_act=settings.get("hidden_act", "gelu"),
        patch_size=settings.get("patch_size", 14),
        image_size=image_size,
    )


def intern_vit(positions: Change, target: str = TOWER) -> tuple[Rule, ...]:
    """Key map of an InternVisionModel. `positions` changes the position embeddings, for another image size."""
    layer, made = r"encoder\.layers\.(\d+)\.", target + r"encoder.layer.\1."
    qkv = split_rows(1, 1, 1)
    return (
        to(r"embeddings\.class_embedding", target + "embeddings.cls_token"),
        to(r"embeddings\.patch_embedding\.(.+)", target + r"embeddings.patch_embeddings.projection.\1"),
        to(r"embeddings\.position_embedding", target + "embeddings.position_embeddings", change=positions),
        to(layer + r"attn\.qkv\.(.+)", *(made + rf"attention.{name}_proj.\2" for name in "qkv"), change=qkv),
        to(layer + r"attn\.proj\.(.+)", made + r"attention.projection_layer.\2"),
        to(layer + r"attn\.([qk]_norm)\.weight", made + r"attention.\2.weight"),
        to(layer + r"norm1\.(.+)", made + r"layernorm_before.\2"),
        to(layer + r"norm2\.(.+)", made + r"layernorm_after.\2"),
        to(layer + r"ls([12])", made + r"lambda_\2"),
        to(layer + r"mlp\.(.+)", made + r"mlp.\2"),
    )


def resized_positions(side: int) -> Change:
    """Position embeddings [1, 1 + n, width] for `side` x `side` patches, by bicubic interpolation, as InternViT does.

    It would do so in every forward pass; the result is the same to the bit where they have the right size already.
    """

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        old = round((tensor.shape[1] - 1) ** 0.5)
        if old == side:
            return (tensor,)
        grid = tensor[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grid = torch.nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return (torch.cat([tensor[:, :1], grid.flatten(2).transpose(1, 2).to(tensor.dtype)], dim=1),)

    return change
