"""One tiny model of every family, from its real config classes, with its real processor: nothing is downloaded.

Weights are random, and queries and keys sharpened: near-uniform attention rows agree whatever the code does.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import transformers as tf
from family_parts import (
    HIDDEN,
    NAMED,
    QWEN_CHAT,
    Family,
    build,
    chat,
    images,
    text,
    token_id,
    tokenizer,
    vision,
    without_video,
)

from locheads.models.variants import (
    LlavaVariantConfig,
    LlavaVariantForConditionalGeneration,
    MiniGeminiConfig,
    MiniGeminiForConditionalGeneration,
)

LAYOUTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
"""Of tiles, as (rows, columns)."""


def _clip(module: str, name: str, side: int, **options: Any) -> Any:
    crop = {"height": side, "width": side}
    return images(
        f"{module}.image_processing_pil_{module}", name, size={"shortest_edge": side}, crop_size=crop, **options
    )


def llava() -> Family:
    config = tf.LlavaConfig(
        vision_config=vision(tf.CLIPVisionConfig, 32, 8, projection_dim=16), text_config=text(tf.LlamaConfig),
        image_token_id=token_id("<image>"), vision_feature_layer=-2,
    )  # fmt: skip
    processor = tf.LlavaProcessor(
        _clip("clip", "CLIPImageProcessorPil", 32), tokenizer("<s>", image_token="<image>"), patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=chat("<image>"),
    )  # fmt: skip
    return build(tf.LlavaForConditionalGeneration, config), processor


def vipllava() -> Family:
    config = tf.VipLlavaConfig(
        vision_config=vision(tf.CLIPVisionConfig, 32, 8, projection_dim=16), text_config=text(tf.LlamaConfig),
        image_token_index=token_id("<image>"), vision_feature_layer=[-1, -2], image_seq_length=16,
    )  # fmt: skip
    return build(tf.VipLlavaForConditionalGeneration, config), llava()[1]


def locheads_llava() -> Family:
    """As Yi-VL, with LLaVA v1's tokens around the image."""
    native, processor = llava()
    parts = {key: getattr(native.config, key) for key in ("vision_config", "text_config", "image_token_id")}
    config = LlavaVariantConfig(
        projector="mlp2x_gelu_Norm", image_wrapping="<im_start>{}<im_end>", vision_feature_layer=-2, **parts
    )
    processor.chat_template = chat("<im_start><image><im_end>")
    return build(LlavaVariantForConditionalGeneration, config), processor


def locheads_mini_gemini() -> Family:
    side = 128
    config = MiniGeminiConfig(
        vision_config=vision(tf.CLIPVisionConfig, 32, 8, projection_dim=16), text_config=text(tf.GemmaConfig),
        vision_config_aux=tf.ConvNextConfig(num_stages=3, hidden_sizes=[4, 6, 8], depths=[1, 1, 1]),
        image_token_id=token_id("<image>"), vision_feature_layer=-2, image_size_aux=side,
    )  # fmt: skip
    processor = tf.LlavaProcessor(
        _clip("clip", "CLIPImageProcessorPil", side), tokenizer("<s>", image_token="<image>"), patch_size=32,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=chat("<image>"),
    )  # fmt: skip
    return build(MiniGeminiForConditionalGeneration, config), processor


def _pinpoints(side: int) -> list[list[int]]:
    return [[rows * side, cols * side] for rows, cols in LAYOUTS]


def llava_next() -> Family:
    config = tf.LlavaNextConfig(
        vision_config=vision(tf.CLIPVisionConfig, 32, 8, projection_dim=16), text_config=text(tf.LlamaConfig),
        image_token_id=token_id("<image>"), vision_feature_layer=-2, image_grid_pinpoints=_pinpoints(32),
    )  # fmt: skip
    processor = tf.LlavaNextProcessor(
        _clip("llava_next", "LlavaNextImageProcessorPil", 32, image_grid_pinpoints=_pinpoints(32)),
        tokenizer("<s>", image_token="<image>"), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=chat("<image>"),
    )  # fmt: skip
    return build(tf.LlavaNextForConditionalGeneration, config), processor


