"""One tiny model of every family, from its real config classes, with its real processor: nothing is downloaded.

Weights are random, and queries and keys sharpened: near-uniform attention rows agree whatever the code does.
"""

import importlib
import re
import string
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import transformers as tf
from family_parts import (
    CORPUS,
    HEADS,
    HIDDEN,
    NAMED,
    QWEN_CHAT,
    Family,
    build,
    chat,
    images,
    seeing,
    tagged,
    text,
    token_id,
    tokenizer,
    vision,
    without_video,
)
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

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


def janus() -> Family:
    codes = {"base_channels": 32, "latent_channels": 32, "channel_multiplier": (1,), "num_res_blocks": 1,
             "embed_dim": 4, "num_embeddings": 8, "projection_dim": 8, "image_token_embed_dim": 8}  # fmt: skip
    config = tf.JanusConfig(
        vision_config=vision(tf.JanusVisionConfig, 32, 8, projection_dim=HIDDEN, num_image_tokens=16, mlp_ratio=2.0),
        text_config=text(tf.LlamaConfig), vq_config=tf.JanusVQVAEConfig(**codes),
        image_token_id=token_id("<image_placeholder>"),
    )  # fmt: skip
    image_processor = images(
        "janus.image_processing_pil_janus", "JanusImageProcessorPil", size={"height": 32, "width": 32}, min_size=4
    )
    named = {"boi_token": "<|begin_of_image|>", "eoi_token": "<|end_of_image|>"}
    processor = tf.JanusProcessor(
        image_processor, tokenizer("<s>", image_token="<image_placeholder>", **named), num_image_tokens=16,
        chat_template=chat("<image_placeholder>"),
    )  # fmt: skip
    return build(tf.JanusForConditionalGeneration, config), processor


def got_ocr2() -> Family:
    tower = tf.GotOcr2VisionConfig(
        hidden_size=16, output_channels=8, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=4,
        window_size=4, global_attn_indexes=[1], mlp_dim=32, initializer_range=0.02,
    )  # fmt: skip
    config = tf.GotOcr2Config(
        vision_config=tower, text_config=text(tf.Qwen2Config), image_token_index=token_id("<imgpad>")
    )
    processor = tf.GotOcr2Processor(_got(64), tokenizer())
    processor.num_image_tokens = 16
    return build(tf.GotOcr2ForConditionalGeneration, config), processor


def _got(side: int, **options: Any) -> Any:
    square = {"height": side, "width": side}
    return images("got_ocr2.image_processing_pil_got_ocr2", "GotOcr2ImageProcessorPil", size=square, **options)


def aya_vision() -> Family:
    config = tf.AyaVisionConfig(
        vision_config=vision(tf.SiglipVisionConfig, 32, 4, vision_use_head=False),
        text_config=text(tf.Cohere2Config, sliding_window=64), image_token_index=token_id("<|IMG_PATCH|>"),
    )  # fmt: skip
    processor = tf.AyaVisionProcessor(
        _got(32, max_patches=6), tokenizer("<s>"), patch_size=8, img_size=32, chat_template=tagged("<image>"),
    )  # fmt: skip
    return build(tf.AyaVisionForConditionalGeneration, config, seed=1), processor


def cohere2_vision() -> Family:
    config = tf.Cohere2VisionConfig(
        vision_config=vision(tf.SiglipVisionConfig, 32, 4, vision_use_head=False), alignment_intermediate_size=32,
        text_config=text(tf.Cohere2Config, sliding_window=64), image_token_id=token_id("<|IMG_PATCH|>"),
    )  # fmt: skip
    image_processor = images(
        "cohere2_vision.image_processing_cohere2_vision", "Cohere2VisionImageProcessor",
        size={"height": 32, "width": 32}, max_patches=6, patch_size=4,
    )  # fmt: skip
    named = {"boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>", "image_token": "<|IMG_PATCH|>"}
    processor = tf.Cohere2VisionProcessor(
        image_processor, tokenizer("<s>", **named, img_line_break_token="<|IMG_LINE_BREAK|>"),
        chat_template=tagged("<|IMG_PATCH|>"),
    )  # fmt: skip
    return build(tf.Cohere2VisionForConditionalGeneration, config), processor


