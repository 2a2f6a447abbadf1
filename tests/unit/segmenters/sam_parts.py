"""Small SAMs of random weights, and Meta's package where torchvision is not installed."""

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

SIDE = 64


def tiny_sam(folder: Path) -> Path:
    """transformers' format: 64 x 64 pixels, patches of 16."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=16, mlp_dim=32,
            output_channels=16, window_size=2, global_attn_indexes=[1], num_pos_feats=8,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=16, image_size=SIDE, patch_size=16),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )  # fmt: skip
    model = SamModel(config)
    _sharpen(model)
    model.save_pretrained(folder)
    return folder


def tiny_sam2(folder: Path) -> Path:
    """Four stages of Hiera on 64 x 64 pixels."""
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[SIDE, SIDE], blocks_per_stage=[1, 2, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 2, 2, 2], global_attention_blocks=[2],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ),
    )  # fmt: skip
    model = Sam2Model(config)
    _sharpen(model)
    model.save_pretrained(folder)
    return folder


def meta_package() -> Any:
    """Meta's package. Without torchvision with stand-ins for what it calls of it: `resize` and `to_pil_image`.

    Its automatic mask generator, which we never call, imports two names more.
    """
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("the package segment-anything is not installed")
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("segment_anything")
    stand_ins = {name: ModuleType(name) for name in (
        "torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms",
        "torchvision.transforms.functional",
    )}  # fmt: skip
    stand_ins["torchvision.ops.boxes"].batched_nms = stand_ins["torchvision.ops.boxes"].box_area = None
    functional = stand_ins["torchvision.transforms.functional"]
    functional.to_pil_image = Image.fromarray
    functional.resize = lambda image, size: image.resize(size[::-1], Image.Resampling.BILINEAR)
    sys.modules |= stand_ins
    try:
        return importlib.import_module("segment_anything")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def random_vit_b(package: Any, side: int) -> torch.nn.Module:
    """Meta's vit_b of random weights, in which no tensor is zero: one that is not carried over would show."""
    from segment_anything import modeling

    torch.manual_seed(1)
    grid = side // 16
    model = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=12, embed_dim=768, img_size=side, mlp_ratio=4, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=12, patch_size=16, qkv_bias=True, use_rel_pos=True, global_attn_indexes=[2, 5, 8, 11],
            window_size=14, out_chans=256,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3, transformer_dim=256, iou_head_depth=3, iou_head_hidden_dim=256,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
    ).eval()  # fmt: skip
    _sharpen(model)
    return model


def make_image(width: int = 150, height: int = 110, seed: int = 0) -> Image.Image:
    """A disc on a gradient, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    disc = (x - 0.45 * width) ** 2 + (y - 0.5 * height) ** 2 < (0.25 * height) ** 2
    channels = [255 * x / width, 255 * y / height, 200.0 * disc]
    pixels = np.stack(channels, axis=-1) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _sharpen(model: torch.nn.Module) -> None:
    """Random weights give near-uniform attention and masks; zeros (positions) would hide a name that is lost."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.1)
