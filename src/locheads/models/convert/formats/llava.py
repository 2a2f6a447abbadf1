"""The original LLaVA format: v1 and 1.5, ShareGPT4V, Yi-VL, and InternVL-Chat with InternViT-6B and a Vicuna."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import LlavaConfig, LlavaProcessor, PreTrainedConfig
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.errors import ModelError
from locheads.models.convert import towers
from locheads.models.convert.conversations import chat_template
from locheads.models.convert.recipe import Format, Recipe, Request
from locheads.models.convert.rules import Part, Rule, drop, prefixed, to, with_rows
from locheads.models.convert.source import Checkpoint, read_json
from locheads.models.convert.tokenizers import Words, read_tokenizer
from locheads.models.variants.llava import LlavaVariantConfig

INSIDE = "model.vision_tower.vision_tower."
"""Where a checkpoint keeps a vision tower of its own."""
IMAGE = "<image>"
DELTA_NORM = 0.05
"""The final norm's weights lie around 1 in a language model, and around 0 where they are a difference."""


@dataclass(frozen=True)
class Tower:
    """A vision tower: what it is, and where its weights come from."""

    config: PreTrainedConfig
    images: LlavaImageProcessorPil
    part: Part | None
    """Its own folder; None: the checkpoint's own keys are taken."""
    inside: tuple[Rule, ...]
    """What becomes of the checkpoint's own keys."""
    note: str


def _fits(settings: Mapping[str, Any]) -> bool:
    kinds = {"LlavaLlamaForCausalLM", "LlavaForCausalLM", "Share4VLlamaForCausalLM"}
    return "mm_vision_tower" in settings and bool(kinds & set(settings.get("architectures") or ()))


def _recipe(request: Request) -> Recipe:
    words = read_tokenizer(request.source, IMAGE, fast=False, added=_added(request.settings))
    rows = max(int(request.need("vocab_size")), words.size)
    weights = Checkpoint(request.source)
    tower = _tower(request, weights)
    config = _config(request, words, rows, tower.config)
    projector = _projector_rules(config)
    language = towers.llama(with_rows(rows))
    base = _base(request, weights)
    whole = Part("checkpoint", weights, (*language, *projector, *tower.inside), base)
    processor = _processor(request, words, tower, getattr(config, "image_wrapping", "{}"))
    return Recipe(config, processor, (whole, tower.part) if tower.part else (whole,), (tower.note,))


def _added(settings: Mapping[str, Any]) -> list[str]:
    """Tokens that the original code gives a tokenizer which lacks them, in its order."""
    patch = ["<im_patch>"] if settings.get("mm_use_im_patch_token", True) else []
    return patch + (["<im_start>", "<im_end>"] if settings.get("mm_use_im_start_end", False) else [])


def _config(request: Request, words: Words, rows: int, vision: PreTrainedConfig) -> PreTrainedConfig:
    settings = request.settings
    kind = settings.get("mm_projector_type", "linear")
    wrapped = bool(settings.get("mm_use_im_start_end", False))
    common = {
        "vision_config": vision,
        "text_config": towers.llama_settings(settings, rows),
        "image_token_index": words.image_token_id,
        "vision_feature_layer": settings.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": _strategy(request),
        "tie_word_embeddings": False,
    }
    if kind == "mlp2x_gelu" and not wrapped:
        return LlavaConfig(**common)
    return LlavaVariantConfig(projector=kind, image_wrapping="<im_start>{}<im_end>" if wrapped else "{}", **common)


def _strategy(request: Request) -> str:
    feature = request.settings.get("mm_vision_select_feature", "patch")
    strategies = {"patch": "default", "cls_patch": "full"}
    if feature not in strategies:
        raise ModelError(f"{request.source / 'config.json'}: mm_vision_select_feature={feature} is unknown.")
    return strategies[feature]


def _projector_rules(config: PreTrainedConfig) -> tuple[Rule, ...]:
    made = "model.multi_modal_projector."
    if not isinstance(config, LlavaVariantConfig):
        return (
            to(r"model\.mm_projector\.0\.(.+)", made + r"linear_1.\1"),
            to(r"model\.mm_projector\.2\.(.+)", made + r"linear_2.\1"),
        )
    if config.projector == "linear":
        return (to(r"model\.mm_projector\.(weight|bias)", made + r"0.\1"),)
    return (to(r"model\.mm_projector\.(\d+\..+)", made + r"\1"),)


def _tower(request: Request, weights: Checkpoint) -> Tower:
    """Its own folder counts, as in the original code, but where the checkpoint says that the tower was tuned along."""
    name = str(request.need("mm_vision_tower"))
    folder = towers.folder_of(request.source, name, request.vision_tower)
    contained = any(key.startswith(INSIDE) for key, _ in weights.outlines())
    if folder is None and (not contained or towers.known_clip(name) is None):
        raise ModelError(towers.absent(request.source, name, "--vision-tower"))
    tuned = bool(request.settings.get("unfreeze_mm_vision_tower", False))
    vision, images, rules = _tower_of(request, folder, name)
    if contained and (folder is None or tuned):
        return Tower(
            vision, images, None, prefixed(INSIDE, rules), f"The vision tower is the checkpoint's own ({name})."
        )
    unused = (drop(r"model\.vision_tower\..+", "the original code reads the tower from its own folder"),)
    assert folder is not None
    part = Part("vision tower", Checkpoint(folder), rules)
    return Tower(vision, images, part, unused, f"The vision tower {name} was read from {folder}.")


def _tower_of(
    request: Request, folder: Path | None, name: str
) -> tuple[PreTrainedConfig, LlavaImageProcessorPil, tuple[Rule, ...]]:
    """-> (configuration, image processor, key map) of a tower."""
    pad = request.settings.get("image_aspect_ratio") == "pad"
    if folder is None:
        vision = towers.known_clip(name)
        assert vision is not None
        return vision, towers.pixel_settings(None, vision.image_size, pad), towers.CLIP
    settings = read_json(folder / "config.json")
    if settings.get("model_type") == "intern_vit_6b":
        return _intern_vit(settings, name, pad)
    vision = towers.clip_config(folder)
    return vision, towers.pixel_settings(folder, vision.image_size, pad), towers.CLIP


def _intern_vit(
    settings: Mapping[str, Any], name: str, pad: bool
) -> tuple[PreTrainedConfig, LlavaImageProcessorPil, tuple[Rule, ...]]:
    """InternVL-Chat's code decides the size of images by the tower's name; InternViT-6B-224px sees 336 pixels."""
    side = 448 if "448" in name else 336
    vision = towers.intern_vit_config(settings, side)
    images = towers.image_processor(side, towers.IMAGENET_MEAN, towers.IMAGENET_STD, pad)
    return vision, images, towers.intern_vit(towers.resized_positions(side // vision.patch_size[0]))


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


def _processor(request: Request, words: Words, tower: Tower, wrapping: str) -> LlavaProcessor:
    patch = tower.config.patch_size
    conversation = request.conversation or _conversation(request.settings)
    return LlavaProcessor(
        tower.images, words.tokenizer, patch_size=patch if isinstance(patch, int) else patch[0],
        vision_feature_select_strategy=_strategy(request), num_additional_image_tokens=1,
        chat_template=chat_template(conversation, wrapping.format(IMAGE)),
    )  # fmt: skip


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
