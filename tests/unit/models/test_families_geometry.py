"""Every family's geometry against its real processor and a real model: where does a white rectangle arrive?

In pixels, in what the vision tower is given; and in cells, by the check of stage=verify, in the tokens that the decoder
gets for the image. For the latter the vision tower's attention is switched off, so that a token only depends on its own
patch.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS, spelled
from PIL import Image
from test_families import TILED, adapter
from torch import Tensor

from locheads.geometry import Geometry, Preprocess
from locheads.models.adapters import FAMILIES, PreparedInput
from locheads.models.config import PromptConfig
from locheads.models.findings import Outcome
from locheads.models.load import Lvlm
from locheads.models.verification.painted_cells import check_geometry

PROMPT = PromptConfig(template="<image>\n{expression}")
SIZES = [(130, 70), (70, 130), (64, 64), (100, 90), (61, 97), (31, 33), (200, 60)]
CELL = {name: 16 for name in (
    "got_ocr2", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen2_5_omni_thinker", "glm4v", "glm46v",
    "glm4v_moe", "ernie4_5_vl_moe", "kimi_k25", "gemma3", "mistral3",
)} | {"smolvlm": 12, "locheads_mini_gemini": 32, "gemma3n": 32}  # fmt: skip
"""Pixels of the vision tower's input per cell, where it is not 8."""
UNSEEN = {"llava_onevision": 2, "smolvlm": 2, "molmo2": -4}
"""Pixels at the right and bottom of its input that the vision tower makes no patch of; half a cell without pixels."""
ENDS_WITHIN_A_CELL = ("kimi_k25", "molmo2", "fuyu")
"""At the right and bottom a part of the last cell shows nothing, though the geometry has it go on."""


def white_box(width: int, height: int) -> tuple[int, int, int, int]:
    """In one corner, so that a mirrored or shifted transform does not fit by luck."""
    return round(width * 0.1), round(height * 0.5), round(width * 0.5), round(height * 0.95)


def make_image(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, (0, 0, 0))
    image.paste((255, 255, 255), white_box(*size))
    return image


