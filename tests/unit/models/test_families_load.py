"""Every family from a checkpoint folder to attention maps, through the same door as a user's."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS
from family_parts import HEADS, LAYERS
from PIL import Image
from safetensors.torch import save_file

from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.attend import attend_image
from locheads.models.config import DType, ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.folder_checks import WEIGHTS, refuse
from locheads.models.folder_format import FORMAT
from locheads.models.load import decoder_shape, load_lvlm, read_identity

NEED_TORCHVISION = (
    "llava_pixtral",
    "llava_onevision",
    "internvl",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen2_5_omni_thinker",
    "glm4v",
    "glm46v",
    "glm4v_moe",
    "ernie4_5_vl_moe",
    "smolvlm",
    "mistral3",
    "perception_lm",
    "molmo2",
    "kimi_k25",
    "lfm2_vl",
    "gemma4",
)
"""Their processors, or the video part of them, do not load without it."""
GRID = {"fuyu": (9, 16), "emu3": (9, 16)}
"""Of an image of 130 x 70 pixels, where it has the image's own aspect ratio."""
PROMPT = PromptConfig(template="look <image>\n{expression}")


def load(name: str, folder: Path, **options: Any) -> Any:
    model, processor = FAMILY_BUILDERS[name]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    options = {"preprocess": Preprocess.native, "dtype": DType.float32, **options}
    return load_lvlm(ModelConfig(id=str(folder), **options), EngineConfig(device="cpu"))


@pytest.mark.parametrize("name", sorted(set(FAMILY_BUILDERS) - set(NEED_TORCHVISION)))
def test_a_saved_model_loads_and_gives_maps(name: str, tmp_path: Path) -> None:
    lvlm = load(name, tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8))
    maps, geometry = attend_image(lvlm, image, ["the red circle", "box"], PROMPT)
    assert maps.shape[0] == 2 and maps.shape[-2:] == (geometry.rows, geometry.cols) == GRID.get(name, (4, 4))
    assert (maps >= 0).all() and (maps.sum(axis=(-2, -1)) <= 1 + 1e-5).all()
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    upside_down, _ = attend_image(lvlm, image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), ["the red circle"], PROMPT)
    assert np.abs(maps[0] - upside_down[0]).max() > 1e-4


@pytest.mark.parametrize("name", sorted(set(FAMILY_BUILDERS) & set(NEED_TORCHVISION)))
def test_no_folder_of_a_family_is_refused(name: str, tmp_path: Path) -> None:
    FAMILY_BUILDERS[name]()[0].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")  # that there is one is all that is asked here
    refuse(ModelConfig(id=str(tmp_path)), {**FORMAT, **WEIGHTS})


def test_a_model_that_also_talks_is_read_without_its_talker(tmp_path: Path) -> None:
    model, _ = FAMILY_BUILDERS["qwen2_5_omni_thinker"]()
    weights = {f"thinker.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights | {"talker.codec_head.weight": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    whole = {"model_type": "qwen2_5_omni", "thinker_config": model.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    (tmp_path / "tokenizer.json").write_text("{}")  # that there is one is all that is asked here
    config = ModelConfig(id=str(tmp_path), preprocess=Preprocess.native)
    assert decoder_shape(config) == (LAYERS, HEADS)
    assert read_identity(config).model_type == "qwen2_5_omni_thinker"
    with mock.patch("locheads.models.load.load_processor"), mock.patch("locheads.models.load.adapted"):
        loaded = load_lvlm(config, EngineConfig(device="cpu")).model
    assert all(
        torch.equal(found, weight) for found, weight in zip(loaded.parameters(), model.parameters(), strict=True)
    )


def test_tiles_are_an_option_of_the_model(tmp_path: Path) -> None:
    lvlm = load("idefics3", tmp_path, tiles=True)
    maps, geometry = attend_image(lvlm, Image.new("RGB", (130, 70)), ["box"], PROMPT)
    assert maps.shape[-2:] == (geometry.rows, geometry.cols) == (8, 12)


def test_tiles_of_a_model_without_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a gemma3 model does not cut images into tiles"):
        load("gemma3", tmp_path, tiles=True)