def llama4() -> Family:
    tower = vision(
        tf.Llama4VisionConfig, 32, 4, vision_output_dim=16, projector_input_dim=16, projector_output_dim=16,
        intermediate_size=64,
    )  # fmt: skip
    experts = {"num_local_experts": 2, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2,
               "no_rope_layer_interval": 2, "use_qk_norm": False}  # fmt: skip
    config = tf.Llama4Config(
        vision_config=tower, text_config=text(tf.Llama4TextConfig, attention_chunk_size=256, **experts),
        image_token_index=token_id("<|patch|>"), boi_token_index=token_id("<|image_start|>"),
        eoi_token_index=token_id("<|image_end|>"),
    )  # fmt: skip
    image_processor = images(
        "llama4.image_processing_llama4", "Llama4ImageProcessor", size={"height": 32, "width": 32}, max_patches=6
    )
    processor = tf.Llama4Processor(image_processor, tokenizer("<s>"), patch_size=4, chat_template=tagged("<|image|>"))
    return seeing(build(tf.Llama4ForConditionalGeneration, config)), processor


def perception_lm() -> Family:
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": [32, 32], "patch_size": 4, "mlp_ratio": 2.0,
             "ref_feat_shape": [8, 8], "global_pool": "", "use_post_transformer_norm": False}  # fmt: skip
    tower = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384", "do_pooling": False,
             "model_args": sizes}  # fmt: skip
    config = tf.PerceptionLMConfig(
        vision_config=tower, text_config=text(tf.LlamaConfig), projector_pooling_ratio=2, vision_use_cls_token=True,
        image_token_id=token_id("<image>"), video_token_id=token_id("<video>"),
    )  # fmt: skip
    image_processor = images(
        "perception_lm.image_processing_perception_lm", "PerceptionLMImageProcessor", tile_size=32, max_num_tiles=6
    )
    with mock.patch.object(tf.ProcessorMixin, "check_argument_for_proper_class"):
        processor = tf.PerceptionLMProcessor(
            None, image_processor, tokenizer("<s>", image_token="<image>", video_token="<video>"), patch_size=4,
            chat_template=chat("<image>"),
        )  # fmt: skip
    return build(tf.PerceptionLMForConditionalGeneration, config), processor


def molmo2() -> Family:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "hidden_size": 16,
             "intermediate_size": 32}  # fmt: skip
    adapter = {**heads, "text_hidden_size": HIDDEN, "vision_feature_layer": [-1, -2]}
    marks = {"image_start_token_id": "<im_start>", "low_res_image_start_token_id": "<low_res_im_start>",
             "image_end_token_id": "<im_end>", "image_patch_id": "<im_patch>", "frame_start_token_id": "<frame_start>",
             "frame_end_token_id": "<frame_end>"}  # fmt: skip
    config = tf.Molmo2Config(
        vision_config={**heads, "image_size": [36, 36], "patch_size": 4, "num_hidden_layers": 2},
        adapter_config=adapter, text_config=text(dict), **{name: token_id(mark) for name, mark in marks.items()},
    )  # fmt: skip
    image_processor = images(
        "molmo2.image_processing_molmo2", "Molmo2ImageProcessor", size={"height": 36, "width": 36}, patch_size=4,
        max_crops=4, overlap_margins=[1, 1],
    )  # fmt: skip
    with mock.patch.object(tf.ProcessorMixin, "check_argument_for_proper_class"):
        processor = tf.Molmo2Processor(image_processor, None, tokenizer(), chat_template="</s>" + tagged("<|image|>"))
    model = seeing(build(tf.Molmo2ForConditionalGeneration, config))
    for name, weight in model.named_parameters():
        if "language_model" in name and "q_norm" in name:
            torch.nn.init.constant_(weight, 4)  # it undoes the sharpening
    return model, processor