def llava_onevision() -> Family:
    side = 34  # no multiple of the patch, like the real 384 and 14
    config = tf.LlavaOnevisionConfig(
        vision_config=vision(tf.SiglipVisionConfig, side, 8, vision_use_head=False), text_config=text(tf.Qwen2Config),
        image_token_index=token_id("<image>"), video_token_index=token_id("<video>"),
        image_grid_pinpoints=_pinpoints(side),
        # Few enough tiles that the largest images here are scaled down, as large ones are by the real limit of 9.
        vision_aspect_ratio="anyres_max_2",
    )  # fmt: skip
    image_processor = images(
        "llava_onevision.image_processing_pil_llava_onevision", "LlavaOnevisionImageProcessorPil",
        size={"height": side, "width": side}, image_grid_pinpoints=_pinpoints(side),
    )  # fmt: skip
    processor = without_video(
        tf.LlavaOnevisionProcessor, image_processor, tokenizer(image_token="<image>", video_token="<video>"),
        num_image_tokens=16, vision_feature_select_strategy="full", vision_aspect_ratio="anyres_max_2",
        chat_template=chat("<image>"),
    )  # fmt: skip
    return build(tf.LlavaOnevisionForConditionalGeneration, config), processor


def deepseek_vl() -> Family:
    config = tf.DeepseekVLConfig(
        vision_config=vision(tf.SiglipVisionConfig, 32, 8, vision_use_head=False), text_config=text(tf.LlamaConfig),
        image_token_id=token_id("<image_placeholder>"),
    )  # fmt: skip
    image_processor = images(
        "deepseek_vl.image_processing_pil_deepseek_vl", "DeepseekVLImageProcessorPil",
        size={"height": 32, "width": 32}, min_size=4,
    )  # fmt: skip
    processor = tf.DeepseekVLProcessor(
        image_processor, tokenizer("<s>", image_token="<image_placeholder>"), num_image_tokens=16,
        chat_template=chat("<image_placeholder>"),
    )  # fmt: skip
    return build(tf.DeepseekVLForConditionalGeneration, config), processor


def deepseek_vl_hybrid() -> Family:
    sam = tf.SamVisionConfig(
        hidden_size=16, output_channels=8, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8,
        window_size=4, global_attn_indexes=[0, 1], mlp_dim=32,
    )  # fmt: skip
    config = tf.DeepseekVLHybridConfig(
        vision_config=vision(tf.SiglipVisionConfig, 32, 8, vision_use_head=False), text_config=text(tf.LlamaConfig),
        high_res_vision_config=sam, image_token_id=token_id("<image_placeholder>"),
    )  # fmt: skip
    image_processor = images(
        "deepseek_vl_hybrid.image_processing_pil_deepseek_vl_hybrid", "DeepseekVLHybridImageProcessorPil",
        size={"height": 32, "width": 32}, high_res_size={"height": 64, "width": 64}, min_size=4,
    )  # fmt: skip
    processor = tf.DeepseekVLHybridProcessor(
        image_processor, tokenizer("<s>", image_token="<image_placeholder>"), num_image_tokens=16,
        chat_template=chat("<image_placeholder>"),
    )  # fmt: skip
    return build(tf.DeepseekVLHybridForConditionalGeneration, config), processor


def internvl() -> Family:
    config = tf.InternVLConfig(
        vision_config=vision(tf.InternVLVisionConfig, 32, 4), text_config=text(tf.Qwen2Config), image_seq_length=16,
        image_token_id=token_id("<IMG_CONTEXT>"), downsample_ratio=0.5,
    )  # fmt: skip
    image_processor = images(
        "got_ocr2.image_processing_pil_got_ocr2", "GotOcr2ImageProcessorPil",
        size={"height": 32, "width": 32}, max_patches=6,
    )  # fmt: skip
    names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    processor = without_video(
        tf.InternVLProcessor, image_processor, tokenizer(**{name: NAMED[name] for name in names}), image_seq_length=16,
        chat_template=QWEN_CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"),
    )  # fmt: skip
    return build(tf.InternVLForConditionalGeneration, config), processor


