"""The original LLaVA format: v1 and 1.5, ShareGPT4V, Yi-VL, and InternVL-Chat with InternViT-6B and a Vicuna."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import LlavaConfig, LlavaProcessor, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.errors import ModelError
from locheads.models.convert import vision_towers as towers
from locheads.models.convert.checkpoint import Checkpoint, read_settings, settings_if_any
from locheads.models.convert.original_tokenizers import IMAGE, chat_template, read_tokenizer
from locheads.models.convert.rules import Format, Part, Recipe, Request, Rule, to, with_rows
from locheads.models.variants import LlavaVariantConfig

DELTA_NORM = 0.05
"""The final norm's weights lie around 1 in a language model, and around 0 where they are a difference."""
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STRATEGIES = {"patch": "default", "cls_patch": "full"}
"""`mm_vision_select_feature` -> transformers' name of it."""


def _fits(settings: Mapping[str, Any]) -> bool:
    kinds = {"LlavaLlamaForCausalLM", "LlavaForCausalLM", "Share4VLlamaForCausalLM"}
    return "mm_vision_tower" in settings and bool(kinds & set(settings.get("architectures") or ()))


def _recipe(request: Request) -> Recipe:
    words = read_tokenizer(request.source, fast=False, added=_added(request.settings))
    rows = towers.vocabulary_rows(request, words)
    weights = Checkpoint(request.source)
    # The tower's own folder counts, as in the original code, but where the checkpoint says that it was tuned along.
    tuned = bool(request.settings.get("unfreeze_mm_vision_tower", False))
    tower = towers.find_tower(request, weights, tuned, lambda folder, _: _description(request, folder))
    config = _config(request, words, rows, tower.config)
    rules = (*towers.llama(with_rows(rows)), *_projector(config), *tower.inside)
    whole = Part("checkpoint", weights, rules, _base(request, weights))
    parts = (whole, tower.part) if tower.part else (whole,)
    return Recipe(config, _processor(request, words, tower, config), parts, (tower.note,))


def _added(settings: Mapping[str, Any]) -> list[str]:
    """Tokens that the original code gives a tokenizer which lacks them, in its order."""
    patch = ["<im_patch>"] if settings.get("mm_use_im_patch_token", True) else []
    return patch + (["<im_start>", "<im_end>"] if settings.get("mm_use_im_start_end", False) else [])


def _config(request: Request, words: PreTrainedTokenizerFast, rows: int, vision: PreTrainedConfig) -> PreTrainedConfig:
    settings = request.settings
    kind = settings.get("mm_projector_type", "linear")
    wrapped = bool(settings.get("mm_use_im_start_end", False))
    common = {
        "vision_config": vision,
        "text_config": towers.llama_settings(settings, rows),
        "image_token_index": words.convert_tokens_to_ids(IMAGE),
        "vision_feature_layer": settings.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": _strategy(request),
        "tie_word_embeddings": False,
    }
    if kind == "mlp2x_gelu" and not wrapped:
        return LlavaConfig(**common)
    return LlavaVariantConfig(projector=kind, image_wrapping="<im_start>{}<im_end>" if wrapped else "{}", **common)


def _strategy(request: Request) -> str:
    feature = request.settings.get("mm_vision_select_feature", "patch")
    if feature not in STRATEGIES:
        raise ModelError(f"{request.source / 'config.json'}: mm_vision_select_feature={feature} is unknown.")
    return STRATEGIES[feature]


def _projector(config: PreTrainedConfig) -> tuple[Rule, ...]:
    if not isinstance(config, LlavaVariantConfig):
        return towers.TWO_LAYERS
    made = "model.multi_modal_projector."
    return (
        to(r"model\.mm_projector\.(weight|bias)", made + r"0.\1"),
        to(r"model\.mm_projector\.(\d+\..+)", made + r"\1"),
    )


def _description(request: Request, folder: Path | None) -> towers.Description | None:
    """InternVL-Chat's code decides the size of images by the tower's name; InternViT-6B-224px sees 336 pixels."""
    settings = {} if folder is None else read_settings(folder / "config.json")
    if settings.get("model_type") == "intern_vit_6b":
        return towers.intern_vit(settings, 448 if "448" in str(request.need("mm_vision_tower")) else 336)
    return towers.describe_clip(request, folder)


def _base(request: Request, weights: Checkpoint) -> Checkpoint | None:
    """What delta weights are added to. Raises ModelError where one is needed and not given, or given and not needed."""
    norm = weights.find("model.norm.weight")
    delta = norm is not None and norm.is_floating_point() and float(norm.float().abs().mean()) < DELTA_NORM
    if delta and request.base is None:
        raise ModelError(
            f"{request.source} holds delta weights, which are the difference to a language model: give the folder of "
            "that model (LLaMA, or the Vicuna that its page names) with --base DIR."
        )
    if request.base is None:
        return None
    if not delta:
        raise ModelError(f"{request.source} holds whole weights, not delta weights: leave out --base.")
    return Checkpoint(request.base)


def _processor(
    request: Request, words: PreTrainedTokenizerFast, tower: towers.Tower, config: PreTrainedConfig
) -> LlavaProcessor:
    patch = tower.config.patch_size
    wrapping = getattr(config, "image_wrapping", "{}")
    return LlavaProcessor(
        _images(tower, request.settings.get("image_aspect_ratio") == "pad"), words,
        patch_size=patch if isinstance(patch, int) else patch[0], num_additional_image_tokens=1,
        vision_feature_select_strategy=_strategy(request),
        chat_template=chat_template(request.conversation or _conversation(request.settings), wrapping.format(IMAGE)),
    )  # fmt: skip


def _images(tower: towers.Tower, pad: bool) -> LlavaImageProcessorPil:
    """The tower's own image processor, with the original's choice between bars and a crop.

    Raises:
        ModelError: a tower whose processor makes images of another size than its patches fill.
    """
    side = tower.config.image_size
    if not isinstance(side, int):
        return towers.image_processor(side[0], pad, IMAGENET_MEAN, IMAGENET_STD)
    path = (tower.folder or Path()) / "preprocessor_config.json"
    settings = settings_if_any(path) if tower.folder else {}
    crop = settings.get("crop_size", side)
    if (crop["height"] if isinstance(crop, dict) else crop) != side:
        raise ModelError(f"{path} crops to {crop}, and config.json beside it says image_size={side}.")
    mean, std = settings.get("image_mean", towers.CLIP_MEAN), settings.get("image_std", towers.CLIP_STD)
    return towers.image_processor(side, pad, mean, std)


def _conversation(settings: Mapping[str, Any]) -> str:
    if str(settings.get("mm_projector_type", "")).endswith("_Norm"):
        return "yi_vl"
    return "vicuna_v1" if "Share4VLlamaForCausalLM" in settings.get("architectures", ()) else "llava_v1"


LLAVA = Format(
    "llava",
    "LLaVA v1 and v1.5, ShareGPT4V, Yi-VL, and InternVL-Chat (InternViT-6B with a Vicuna) as their own code saves them",
    _fits,
    _recipe,
)