def kimi_k25() -> Family:
    ranks = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
             "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
             "n_group": 1, "topk_group": 1, "head_dim": 4,
             "first_k_dense_replace": 1, "num_key_value_heads": HEADS}  # fmt: skip
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "patch_size": 8, "pos_emb_height": 8, "pos_emb_width": 8}  # fmt: skip
    config = tf.Kimi_K25Config(
        vision_config=tower, text_config=text(tf.DeepseekV3Config, **ranks), projection_hidden_size=16,
        image_token_id=token_id("<|media_pad|>"), video_token_id=token_id("<video>"),
        vision_start_token_id=token_id("<|media_begin|>"), vision_end_token_id=token_id("<|media_end|>"),
    )  # fmt: skip
    image_processor = images(
        "kimi_k25.image_processing_kimi_k25", "Kimi_K25ImageProcessor", patch_size=8, merge_size=2, max_patches=144,
        size={"max_height": 64, "max_width": 64},
    )  # fmt: skip
    template = tagged("<|media_begin|>image<|media_content|><|media_pad|><|media_end|>")
    words = tokenizer(image_token="<|media_pad|>", video_token="<video>")
    processor = without_video(tf.Kimi_K25Processor, image_processor, words, chat_template=template)
    return build(tf.Kimi_K25ForConditionalGeneration, config), processor


def gemma3n() -> Family:
    layers = ["sliding_attention", "full_attention"] * 2
    words = text(dict)["vocab_size"]
    sizes = {"sliding_window": 32, "layer_types": layers, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
             "vocab_size_per_layer_input": words, "hidden_size_per_layer_input": 4, "laurel_rank": 4,
             "activation_sparsity_pattern": [0.0] * 4, "intermediate_size": 48}  # fmt: skip
    tower = {"architecture": "convnext_atto", "hidden_size": 16, "do_pooling": False, "vocab_size": 8,
             "vocab_offset": words, "model_args": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}}  # fmt: skip
    audio = {"hidden_size": 8, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1, "vocab_size": 8,
             "vocab_offset": words + 8, "sscp_conv_channel_size": [4, 4]}  # fmt: skip
    marks = {"image": "<image_soft_token>", "boi": "<start_of_image>", "eoi": "<end_of_image>", "audio": "<audio>",
             "boa": "<boa>", "eoa": "<eoa>"}  # fmt: skip
    config = tf.Gemma3nConfig(
        text_config=text(tf.Gemma3nTextConfig, **sizes).to_dict(), vision_config=tower, audio_config=audio,
        vision_soft_tokens_per_image=16, **{f"{name}_token_id": token_id(mark) for name, mark in marks.items()},
    )  # fmt: skip
    image_processor = images(
        "siglip.image_processing_pil_siglip", "SiglipImageProcessorPil", size={"height": 128, "width": 128}
    )
    words = tokenizer("<bos>", **{f"{name}_token": mark for name, mark in marks.items()})
    processor = tf.Gemma3nProcessor(
        tf.Gemma3nAudioFeatureExtractor(), image_processor, words, image_seq_length=16,
        chat_template=chat("<image_soft_token>", "<bos>"),
    )  # fmt: skip
    return build(tf.Gemma3nForConditionalGeneration, config), processor


