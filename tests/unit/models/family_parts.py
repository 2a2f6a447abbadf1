"""What the tiny models of all families are made of: tokenizer, configurations, sharpened weights.

Weights are random, and queries and keys sharpened: near-uniform attention rows agree whatever the code does. The
tokenizer is a byte-level BPE that knows every family's special tokens.
"""

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 3, 4, 2, 32, 4096

NAMED = {
    "image_token": "<image>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
OTHERS = [
    "<pad>", "<s>", "</s>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "[IMG]",
    "[IMG_BREAK]", "[IMG_END]", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<bos>",
    "<image_soft_token>", "<image_placeholder>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<im_start>",
    "<im_end>", "<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|video|>", "<|begin_of_video|>",
    "<|end_of_video|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>",
    "TILE_GLOBAL", "<IMG_START>",
    "<IMG_ATOM>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>", "<imgpad>", "<|IMAGE_START|>", "<|IMAGE_END|>",
    "<|IMAGE_PLACEHOLDER|>", "<|VIDEO_START|>", "<|VIDEO_END|>", "<|VIDEO_PLACEHOLDER|>", "<|AUDIO|>",
    "<|audio_bos|>", "<|audio_eos|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>",
    "<|tile_y_separator|>", "<im_patch>", "<im_col>", "<low_res_im_start>", "<frame_start>", "<frame_end>", "<im_low>",
    "<|media_begin|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>", "<audio>", "<boa>", "<eoa>",
    *(f"<row_{row + 1}_col_{col + 1}>" for row in range(6) for col in range(6)),
]  # fmt: skip
CORPUS = [
    "where is the red circle in the image ? give the box of the small blue square left of it . USER : ASSISTANT :"
]

Family = tuple[PreTrainedModel, Any]


@cache
def _trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=[*NAMED.values(), *OTHERS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ),
    )  # fmt: skip
    return tokenizer


def tokenizer(bos: str | None = None, adds_bos: bool = True, **named: str) -> PreTrainedTokenizerFast:
    """A fast tokenizer that puts `bos` first where one is given and `adds_bos`;
    `named` become attributes such as `image_token`."""
    backend = Tokenizer.from_str(_trained().to_str())
    if bos and adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, pad_token="<pad>", eos_token="</s>", extra_special_tokens=named
    )


def token_id(token: str) -> int:
    return _trained().token_to_id(token)


def text(kind: type, **options: Any) -> Any:
    """The decoder's configuration, tiny."""
    return kind(
        **{
            "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": _trained().get_vocab_size(),
            "max_position_embeddings": CONTEXT, "pad_token_id": token_id("<pad>"), "bos_token_id": token_id("<s>"),
            "eos_token_id": token_id("</s>"), "head_dim": HIDDEN // HEADS, **options,
        }
    )  # fmt: skip


def vision(kind: type, side: int, patch: int, **options: Any) -> Any:
    """The vision tower's configuration, tiny."""
    return kind(
        **{
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": side, "patch_size": patch, **options,
        }
    )  # fmt: skip


def sharpen(model: PreTrainedModel) -> PreTrainedModel:
    """Scales embeddings up, and the decoder's queries and keys until rows are peaked."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            decoder = not any(part in name for part in ("vision", "visual", "q_norm", "k_norm"))
            wanted = ("q_proj", "k_proj", "q_b_proj", "kv_b_proj")  # the latter of multi-head latent attention
            if decoder and any(part in name for part in wanted) and weight.dim() == 2:
                weight.mul_(16)
            if decoder and ("embed_tokens" in name):
                weight.mul_(8)
            if "mm_input_projection_weight" in name:  # Gemma3's starts at 0: the image would not matter
                weight.normal_()
    return model.eval()


def build(kind: type, config: Any, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return sharpen(kind(config))


def seeing(model: PreTrainedModel) -> PreTrainedModel:
    """With a first and a last layer of the vision tower strong enough that another image gives other rows."""
    for name, weight in model.named_parameters():
        if ("patch_embedding" in name or "projector" in name) and weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def in_full_precision(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Llama 4's processor works its pixels out in bfloat16."""
    return {key: value.float() if value.dtype == torch.bfloat16 else value for key, value in tensors.items()}


def images(module: str, name: str, **options: Any) -> Any:
    """An image processor in the form that checkpoints load with: PIL's where there is no torchvision."""
    if find_spec("torchvision"):
        module, name = module.replace("_pil_", "_"), name.removesuffix("Pil")
    return getattr(importlib.import_module(f"transformers.models.{module}"), name)(**options)


def without_video(kind: type, images: Any, words: PreTrainedTokenizerFast, **options: Any) -> Any:
    """A processor whose video part, which needs torchvision, is left out: no test shows a video."""
    with mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"):
        return kind(images, words, None, **options)


CHAT = (
    "{% for m in messages %}USER: {% for part in m['content'] %}{% if part['type'] == 'image' %}IMAGE\n"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:"
    "{% endif %}"
)
"""In the manner of LLaVA's template."""


def chat(image: str, start: str = "") -> str:
    return start + CHAT.replace("IMAGE", image)


def tagged(image: str) -> str:
    """In the manner of Qwen's template, with `image` for the image."""
    return QWEN_CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", image)


QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