def view(name: str, prepared: PreparedInput) -> Tensor:
    """What the vision tower sees of the whole image, [height, width] of one colour, as it was normalised."""
    pixels = prepared.tensors["pixel_values"]
    if name == "kimi_k25":  # the bars' patches, too, row by row
        _, rows, cols = prepared.tensors["image_grid_thw"][0].tolist()
        return pixels[:, 0].reshape(rows, cols, 8, 8).transpose(1, 2).reshape(rows * 8, cols * 8)
    if name in ("lfm2_vl", "gemma4"):  # a view that comes last: rows of patches [height, width, colour], then filling
        rows, cols = prepared.geometry.rows * 2, prepared.geometry.cols * 2
        patches = pixels[-1, : rows * cols].reshape(rows, cols, 4, 4, 3)[..., 0]
        return patches.transpose(1, 2).reshape(rows * 4, cols * 4)
    if name == "fuyu":  # rows of patches [height, width, colour], as many as there are cells
        rows, cols = prepared.geometry.rows, prepared.geometry.cols
        return pixels.reshape(rows, cols, 8, 8, 3)[..., 0].transpose(1, 2).reshape(rows * 8, cols * 8)
    if name == "molmo2":
        return pixels[0].reshape(9, 9, 4, 4, 3)[..., 0].transpose(1, 2).reshape(36, 36)
    if "image_grid_thw" in prepared.tensors:
        # Rows of patches [cell row, cell column, row in cell, column in cell, colour, time (1 or 2), height, width].
        _, rows, cols = prepared.tensors["image_grid_thw"][0].tolist()
        patches = pixels.reshape(rows // 2, cols // 2, 2, 2, 3, -1, 8, 8)[:, :, :, :, 0, 0]
        return patches.permute(0, 2, 4, 1, 3, 5).reshape(rows * 8, cols * 8)
    last = name in ("idefics3", "smolvlm", "internvl", "aya_vision", "cohere2_vision", "llama4")
    pixels = pixels[0] if pixels.dim() == 5 else pixels.float()
    return pixels[-1 if last else 0, 0]


def first(of_a_colour: Any) -> float:
    """An image processor's mean or deviation, of one colour or of all."""
    return float(np.ravel(of_a_colour)[0])


def bounds(seen: np.ndarray) -> np.ndarray:
    """Tight xyxy box of the True cells of a grid."""
    ys, xs = np.nonzero(seen)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def expected_box(geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    limits = np.array([geometry.cols, geometry.rows] * 2)
    return np.clip(geometry.to_cells(np.array(white_box(*size))), 0, limits)


@pytest.mark.parametrize("how", list(Preprocess))
@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_a_rectangle_arrives_in_the_pixels_where_the_geometry_says(name: str, how: Preprocess) -> None:
    ours = adapter(name, how)
    images = ours.processor.image_processor
    for size in SIZES:
        prepared = ours.prepare(make_image(size), ["cup"], PROMPT)
        # Nearer to white than to the grey of bars.
        levels = view(name, prepared).numpy() * first(images.image_std) + first(images.image_mean)
        seen = levels > 0.75 * 255 * images.rescale_factor
        cell = CELL.get(name, 8)
        height, width = prepared.geometry.rows * cell, prepared.geometry.cols * cell
        assert seen.shape == (height + UNSEEN.get(name, 0), width + UNSEEN.get(name, 0))
        found = bounds(seen[:height, :width]) / cell
        # One and a half of the tower's pixels: under a fifth of a cell.
        expected = expected_box(prepared.geometry, size)
        if name in ENDS_WITHIN_A_CELL:
            white = view(name, ours.prepare(Image.new("RGB", size, "white"), ["cup"], PROMPT)).numpy()
            expected = np.minimum(expected, np.tile(bounds(white > 0)[2:], 2) / cell)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.5 / cell)


@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_the_high_resolution_view_agrees(name: str) -> None:
    if name != "deepseek_vl_hybrid":
        prepared = adapter(name).prepare(make_image((130, 70)), ["cup"], PROMPT)
        assert "high_res_pixel_values" not in prepared.tensors
        return
    for size in SIZES:
        prepared = adapter(name).prepare(make_image(size), ["cup"], PROMPT)
        found = bounds(prepared.tensors["high_res_pixel_values"][0, 0].numpy() > 0.9) / 16
        np.testing.assert_allclose(found, expected_box(prepared.geometry, size), rtol=0, atol=1 / 16)


class OfOnePlace(torch.nn.Module):
    """A norm over the channels of each pixel."""

    def forward(self, pixels: Tensor, *_: Any) -> Tensor:
        return torch.nn.functional.layer_norm(pixels.movedim(1, -1), pixels.shape[1:2]).movedim(-1, 1)


@torch.no_grad()
def without_neighbours(model: Any) -> Any:
    """With an encoder of pictures whose words are of their own cells alone."""
    for key, weight in model.named_parameters():
        if "vqmodel.encoder" in key and ("proj_out" in key or "out_proj" in key):
            weight.zero_()
        if "vqmodel.encoder" in key and weight.shape[-2:] == (3, 3):
            weight[..., 2, :], weight[..., 2] = 0, 0
            if "downsample" not in key:  # which takes two pixels of each side to one
                weight[..., 0, :], weight[..., 0] = 0, 0
    for module in list(model.modules()):
        for key, part in list(module.named_children()):
            if isinstance(part, torch.nn.GroupNorm):  # over the whole image
                setattr(module, key, OfOnePlace())
    return model


@cache
def near_sighted(name: str) -> Any:
    """The family's model, with a vision tower whose tokens do not look at each other."""
    model, _ = FAMILY_BUILDERS[name]()
    if name in ("emu3", "chameleon"):
        return spelled(without_neighbours(model), *[[(96, 96)] * 2][: name == "emu3"])
    outputs = (
        "attn.out_proj",
        "attn.proj.",
        "attention.projection_layer",
        "attention.o_proj",
        "attn.o_proj",
        "attention.out_proj",
        "attn.projection_layer",
    )
    with torch.no_grad():
        zeroed = [
            weight.zero_()
            for key, weight in model.named_parameters()
            if ("vision" in key or "visual" in key) and any(output in key for output in outputs)
        ]
        for key, weight in model.named_parameters():
            if name == "got_ocr2" and weight.shape[2:] == (3, 3):  # looks beyond its own patches, too
                weight[:, :, 0], weight[:, :, :, 0] = 0, 0
                if "neck" in key:
                    weight[:, :, 2], weight[:, :, :, 2] = 0, 0
            if weight.shape[2:] == (7, 7):  # a ConvNeXt's, likewise
                weight[:, :, :3], weight[:, :, 4:], weight[:, :, :, :3], weight[:, :, :, 4:] = 0, 0, 0, 0
                zeroed.append(weight)
    assert zeroed or name == "fuyu"  # which has no tower
    return model


def lvlm(name: str, how: Preprocess, tiles: bool = False) -> Lvlm:
    model, processor = near_sighted(name), adapter(name).processor
    ours = FAMILIES[model.config.model_type](processor, model.config, how, tiles)
    return Lvlm(model, ours, torch.device("cpu"))


@pytest.mark.parametrize("how", list(Preprocess))
@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_painted_blocks_change_the_tokens_that_the_geometry_names(name: str, how: Preprocess) -> None:
    found = check_geometry(lvlm(name, how), {str(size): size for size in SIZES[:5]})
    assert [finding.text for finding in found if finding.outcome != Outcome.passed] == []


@pytest.mark.parametrize("how", [Preprocess.native, Preprocess.pad])
@pytest.mark.parametrize("name", TILED)
def test_painted_blocks_change_the_tokens_that_the_geometry_names_on_tiles(name: str, how: Preprocess) -> None:
    sizes = [*SIZES, (300, 280), (250, 64), (64, 250), (95, 33)]
    found = check_geometry(lvlm(name, how, tiles=True), {str(size): size for size in sizes})
    assert [finding.text for finding in found if finding.outcome != Outcome.passed] == []