def gemma4() -> Family:
    layers = ["sliding_attention", "full_attention"] * 2
    sizes = {"sliding_window": 32, "layer_types": layers, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
             "vocab_size_per_layer_input": text(dict)["vocab_size"], "hidden_size_per_layer_input": 4,
             "global_head_dim": 16, "use_bidirectional_attention": "vision"}  # fmt: skip
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "pooling_kernel_size": 2,
             "position_embedding_size": 256}  # fmt: skip
    marks = {"image": "<image_soft_token>", "boi": "<start_of_image>", "eoi": "<end_of_image>", "audio": "<audio>",
             "boa": "<boa>", "eoa": "<eoa>"}  # fmt: skip
    config = tf.Gemma4Config(
        text_config=text(tf.Gemma4TextConfig, **sizes).to_dict(), vision_config=tower, audio_config=None,
        eoa_token_index=token_id("<eoa>"), video_token_id=token_id("<|video|>"),
        **{f"{name}_token_id": token_id(mark) for name, mark in marks.items() if name != "eoa"},
    )  # fmt: skip
    image_processor = images(
        "gemma4.image_processing_pil_gemma4", "Gemma4ImageProcessorPil", patch_size=4, pooling_kernel_size=2,
        max_soft_tokens=70,
    )  # fmt: skip
    with mock.patch.object(tf.ProcessorMixin, "check_argument_for_proper_class"):
        processor = tf.Gemma4Processor(
            None, image_processor, tokenizer("<bos>", **{f"{name}_token": mark for name, mark in marks.items()}), None,
            chat_template=chat("<image_soft_token>", "<bos>"),
        )  # fmt: skip
    model = build(tf.Gemma4ForConditionalGeneration, config)
    for name, weight in model.named_parameters():
        if "language_model" in name and "q_norm" in name:
            torch.nn.init.constant_(weight, 4)
    return model, processor


def ovis2() -> Family:
    parts = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    config = tf.Ovis2Config(
        vision_config=vision(tf.Ovis2VisionConfig, 32, 4, hidden_stride=2, vocab_size=24), hidden_size=HIDDEN,
        text_config=text(tf.Qwen2Config), image_token_id=token_id("<IMG_ATOM>"), vocab_size=text(dict)["vocab_size"],
        visual_indicator_token_ids=[token_id(part) for part in parts],
    )  # fmt: skip
    image_processor = images(
        "ovis2.image_processing_pil_ovis2", "Ovis2ImageProcessorPil", size={"height": 32, "width": 32}, max_patches=6,
        crop_to_patches=True,
    )  # fmt: skip
    processor = tf.Ovis2Processor(image_processor, tokenizer(), image_seq_length=16, chat_template=tagged("<image>\n"))
    return build(tf.Ovis2ForConditionalGeneration, config), processor


def internvl() -> Family:
    config = tf.InternVLConfig(
        vision_config=vision(tf.InternVLVisionConfig, 32, 4), text_config=text(tf.Qwen2Config), image_seq_length=16,
        image_token_id=token_id("<IMG_CONTEXT>"), downsample_ratio=0.5,
    )  # fmt: skip
    names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    processor = without_video(
        tf.InternVLProcessor, _got(32, max_patches=6), tokenizer(**{name: NAMED[name] for name in names}),
        image_seq_length=16, chat_template=tagged("<IMG_CONTEXT>\n"),
    )  # fmt: skip
    return build(tf.InternVLForConditionalGeneration, config), processor


MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}


def _qwen_images(patch: int) -> Any:
    return images(
        "qwen2_vl.image_processing_pil_qwen2_vl", "Qwen2VLImageProcessorPil", patch_size=patch, merge_size=2,
        size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    )  # fmt: skip


