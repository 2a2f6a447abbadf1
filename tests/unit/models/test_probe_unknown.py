"""model.adapter=probe on families that have no adapter here: found within half a cell of a geometry worked out by hand.

The expected grids follow from the families' image processors alone, in formulas that share no code with the adapters.
"""

import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
import transformers as tf
from families import MROPE
from family_parts import (
    HIDDEN,
    NAMED,
    QWEN_CHAT,
    Family,
    build,
    chat,
    images,
    tagged,
    text,
    token_id,
    tokenizer,
    vision,
    without_video,
)
from test_probe import PROMPT, SIZES, probe, small  # noqa: F401  the fixture makes the probe's images small

from locheads.geometry import Geometry
from locheads.models import capture
from locheads.models.adapters import FAMILIES
from locheads.models.findings import Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import noise
from locheads.models.verification.stock_prompt import check_prompt

Corners = tuple[float, float, float, float]
TOWER = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN,
         "patch_size": 8}  # fmt: skip


def lighton_ocr() -> Family:
    config = tf.LightOnOcrConfig(
        vision_config=vision(tf.PixtralVisionConfig, 64, 8, head_dim=8), text_config=text(tf.Qwen3Config),
        image_token_id=token_id("[IMG]"), spatial_merge_size=2,
    )  # fmt: skip
    image_processor = images(
        "pixtral.image_processing_pil_pixtral", "PixtralImageProcessorPil", size={"longest_edge": 64},
        patch_size={"height": 16, "width": 16},
    )  # fmt: skip
    named = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    processor = tf.LightOnOcrProcessor(
        image_processor, tokenizer(**named), patch_size=8, spatial_merge_size=2, chat_template=tagged("[IMG]")
    )
    return build(tf.LightOnOcrForConditionalGeneration, config), processor


def glm_ocr() -> Family:
    marks = {f"{kind}_{end}_token_id": token_id(f"<|{word}_of_{kind}|>") for kind in ("image", "video")
             for end, word in (("start", "begin"), ("end", "end"))}  # fmt: skip
    config = tf.GlmOcrConfig(
        vision_config={**TOWER, "image_size": 32}, **marks, image_token_id=token_id("<|image|>"),
        text_config=text(dict, rope_parameters={**MROPE, "partial_rotary_factor": 1.0}),
        video_token_id=token_id("<|video|>"),
    )  # fmt: skip
    image_processor = images(
        "glm46v.image_processing_pil_glm46v", "Glm46VImageProcessorPil", patch_size=8, merge_size=2,
        size={"shortest_edge": 2 * 32 * 32, "longest_edge": 2 * 96 * 96},
    )  # fmt: skip
    template = tagged("<|begin_of_image|><|image|><|end_of_image|>")
    processor = without_video(tf.Glm46VProcessor, image_processor, tokenizer(), chat_template=template)
    return build(tf.GlmOcrForConditionalGeneration, config), processor


def exaone4_5() -> Family:
    tower = {**TOWER, "window_size": 32, "fullatt_block_indexes": [1], "num_key_value_heads": 1}
    config = tf.Exaone4_5_Config(
        vision_config=tower, image_token_id=token_id("<|image_pad|>"), video_token_id=token_id("<|video_pad|>"),
        text_config=text(tf.Exaone4Config, sliding_window=None, layer_types=["full_attention"] * 3).to_dict(),
    )  # fmt: skip
    image_processor = images(
        "qwen2_vl.image_processing_pil_qwen2_vl", "Qwen2VLImageProcessorPil", patch_size=8, merge_size=2,
        size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    )  # fmt: skip
    processor = without_video(tf.Exaone4_5_Processor, image_processor, tokenizer(), chat_template=QWEN_CHAT)
    return build(tf.Exaone4_5_ForConditionalGeneration, config), processor


