"""What the formats share: where a vision tower comes from, its settings and key map, and the LLaMA behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, InternVLVisionConfig, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.errors import ModelError
from locheads.models.convert.checkpoint import Checkpoint, read_settings
from locheads.models.convert.rules import Change, Part, Request, Rule, prefixed, split_rows, to

AUX_INSIDE = "model.vision_tower_aux.vision_"
KINDS = {
    "vision_tower": ("vision tower", "model.vision_tower.vision_tower.", "config.json"),
    "vision_tower_aux": ("second vision tower", AUX_INSIDE, "open_clip_pytorch_model.bin"),
}
"""A tower's name in settings, options and keys -> (what it is called, how the keys of one begin that the checkpoint
contains, a file of its own folder)."""
TOWER = "model.vision_tower."
"""Where a LLaVA of transformers keeps its vision tower."""
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

KNOWN_CLIPS: dict[str, dict[str, Any]] = {
    f"clip-vit-large-patch14{suffix}": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": side, "projection_dim": 768,
    }
    for suffix, side in (("", 224), ("-336", 336))
}  # fmt: skip
"""OpenAI's towers, by their repository's name: checkpoints contain them without their settings."""

LLAMA_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
)  # fmt: skip
"""Settings of the text decoder that an original config.json mixes with its own."""

CLIP: tuple[Rule, ...] = (
    Rule(r"vision_model\.embeddings\.position_ids", unused="counts 0, 1, 2, ..."),
    to(r"vision_model\.(.+)", TOWER + r"\1"),
    Rule(r"(text_model|text_projection|visual_projection)\..+|logit_scale", unused="CLIP's text half"),
)
"""Key map of a CLIPModel or CLIPVisionModel as transformers 4 saved it."""

TWO_LAYERS = tuple(
    to(rf"model\.mm_projector\.{i}\.(.+)", rf"model.multi_modal_projector.linear_{n}.\1") for i, n in ((0, 1), (2, 2))
)
"""Key map of the projector that transformers' Llava has, `mlp2x_gelu`."""

Description = tuple[PreTrainedConfig, tuple[Rule, ...]]
"""A tower's configuration and key map."""


@dataclass(frozen=True)
class Tower:
    """A vision tower: what it is, and where its weights come from."""

    config: PreTrainedConfig
    folder: Path | None
    """Its own, as far as there is one."""
    part: Part | None
    """Its own folder's weights; None: the checkpoint's own keys are taken."""
    inside: tuple[Rule, ...]
    """What becomes of the checkpoint's own keys."""
    note: str


def find_tower(
    request: Request,
    weights: Checkpoint,
    tuned: bool,
    describe: Callable[[Path | None, bool], Description | None],
    kind: str = "vision_tower",
) -> Tower:
    """The vision tower that a checkpoint names, contains, or both.

    Args:
        request, weights: the checkpoint.
        tuned: the checkpoint's own weights count where it contains some; else the tower's own folder does.
        describe: (the tower's folder, whether the checkpoint's own weights count) -> what it is, None if unknown.
        kind: of `KINDS`.

    Raises:
        ModelError: a tower that is neither contained nor asked for.
    """
    name, (called, inside, file) = str(request.need(f"mm_{kind}")), KINDS[kind]
    places = (request.source / name, Path(name))
    folder = getattr(request, kind) or next((place for place in places if (place / file).exists()), None)
    contained = any(key.startswith(inside) for key, _ in weights.outlines())
    own = contained and (folder is None or tuned)
    found = describe(folder, own) if contained or folder else None
    if found is None:
        raise ModelError(
            f"{request.source} names its {called} {name} and does not contain it, or not its settings: download that "
            f"repository and give its folder with --{kind.replace('_', '-')} DIR."
        )
    config, rules = found
    if folder is None or own:
        return Tower(config, folder, None, prefixed(inside, rules), f"The {called} is the checkpoint's own ({name}).")
    unused = Rule(rf"model\.{kind}\..+", unused="the original code reads the tower from its own folder")
    part = Part(called, Checkpoint(folder), rules)
    return Tower(config, folder, part, (unused,), f"The {called} {name} was read from {folder}.")