def _qwen(name: str, patch: int, vision_options: dict[str, Any], text_options: dict[str, Any] | None = None) -> Family:
    config = getattr(tf, f"{name}Config")(
        vision_config={"patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision_options},
        text_config=text(dict, rope_parameters=MROPE, **(text_options or {})), image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"), vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )  # fmt: skip
    kind = getattr(tf, f"{name.removesuffix('Moe')}Processor")
    processor = without_video(kind, _qwen_images(patch), tokenizer(), chat_template=QWEN_CHAT)
    return build(getattr(tf, f"{name}ForConditionalGeneration"), config), processor


def qwen2_vl() -> Family:
    return _qwen("Qwen2VL", 8, {"depth": 2, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2})


def qwen2_5_vl() -> Family:
    sizes = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    return _qwen("Qwen2_5_VL", 8, {**sizes, "window_size": 32, "fullatt_block_indexes": [1]})


def qwen3_vl() -> Family:
    sizes = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    return _qwen("Qwen3VL", 8, {**sizes, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]})


def qwen3_vl_moe() -> Family:
    sizes = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return _qwen("Qwen3VLMoe", 8, {**sizes, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}, experts)


def qwen2_5_omni_thinker() -> Family:
    names = {"image": "<|image_pad|>", "audio": "<|AUDIO|>", "video": "<|video_pad|>"}
    marks = ("vision_bos", "vision_eos", "audio_bos", "audio_eos")
    tower = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN,
             "patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]}  # fmt: skip
    audio = {
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "d_model": 16,
        "output_dim": HIDDEN,
    }
    config = tf.Qwen2_5OmniThinkerConfig(
        vision_config=tower, text_config=text(dict, rope_parameters=MROPE), audio_config=audio,
        vision_start_token_id=token_id("<|vision_start|>"),
        **{f"{name}_token_index": token_id(token) for name, token in names.items()},
    )  # fmt: skip
    named = {f"{name}_token": token for name, token in names.items()} | {
        f"{name}_token": f"<|{name}|>" for name in marks
    }
    with mock.patch.object(tf.ProcessorMixin, "check_argument_for_proper_class"):
        processor = tf.Qwen2_5OmniProcessor(
            _qwen_images(8), None, tf.WhisperFeatureExtractor(), tokenizer(**named), chat_template=QWEN_CHAT
        )
    return build(tf.Qwen2_5OmniThinkerForConditionalGeneration, config), processor


def _glm(name: str, **options: Any) -> Family:
    marks = {f"{kind}_{end}_token_id": token_id(f"<|{word}_of_{kind}|>") for kind in ("image", "video")
             for end, word in (("start", "begin"), ("end", "end"))}  # fmt: skip
    tower = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN,
             "patch_size": 8, "image_size": 32}  # fmt: skip
    config = getattr(tf, f"{name}Config")(
        vision_config=tower, **marks,
        text_config=text(dict, rope_parameters={**MROPE, "partial_rotary_factor": 1.0}, **options),
        image_token_id=token_id("<|image|>"), video_token_id=token_id("<|video|>"),
    )  # fmt: skip
    kind = name.removesuffix("Moe")
    image_processor = images(
        f"{kind.lower()}.image_processing_pil_{kind.lower()}", f"{kind}ImageProcessorPil", patch_size=8, merge_size=2,
        size={"shortest_edge": 2 * 32 * 32, "longest_edge": 2 * 96 * 96},
    )  # fmt: skip
    template = tagged("<|begin_of_image|><|image|><|end_of_image|>")
    processor = without_video(getattr(tf, f"{kind}Processor"), image_processor, tokenizer(), chat_template=template)
    return build(getattr(tf, f"{name}ForConditionalGeneration"), config), processor


def glm4v() -> Family:
    return _glm("Glm4v")


def glm46v() -> Family:
    return _glm("Glm46V")


def glm4v_moe() -> Family:
    return _glm("Glm4vMoe", n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)


def ernie4_5_vl_moe() -> Family:
    ends = [("image", "IMAGE"), ("video", "VIDEO")]
    named = {f"{kind}_{end}token": f"<|{word}_{tag}|>" for kind, word in ends
             for end, tag in (("", "PLACEHOLDER"), ("start_", "START"), ("end_", "END"))}  # fmt: skip
    tower = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 8}
    experts = {"moe_intermediate_size": [16, 8], "moe_k": 2, "moe_num_experts": 4, "moe_num_shared_experts": 1}
    config = tf.Ernie4_5_VLMoeConfig(
        vision_config=tower, text_config=text(dict, rope_parameters={**MROPE, "mrope_section": [1, 1, 2]}, **experts),
        **{f"{name}_id": token_id(token) for name, token in named.items()},
    )  # fmt: skip
    image_processor = images(
        "ernie4_5_vl_moe.image_processing_pil_ernie4_5_vl_moe", "Ernie4_5_VLMoeImageProcessorPil", patch_size=8,
        merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    )  # fmt: skip
    template = tagged("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>")
    processor = without_video(tf.Ernie4_5_VLMoeProcessor, image_processor, tokenizer(**named), chat_template=template)
    return build(tf.Ernie4_5_VLMoeForConditionalGeneration, config), processor


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


