"""Meta's SAM checkpoints: read without running code of theirs, checked, and renamed for transformers."""

import re
import zipfile
from pathlib import Path

import torch
from transformers import SamConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from locheads.errors import ModelError, boundary
from locheads.segmenters.config import SamSize

# Hidden size, layers, heads and the layers that attend globally: segment_anything/build_sam.py.
SHAPES = {
    SamSize.vit_b: (768, 12, 12, (2, 5, 8, 11)),
    SamSize.vit_l: (1024, 24, 16, (5, 11, 17, 23)),
    SamSize.vit_h: (1280, 32, 16, (7, 15, 23, 31)),
}

# Meta's name -> that of transformers' SamModel; the first rule that fits a part of the name applies, then the next.
_RENAMED = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.0\.", r"\1proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.1\.", r"\1layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.2\.", r"\1proj_out."),
)
_SHARED = "shared_image_embedding.positional_embedding"

Weights = dict[str, torch.Tensor]


def read_meta(path: Path, size: SamSize, mapped: bool = False) -> Weights:
    """The weights of a .pth file under Meta's names, of the size that it should have.

    `mapped`: their bytes stay in the file until they are used.

    Raises:
        ModelError: absent, damaged, more than weights in it, not SAM, or of another size.
    """
    if not path.is_file():
        raise ModelError(f"There is no {path}: set segmenter.checkpoint to a .pth file of SAM.")
    with boundary(f"{path} cannot be read as weights", ModelError, "download it again."):
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ModelError(f"{path} holds no plain weights, so it is no checkpoint of SAM: give Meta's .pth file.")
    _check_size(path, weights, size)
    return weights


def transformers_names(weights: Weights) -> Weights:
    """The same tensors under the names of transformers' SamModel."""
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    # The prompts' and the image's positions share one embedding, which SamModel lists twice.
    if _SHARED in renamed:
        renamed["prompt_encoder.shared_embedding.positional_embedding"] = renamed[_SHARED]
    return renamed


def sam_model(path: Path, size: SamSize, mapped: bool = False) -> SamModel:
    """transformers' SamModel with Meta's weights, none missing and none left over. Raises ModelError as `read_meta`.

    `mapped`: as there, which tells whether the file is right without reading the weights themselves.
    """
    weights = transformers_names(read_meta(path, size, mapped))
    hidden, layers, heads, global_layers = SHAPES[size]
    vision = SamVisionConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        mlp_dim=4 * hidden,
        global_attn_indexes=list(global_layers),
    )
    vision.image_size = vision.patch_size * weights["vision_encoder.pos_embed"].shape[1]
    prompts = SamPromptEncoderConfig(image_size=vision.image_size, patch_size=vision.patch_size)
    with torch.device("meta"):
        model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts))
    check_fit(path, model, weights, size)
    model.load_state_dict(weights, strict=True, assign=True)
    return model


def check_fit(path: Path, model: torch.nn.Module, weights: Weights, size: SamSize) -> None:
    """Whether the weights have the model's names and shapes. Raises ModelError."""
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for what, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has, beyond what SAM needs,", weights.keys() - expected.keys()),
    ):
        if names:
            first = ", ".join(sorted(names)[:3])
            raise ModelError(f"{path} {what} {len(names)} weights, such as {first}: it is no checkpoint of SAM.")
    for name, shape in expected.items():
        found = list(weights[name].shape)
        if found != shape:
            raise ModelError(f"{path} is not SAM {size.value}: its {name} has the shape {found}, not {shape}.")


def _check_size(path: Path, weights: Weights, size: SamSize) -> None:
    positions = weights.get("image_encoder.pos_embed")
    if positions is None or positions.ndim != 4:
        raise ModelError(
            f"{path} is no checkpoint of SAM: it has no image_encoder.pos_embed. Give Meta's .pth file, such as "
            "sam_vit_b_01ec64.pth."
        )
    hidden = positions.shape[-1]
    if hidden != SHAPES[size][0]:
        found = next((name.value for name, shape in SHAPES.items() if shape[0] == hidden), f"a width of {hidden}")
        raise ModelError(f"{path} holds {found}, but segmenter.size={size.value}: set segmenter.size to match it.")