def video_llava() -> Family:
    config = tf.VideoLlavaConfig(
        vision_config=vision(tf.CLIPVisionConfig, 32, 8, projection_dim=16), text_config=text(tf.LlamaConfig),
        image_token_index=token_id("<image>"), video_token_index=token_id("<video>"), image_seq_length=16,
    )  # fmt: skip
    image_processor = tf.VideoLlavaImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with mock.patch.object(tf.ProcessorMixin, "check_argument_for_proper_class"):
        processor = tf.VideoLlavaProcessor(
            image_processor, None, tokenizer("<s>"), patch_size=8, chat_template=chat("<image>")
        )
    return build(tf.VideoLlavaForConditionalGeneration, config), processor


PIXELS = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}


def video_llama_3() -> Family:
    config = tf.VideoLlama3Config(
        vision_config=vision(dict, 32, 8), text_config=text(tf.Qwen2Config).to_dict(),
        image_token_id=token_id("<|image_pad|>"), video_token_id=token_id("<|video_pad|>"),
    )  # fmt: skip
    image_processor = images(
        "video_llama_3.image_processing_pil_video_llama_3", "VideoLlama3ImageProcessorPil", patch_size=8, merge_size=2,
        size=PIXELS,
    )  # fmt: skip
    processor = without_video(tf.VideoLlama3Processor, image_processor, tokenizer(), chat_template=QWEN_CHAT)
    return build(tf.VideoLlama3ForConditionalGeneration, config), processor


def paddleocr_vl() -> Family:
    marks = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    config = tf.PaddleOCRVLConfig(
        vision_config=vision(dict, 32, 8), text_config=text(dict, rope_parameters=MROPE),
        **{name: token_id(mark) for name, mark in marks.items()},
    )  # fmt: skip
    image_processor = images(
        "paddleocr_vl.image_processing_pil_paddleocr_vl", "PaddleOCRVLImageProcessorPil", patch_size=8, merge_size=2,
        size=PIXELS,
    )  # fmt: skip
    processor = tf.PaddleOCRVLProcessor(
        image_processor, tokenizer(image_token="<|image_pad|>"), chat_template=QWEN_CHAT
    )
    return build(tf.PaddleOCRVLForConditionalGeneration, config), processor


def qianfan_ocr() -> Family:
    """Its processor expands <image> to tokens of another name."""
    config = tf.QianfanOCRConfig(
        vision_config=vision(dict, 32, 4), text_config=text(tf.Qwen3Config).to_dict(), image_seq_length=16,
        image_token_id=token_id("<IMG_CONTEXT>"),
    )  # fmt: skip
    image_processor = images(
        "got_ocr2.image_processing_pil_got_ocr2", "GotOcr2ImageProcessorPil", size={"height": 32, "width": 32},
        max_patches=6,
    )  # fmt: skip
    named = {name: NAMED[name] for name in ("start_image_token", "end_image_token", "context_image_token")}
    processor = tf.QianfanOCRProcessor(
        image_processor, tokenizer(**named), image_seq_length=16, chat_template=tagged("<image>")
    )
    return build(tf.QianfanOCRForConditionalGeneration, config), processor


def hunyuan_vl() -> Family:
    """Positions in four rows; rows of cells end in a token of the cells' own id, and one more stands at each end."""
    marks = {"image_token_id": "<|image_pad|>", "im_start_id": "<|vision_start|>", "im_end_id": "<|vision_end|>",
             "im_newline_id": "<im_col>"}  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 1, 1]}
    config = tf.HunYuanVLConfig(
        vision_config=vision(dict, 32, 8, out_hidden_size=HIDDEN, max_image_size=64, min_image_size=32),
        text_config=text(dict, rope_parameters=rope), **{name: token_id(mark) for name, mark in marks.items()},
    )  # fmt: skip
    image_processor = images(
        "hunyuan_vl.image_processing_pil_hunyuan_vl", "HunYuanVLImageProcessorPil", patch_size=8, merge_size=2,
        size=PIXELS,
    )  # fmt: skip
    named = {"image_token": "<|image_pad|>", "image_start_token": "<|vision_start|>",
             "image_end_token": "<|vision_end|>"}  # fmt: skip
    processor = tf.HunYuanVLProcessor(image_processor, tokenizer("<s>", **named), chat_template=QWEN_CHAT)
    return build(tf.HunYuanVLForConditionalGeneration, config), processor


