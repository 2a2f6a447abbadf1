"""Every family from a checkpoint folder to attention maps, through the same door as a user's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import FAMILY_BUILDERS
from PIL import Image

from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.attend import attend_image
from locheads.models.config import DType, ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.load import load_lvlm

NEED_TORCHVISION = (
    "llava_pixtral",
    "llava_onevision",
    "internvl",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "smolvlm",
    "mistral3",
)
"""Their processors, or the video part of them, do not load without it."""
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
    assert maps.shape[0] == 2 and maps.shape[-2:] == (geometry.rows, geometry.cols) == (4, 4)
    assert (maps >= 0).all() and (maps.sum(axis=(-2, -1)) <= 1 + 1e-5).all()
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    upside_down, _ = attend_image(lvlm, image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), ["the red circle"], PROMPT)
    assert np.abs(maps[0] - upside_down[0]).max() > 1e-4


def test_tiles_are_an_option_of_the_model(tmp_path: Path) -> None:
    lvlm = load("idefics3", tmp_path, tiles=True)
    maps, geometry = attend_image(lvlm, Image.new("RGB", (130, 70)), ["box"], PROMPT)
    assert maps.shape[-2:] == (geometry.rows, geometry.cols) == (8, 12)


def test_tiles_of_a_model_without_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a gemma3 model does not cut images into tiles"):
        load("gemma3", tmp_path, tiles=True)
