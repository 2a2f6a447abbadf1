"""InternVL2's own format (and 1.5, 2.5, 3): an InternViT, a pixel shuffle, a projector, one of three decoders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import InternVLConfig, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from locheads.errors import ModelError
from locheads.models.convert import towers
from locheads.models.convert.conversations import chat_template
from locheads.models.convert.recipe import Format, Recipe, Request
from locheads.models.convert.rules import Change, Part, Rule, drop, prefixed, to, with_rows
from locheads.models.convert.source import Checkpoint
from locheads.models.convert.tokenizers import Words, read_tokenizer
from locheads.store.atomic import write_json, write_text

CONTEXT = "<IMG_CONTEXT>"
NAMED = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": CONTEXT, "video_token": "<video>",
}  # fmt: skip
DECODERS = {
    "InternLM2ForCausalLM": "llama", "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2",
}  # fmt: skip
"""Class of the original's decoder -> transformers' model_type. InternLM2 is a LLaMA with other names."""
CONVERSATIONS = {"internvl2_5": "im_start_lines", "internvl2_5_nosys": "im_start_lines"}
"""The original's `template` -> ours, where it is not im_start."""
MADE = "model.language_model."


@dataclass(frozen=True)
class ProcessorFiles:
    """What an InternVLProcessor is read from. It cannot be built here: its part for videos needs torchvision."""

    images: GotOcr2ImageProcessorPil
    tokenizer: PreTrainedTokenizerFast
    image_seq_length: int
    chat_template: str

    def save_pretrained(self, folder: Path) -> None:
        self.images.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        settings = {"processor_class": "InternVLProcessor", "image_seq_length": self.image_seq_length}
        write_json(folder / "processor_config.json", settings)
        write_text(folder / "chat_template.jinja", self.chat_template)
        pixels = json.loads((folder / "preprocessor_config.json").read_text())
        video = {key: pixels[key] for key in ("size", "image_mean", "image_std")}
        write_json(
            folder / "video_preprocessor_config.json", {"video_processor_type": "InternVLVideoProcessor", **video}
        )


def _fits(settings: Mapping[str, Any]) -> bool:
    return settings.get("model_type") == "internvl_chat"


def _recipe(request: Request) -> Recipe:
    settings, decoder = request.settings, request.need("llm_config")
    kind = (decoder.get("architectures") or ["no class"])[0]
    if kind not in DECODERS:
        raise ModelError(f"{request.source} has a {kind} as its decoder: only {', '.join(DECODERS)} can be converted.")
    if settings.get("ps_version", "v1") != "v2":
        raise ModelError(
            f"{request.source / 'config.json'}: ps_version={settings.get('ps_version', 'v1')} lays the cells out "
            "transposed, which transformers' InternVL does not; only v2 can be converted."
        )
    words = read_tokenizer(request.source, CONTEXT, fast=False, named=NAMED)
    rows = max(int(decoder["vocab_size"]), words.size)
    config = _config(request, decoder, DECODERS[kind], words, rows)
    language = _internlm2(decoder, rows) if kind == "InternLM2ForCausalLM" else _same_names(config, rows)
    side = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
    rules = (
        *language,
        *prefixed("vision_model.", towers.intern_vit(towers.resized_positions(side))),
        *(to(rf"mlp1\.{i}\.(.+)", rf"model.multi_modal_projector.{name}.\1") for i, name in PROJECTOR.items()),
    )
    part = Part("checkpoint", Checkpoint(request.source), rules)
    return Recipe(config, _processor(request, words, config), (part,))


PROJECTOR = {0: "layer_norm", 1: "linear_1", 3: "linear_2"}