def whole_cells(width: int, height: int, least: int, most: int) -> tuple[int, int, Corners]:
    """Qwen's: both sides to the nearest 16 pixels; scaled by area, downwards or upwards, where it is out of bounds."""
    rows, cols = round(height / 16), round(width / 16)
    if rows * cols * 256 > most:
        scale = math.sqrt(most / (width * height))
        rows, cols = (max(1, math.floor(side * scale / 16)) for side in (height, width))
    elif rows * cols * 256 < least:
        scale = math.sqrt(least / (width * height))
        rows, cols = (math.ceil(side * scale / 16) for side in (height, width))
    return rows, cols, (0, 0, cols, rows)


def longest_edge(width: int, height: int) -> tuple[int, int, Corners]:
    """Pixtral's: the long side to 64 pixels at most, each side up to whole cells of 16."""
    scale = min(1, 64 / max(width, height))
    rows, cols = (math.ceil(math.floor(side * scale) / 16) for side in (height, width))
    return rows, cols, (0, 0, cols, rows)


def middle(width: int, height: int) -> tuple[int, int, Corners]:
    """CLIP's: the short side fills four cells, the ends of the long one are cut off alike."""
    cell = min(width, height) / 4
    x, y = (4 - width / cell) / 2, (4 - height / cell) / 2
    return 4, 4, (x, y, 4 - x, 4 - y)


UNKNOWN: dict[str, tuple[Callable[[], Family], Callable[[int, int], tuple[int, int, Corners]]]] = {
    "lighton_ocr": (lighton_ocr, longest_edge),
    "glm_ocr": (glm_ocr, lambda width, height: whole_cells(width, height, 32 * 32, 96 * 96)),
    "exaone4_5": (exaone4_5, lambda width, height: whole_cells(width, height, 32 * 32, 96 * 96)),
    "video_llava": (video_llava, middle),
    "video_llama_3": (video_llama_3, lambda width, height: whole_cells(width, height, 32 * 32, 96 * 96)),
    "paddleocr_vl": (paddleocr_vl, lambda width, height: whole_cells(width, height, 32 * 32, 96 * 96)),
    "qianfan_ocr": (qianfan_ocr, lambda width, height: (4, 4, (0, 0, 4, 4))),
    "hunyuan_vl": (hunyuan_vl, lambda width, height: whole_cells(width, height, 32 * 32, 96 * 96)),
}


def asked(name: str) -> Lvlm:
    model, processor = UNKNOWN[name][0]()
    capture.install(model.eval())
    return Lvlm(model, probe(model, processor), torch.device("cpu"))


def apart(geometry: Geometry, expected: tuple[int, int, Corners]) -> float:
    """Cells between the two at most, over what the model sees of the image."""
    rows, cols, (x0, y0, x1, y1) = expected
    assert (geometry.rows, geometry.cols) == (rows, cols)
    scale = np.array([(x1 - x0) / geometry.width, (y1 - y0) / geometry.height] * 2)
    seen = geometry.window()
    return float(np.abs(geometry.to_cells(seen) - (seen * scale + np.array([x0, y0, x0, y0]))).max())


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_family_without_an_adapter_is_found_within_half_a_cell(name: str, small: None) -> None:  # noqa: F811
    lvlm, by_hand = asked(name), UNKNOWN[name][1]
    adapter = lvlm.adapter
    assert adapter.config.model_type == name
    assert name not in FAMILIES
    assert [one.text for one in check_prompt(lvlm, PROMPT) if one.outcome == Outcome.failed] == []
    for size in SIZES:
        geometry = adapter.prepare(noise(*size, seed=3), ["the red cup", "dog"], PROMPT).geometry
        assert apart(geometry, by_hand(*size)) < 0.5
        if name == "video_llava" and size == (200, 60):  # the whole image is another geometry than its middle
            assert apart(geometry, (4, 4, (0, 0, 4, 4))) > 0.5