def _fuyu_words() -> Any:
    """A piece for a blank before every text, whatever follows, and no special tokens."""
    marks = ["<unk>", "<pad>", "<s>", "</s>", "<0x04>", "|SPEAKER|", "|NEWLINE|", "▁"]
    known = dict.fromkeys([*marks, *re.findall("[a-z]+", CORPUS[0]), *string.printable])
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    words.normalizer = normalizers.Prepend("▁")
    piece = Regex("|".join(map(re.escape, known)))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Split(piece, "isolated"), decoders.Fuse()
    return tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")


LFM2_LAYERS = ("full_attention", "full_attention", "conv", "full_attention", "conv")


def lfm2_vl(layers: tuple[str, ...] = LFM2_LAYERS) -> Family:
    marks = {"image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>",
             "image_thumbnail_token": "<global-img>"}  # fmt: skip
    tower = vision(tf.Siglip2VisionConfig, 32, 4, num_patches=64, vision_use_head=False)
    # Convolutions that reach over a short expression: a query would see the end of the one before it.
    words = text(tf.Lfm2Config, layer_types=list(layers), num_hidden_layers=len(layers), conv_L_cache=6)
    config = tf.Lfm2VlConfig(
        vision_config=tower.to_dict(), text_config=words.to_dict(), image_token_id=token_id("<image>"),
        projector_hidden_size=16,
    )  # fmt: skip
    image_processor = images(
        "lfm2_vl.image_processing_lfm2_vl", "Lfm2VlImageProcessor", encoder_patch_size=4, tile_size=32, max_tiles=6,
        min_image_tokens=8, max_image_tokens=16,
    )  # fmt: skip
    model = build(tf.Lfm2VlForConditionalGeneration, config)
    for name, weight in model.named_parameters():
        if "q_layernorm.weight" in name:
            torch.nn.init.constant_(weight, 4)
        if ".conv." in name:  # else they would carry next to nothing
            torch.nn.init.normal_(weight, std=0.5)
    named = tokenizer("<s>", **marks)
    return seeing(model), tf.Lfm2VlProcessor(image_processor, named, chat_template=tagged("<image>"))


def fuyu() -> Family:
    words = _fuyu_words()
    config = tf.FuyuConfig(
        text_config=text(tf.PersimmonConfig, partial_rotary_factor=0.5).to_dict(), patch_size=8,
        image_token_id=words.convert_tokens_to_ids("|SPEAKER|"),
    )  # fmt: skip
    image_processor = images(
        "fuyu.image_processing_pil_fuyu", "FuyuImageProcessorPil", patch_size={"height": 8, "width": 8},
        size={"height": 96, "width": 128},
    )  # fmt: skip
    if not find_spec("torchvision"):  # PIL's cuts NumPy's arrays alone, and the whole processor gives it torch's
        kind = type(image_processor)
        cut = lambda self, image, **how: torch.from_numpy(kind.patchify_image(self, image.numpy(), **how))  # noqa: E731
        image_processor.__class__ = type(kind.__name__, (kind,), {"patchify_image": cut})
    model = build(tf.FuyuForCausalLM, config)
    for name, weight in model.named_parameters():
        if "q_layernorm.weight" in name:
            torch.nn.init.constant_(weight, 4)
        if "vision_embed_tokens" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model, tf.FuyuProcessor(image_processor, words)


CODES = 190
"""Words of the picture vocabulary, which are words of the text here, too: the models look them up by these ids."""