def describe_clip(request: Request, folder: Path | None) -> Description | None:
    """A CLIP, from its folder or, where it is one of OpenAI's, from its name."""
    if folder is not None:
        return clip_config(folder), CLIP
    known = KNOWN_CLIPS.get(Path(str(request.need("mm_vision_tower"))).name)
    return None if known is None else (CLIPVisionConfig(**known), CLIP)


def clip_config(folder: Path) -> CLIPVisionConfig:
    """From the config.json of a CLIP, or of its vision half. Raises ModelError where it is another model's."""
    settings = read_settings(folder / "config.json")
    vision = settings.get("vision_config", settings)
    if not str(vision.get("model_type", "clip")).startswith("clip"):
        raise ModelError(f"{folder} is a {vision['model_type']!r} model, not the CLIP vision tower that is needed.")
    known = CLIPVisionConfig().to_dict()
    return CLIPVisionConfig(**{key: value for key, value in vision.items() if key in known and key != "dtype"})


def image_processor(
    side: int, pad: bool, mean: list[float] = CLIP_MEAN, std: list[float] = CLIP_STD
) -> LlavaImageProcessorPil:
    """Resizes the short side to `side`, bicubic, and crops, after bars of the mean colour where `pad`."""
    return LlavaImageProcessorPil(
        do_pad=pad, size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_center_crop=True,
        image_mean=mean, image_std=std,
    )  # fmt: skip


def vocabulary_rows(request: Request, words: PreTrainedTokenizerFast) -> int:
    """Of the text decoder's two matrices: as many as it has, or as the tokenizer's ids need."""
    return max(int(request.need("vocab_size")), *(i + 1 for i in words.get_vocab().values()))


def llama_settings(settings: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The text decoder's configuration, with `rows` in its vocabulary."""
    own = {key: settings[key] for key in LLAMA_KEYS if settings.get(key) is not None}
    return {"model_type": "llama", **own, "vocab_size": rows}


def llama(rows: Change) -> tuple[Rule, ...]:
    """Key map of a LlamaForCausalLM; `rows` changes the vocabulary's two matrices."""
    made = "model.language_model."
    return (
        Rule(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", unused="follows from the configuration"),
        to(r"model\.embed_tokens\.weight", made + "embed_tokens.weight", change=rows),
        to(r"model\.((?:layers\.\d+|norm)\..+)", made + r"\1"),
        to(r"lm_head\.weight", "lm_head.weight", change=rows),
    )


def intern_vit(settings: Mapping[str, Any], side: int) -> tuple[InternVLVisionConfig, tuple[Rule, ...]]:
    """An InternViT-6B for images of `side` pixels, from the settings that its own repository saves."""
    defaults = {
        "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48, "num_attention_heads": 25,
        "norm_type": "rms_norm", "layer_norm_eps": 1e-6, "hidden_act": "gelu", "patch_size": 14,
    }  # fmt: skip
    config = InternVLVisionConfig(
        **{key: settings.get(key, value) for key, value in defaults.items()},
        attention_bias=settings.get("qkv_bias", False),
        use_qk_norm=settings.get("qk_normalization", True),
        image_size=side,
    )
    return config, _intern_vit_rules(resized_positions(side // config.patch_size[0]))


def _intern_vit_rules(positions: Change) -> tuple[Rule, ...]:
    """Key map of an InternVisionModel. `positions` changes the position embeddings, for another image size."""
    layer, made = r"encoder\.layers\.(\d+)\.", TOWER + r"encoder.layer.\1."
    qkv = tuple(made + rf"attention.{name}_proj.\2" for name in "qkv")
    return (
        to(r"embeddings\.class_embedding", TOWER + "embeddings.cls_token"),
        to(r"embeddings\.patch_embedding\.(.+)", TOWER + r"embeddings.patch_embeddings.projection.\1"),
        to(r"embeddings\.position_embedding", TOWER + "embeddings.position_embeddings", change=positions),
        to(layer + r"attn\.qkv\.(.+)", *qkv, change=split_rows(3)),
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