def _qwen(name: str, patch: int, vision_options: dict[str, Any]) -> Family:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = getattr(tf, f"{name}Config")(
        vision_config={"patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision_options},
        text_config=text(dict, rope_parameters=rope), image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"), vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )  # fmt: skip
    image_processor = images(
        "qwen2_vl.image_processing_pil_qwen2_vl", "Qwen2VLImageProcessorPil", patch_size=patch, merge_size=2,
        size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    )  # fmt: skip
    processor = without_video(getattr(tf, f"{name}Processor"), image_processor, tokenizer(), chat_template=QWEN_CHAT)
    return build(getattr(tf, f"{name}ForConditionalGeneration"), config), processor


def qwen2_vl() -> Family:
    return _qwen("Qwen2VL", 8, {"depth": 2, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2})


def qwen2_5_vl() -> Family:
    sizes = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    return _qwen("Qwen2_5_VL", 8, {**sizes, "window_size": 32, "fullatt_block_indexes": [1]})


def qwen3_vl() -> Family:
    sizes = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    return _qwen("Qwen3VL", 8, {**sizes, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]})


def gemma3() -> Family:
    layers = ["sliding_attention", "full_attention"] * 2
    config = tf.Gemma3Config(
        vision_config=vision(tf.SiglipVisionConfig, 64, 8, vision_use_head=False).to_dict(),
        text_config=text(
            tf.Gemma3TextConfig, sliding_window=16, layer_types=layers, num_hidden_layers=4, query_pre_attn_scalar=8
        ).to_dict(),
        mm_tokens_per_image=16, boi_token_index=token_id("<start_of_image>"),
        eoi_token_index=token_id("<end_of_image>"), image_token_index=token_id("<image_soft_token>"),
    )  # fmt: skip
    image_processor = images(
        "gemma3.image_processing_pil_gemma3", "Gemma3ImageProcessorPil", size={"height": 64, "width": 64}
    )
    named = {key: NAMED[key] for key in ("boi_token", "eoi_token")}
    processor = tf.Gemma3Processor(
        image_processor, tokenizer("<bos>", image_token="<image_soft_token>", **named), image_seq_length=16,
        chat_template=chat("<start_of_image>", "<bos>"),
    )  # fmt: skip
    return build(tf.Gemma3ForConditionalGeneration, config), processor


def _paligemma(text_config: Any) -> Family:
    vision_config = vision(tf.SiglipVisionConfig, 32, 8, vision_use_head=False, projection_dim=HIDDEN)
    config = tf.PaliGemmaConfig(
        vision_config=vision_config.to_dict(), text_config=text_config.to_dict(), projection_dim=HIDDEN,
        hidden_size=HIDDEN, image_token_index=token_id("<image>"),
    )  # fmt: skip
    image_processor = images(
        "siglip.image_processing_pil_siglip", "SiglipImageProcessorPil", size={"height": 32, "width": 32}
    )
    image_processor.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(image_processor, tokenizer(image_token="<image>", bos="<bos>", adds_bos=False))
    # The processor adds 1,152 location and segmentation tokens to the tokenizer.
    config.text_config.vocab_size = len(processor.tokenizer)
    return build(tf.PaliGemmaForConditionalGeneration, config), processor


def paligemma() -> Family:
    return _paligemma(text(tf.GemmaConfig))


def paligemma2() -> Family:
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return _paligemma(text(tf.Gemma2Config, layer_types=layers, sliding_window=4096, query_pre_attn_scalar=8))


def _idefics(name: str, side: int, scale: int) -> Family:
    config = getattr(tf, f"{name}Config")(
        vision_config=vision(dict, side, 4), text_config=text(tf.LlamaConfig), scale_factor=scale,
        image_token_id=token_id("<image>"), pad_token_id=token_id("<pad>"),
    )  # fmt: skip
    module = name.lower()
    image_processor = images(
        f"{module}.image_processing_pil_{module}", f"{name}ImageProcessorPil",
        size={"longest_edge": 3 * side}, max_image_size={"longest_edge": side},
    )  # fmt: skip
    processing = importlib.import_module(f"transformers.models.{module}.processing_{module}")
    options = {"image_seq_len": 16, "chat_template": chat("<image>", "<s>")}
    words = tokenizer("<s>", image_token="<image>")
    if name == "Idefics3":
        return build(tf.Idefics3ForConditionalGeneration, config), processing.Idefics3Processor(
            image_processor, words, **options
        )
    with mock.patch.object(processing, "num2words", str):  # only videos need it
        processor = without_video(processing.SmolVLMProcessor, image_processor, words, **options)
    # Its chat template asks for the number of frames even where there are none.
    processor.video_processor = images("smolvlm.video_processing_smolvlm", "SmolVLMVideoProcessor")
    return build(tf.SmolVLMForConditionalGeneration, config), processor


def idefics3() -> Family:
    return _idefics("Idefics3", 32, 2)


def smolvlm() -> Family:
    return _idefics("SmolVLM", 50, 3)  # 12 patches of 4 and 2 pixels more


def _pixtral_processor_class() -> type:
    """Its module imports torchvision's image processor for one function, which the PIL one has as well."""
    try:
        return importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor
    except ImportError:
        stand_in = ModuleType("image_processing_pixtral")
        stand_in.get_resize_output_image_size = None  # type: ignore[attr-defined]
        with mock.patch.dict(sys.modules, {"transformers.models.pixtral.image_processing_pixtral": stand_in}):
            return importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor


def _pixtral(merge: int) -> Any:
    image_processor = images(
        "pixtral.image_processing_pil_pixtral", "PixtralImageProcessorPil",
        size={"longest_edge": 64}, patch_size={"height": 8, "width": 8},
    )  # fmt: skip
    return _pixtral_processor_class()(
        image_processor, tokenizer("<s>"), patch_size=8, spatial_merge_size=merge,
        chat_template="<s>[INST]{% for m in messages %}{% for part in m['content'] %}{% if part['type'] == 'image' %}"
        "[IMG]{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}[/INST]",
    )  # fmt: skip


def _pixtral_vision() -> Any:
    return vision(tf.PixtralVisionConfig, 64, 8, head_dim=8)


def llava_pixtral() -> Family:
    config = tf.LlavaConfig(
        vision_config=_pixtral_vision(), text_config=text(tf.MistralConfig, sliding_window=None),
        image_token_id=token_id("[IMG]"), vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    return build(tf.LlavaForConditionalGeneration, config), _pixtral(1)


def mistral3() -> Family:
    config = tf.Mistral3Config(
        vision_config=_pixtral_vision(), text_config=text(tf.MistralConfig, sliding_window=None),
        image_token_index=token_id("[IMG]"), spatial_merge_size=2,
    )  # fmt: skip
    return build(tf.Mistral3ForConditionalGeneration, config), _pixtral(2)


FAMILY_BUILDERS: dict[str, Callable[[], Family]] = {
    build.__name__: build
    for build in (
        llava, locheads_llava, locheads_mini_gemini, llava_pixtral, vipllava, llava_next, llava_onevision, deepseek_vl,
        deepseek_vl_hybrid, internvl, qwen2_vl, qwen2_5_vl, qwen3_vl, gemma3, paligemma, paligemma2, idefics3, smolvlm,
        mistral3,
    )
}  # fmt: skip
"""Name of the case -> builder. The name is the model_type, but for a family's further forms."""