def _config(request: Request, decoder: Mapping[str, Any], kind: str, words: Words, rows: int) -> InternVLConfig:
    settings = request.settings
    vision = towers.intern_vit_config(
        request.need("vision_config"), settings.get("force_image_size") or settings["vision_config"]["image_size"]
    )
    ratio = settings.get("downsample_ratio", 0.5)
    cells = (vision.image_size[0] // vision.patch_size[0]) * ratio
    return InternVLConfig(
        vision_config=vision,
        text_config=_text_settings(decoder, kind, rows),
        image_token_id=words.image_token_id,
        image_seq_length=int(cells) ** 2,
        downsample_ratio=ratio,
        vision_feature_layer=settings.get("select_layer", -1),
        tie_word_embeddings=bool(decoder.get("tie_word_embeddings", False)),
    )


def _text_settings(decoder: Mapping[str, Any], kind: str, rows: int) -> dict[str, Any]:
    known = {*CONFIG_MAPPING[kind]().to_dict(), "rope_theta", "rope_scaling"} - {"dtype", "architectures"}
    kept = {key: value for key, value in decoder.items() if key in known and value is not None}
    bias = {"attention_bias": bool(decoder.get("bias", False))} if kind == "llama" and "bias" in decoder else {}
    return {**kept, **bias, "model_type": kind, "vocab_size": rows}


def _same_names(config: InternVLConfig, rows: int) -> tuple[Rule, ...]:
    """Decoders whose names transformers has kept."""
    tied = (drop(r"language_model\.lm_head\.weight", "tied to the embedding"),) if config.tie_word_embeddings else ()
    return (*tied, *towers.llama(with_rows(rows), source="language_model."))


def _internlm2(decoder: Mapping[str, Any], rows: int) -> tuple[Rule, ...]:
    """Queries, keys and values lie in one matrix, group by group: the queries of a group, its key, its value."""
    heads, groups = decoder["num_attention_heads"], decoder["num_key_value_heads"]
    layer, made = r"layers\.(\d+)\.", MADE + r"layers.\1."
    names = {"attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
             "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm"}  # fmt: skip
    qkv = tuple(made + rf"self_attn.{name}_proj.\2" for name in "qkv")
    inner = (
        to(r"tok_embeddings\.weight", MADE + "embed_tokens.weight", change=with_rows(rows)),
        to(layer + r"attention\.wqkv\.(weight|bias)", *qkv, change=split_groups(heads // groups, groups)),
        *(to(layer + old.replace(".", r"\.") + r"\.(.+)", made + new + r".\2") for old, new in names.items()),
        to(r"norm\.weight", MADE + "norm.weight"),
        drop(layer + r"attention\.rotary_emb\.inv_freq", "follows from the configuration"),
    )
    output = to(r"language_model\.output\.weight", "lm_head.weight", change=with_rows(rows))
    return (output, *prefixed("language_model.model.", inner))


def split_groups(queries: int, groups: int) -> Change:
    """Takes a fused matrix apart: its rows are, group by group, so many query heads, a key head, a value head."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        parts = tensor.unflatten(0, (groups, queries + 2, -1))
        return tuple(
            part.reshape(-1, *tensor.shape[1:]).contiguous()
            for part in (parts[:, :queries], parts[:, queries], parts[:, queries + 1])
        )

    return change


def _processor(request: Request, words: Words, config: InternVLConfig) -> ProcessorFiles:
    settings, side = request.settings, config.vision_config.image_size[0]
    cut = settings.get("dynamic_image_size", True)
    images = GotOcr2ImageProcessorPil(
        size={"height": side, "width": side}, image_mean=towers.IMAGENET_MEAN, image_std=towers.IMAGENET_STD,
        crop_to_patches=cut, min_patches=settings.get("min_dynamic_patch", 1),
        max_patches=settings.get("max_dynamic_patch", 12) if cut else 1,
    )  # fmt: skip
    conversation = request.conversation or CONVERSATIONS.get(str(settings.get("template")), "im_start")
    return ProcessorFiles(images, words.tokenizer, config.image_seq_length, chat_template(conversation, CONTEXT))


INTERNVL = Format(
    "internvl", "InternVL2, 2.5, 3 and Chat-V1.5: an InternViT with InternLM2, Qwen2 or LLaMA", _fits, _recipe
)