def emu3() -> Family:
    marks = {"image_token": "<image>", "boi_token": "<|image_start|>", "eoi_token": "<|image_end|>",
             "image_wrapper_token": "<im_start>", "eof_token": "<im_end>"}  # fmt: skip
    words = text(dict)["vocab_size"]
    known = {f"<|visual token {code:06d}|>": words - CODES + code for code in range(CODES)}
    tower = {"codebook_size": CODES, "base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1,
             "hidden_size": 32, "temporal_downsample_factor": 4}  # fmt: skip
    config = tf.Emu3Config(
        vq_config=tower, text_config=text(tf.Emu3TextConfig).to_dict(),
        vocabulary_map={**known, "<image>": token_id("<image>"), "<|extra_200|>": token_id("<im_col>")},
    )  # fmt: skip
    image_processor = tf.Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=96 * 96)
    processor = tf.Emu3Processor(
        image_processor, tokenizer("<s>", adds_bos=False, **marks), chat_template=chat("<image>")
    )
    return spelled(build(tf.Emu3ForConditionalGeneration, config), [(96, 96)] * 2), processor


@torch.no_grad()
def spelled(model: Any, *sizes: Any) -> Any:
    """With a picture vocabulary of what its tower makes of coloured squares: another colour is another word."""
    tower, made = model.model.vqmodel, []
    hook = tower.quant_conv.register_forward_hook(lambda *call: made.append(call[-1]))
    squares = torch.rand(2, 3, 24, 24).repeat_interleave(4, -1).repeat_interleave(4, -2)
    tower.encode(2 * squares - 1, *sizes)
    hook.remove()
    words = made[0].movedim(1, -1).flatten(0, -2)
    tower.quantize.embedding.weight.copy_(words[torch.randperm(len(words))[:CODES]])
    return model


def chameleon() -> Family:
    marks = {"image_token": "<image>", "boi_token": "<|image_start|>", "eoi_token": "<|image_end|>"}
    words = text(dict)["vocab_size"]
    letters = [f"{code:04d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ")) for code in range(CODES)]
    known = {f"IMGIMG{name}Z": words - CODES + code for code, name in enumerate(letters)}
    tower = {"num_embeddings": CODES, "embed_dim": 4, "latent_channels": 4, "resolution": 32, "base_channels": 32,
             "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1}  # fmt: skip
    config = text(tf.ChameleonConfig, vq_config=tower, vocabulary_map={**known, "<image>": token_id("<image>")})
    model = build(tf.ChameleonForConditionalGeneration, config, seed=1)
    for name, weight in model.named_parameters():
        if "q_norm.weight" in name:
            torch.nn.init.constant_(weight, 4)
    named = tokenizer("<s>", **marks)
    named.sep_token = "<im_end>"
    image_processor = _clip("chameleon", "ChameleonImageProcessorPil", 32)
    return spelled(model), tf.ChameleonProcessor(image_processor, named, image_seq_length=16)


FAMILY_BUILDERS: dict[str, Callable[[], Family]] = {
    build.__name__: build
    for build in (
        llava, locheads_llava, locheads_mini_gemini, llava_pixtral, vipllava, llava_next, llava_onevision, deepseek_vl,
        deepseek_vl_hybrid, janus, got_ocr2, internvl, aya_vision, ovis2, qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe,
        qwen2_5_omni_thinker, glm4v, glm46v, glm4v_moe, ernie4_5_vl_moe, gemma3, paligemma, paligemma2, idefics3,
        smolvlm, mistral3, fuyu, emu3, chameleon, gemma4,
    )
}  # fmt: skip
"""Name of the case -> builder. The name is the model_type, but for a family's further forms."""
NEED_PACKAGES = {cohere2_vision: ("torchvision",), llama4: ("torchvision",), molmo2: ("torchvision",),
                 kimi_k25: ("torchvision",), perception_lm: ("timm", "torchvision"), gemma3n: ("timm",),
                 lfm2_vl: ("torchvision",)}  # fmt: skip
"""Builders that need packages which not every environment has."""
MISSING = {one.__name__: ", ".join(name for name in packages if not find_spec(name))
           for one, packages in NEED_PACKAGES.items() if not all(map(find_spec, packages))}  # fmt: skip
"""Name of a case that cannot be built here -> the packages that it lacks."""
FAMILY_BUILDERS |= {one.__name__: one for one, packages in NEED_PACKAGES.items() if all(map(find_spec, packages))}
