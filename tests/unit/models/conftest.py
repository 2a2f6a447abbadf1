"""What the tests of the models share: tiny models, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_llava
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor


@pytest.fixture(scope="session")
def processor() -> LlavaProcessor:
    return AutoProcessor.from_pretrained(tiny_llava.SHIPPED)


@pytest.fixture(scope="session", params=[4, 2, 1], ids=["all kv heads", "2 kv heads", "1 kv head"])
def model(request: pytest.FixtureRequest) -> LlavaForConditionalGeneration:
    """A tiny Llava with the capture installed; grouped-query attention among them."""
    return tiny_llava.lvlm(tiny_llava.build(request.param)).model


@pytest.fixture
def image() -> Image.Image:
    torch.manual_seed(1)
    return Image.fromarray(torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).numpy())


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, processor: LlavaProcessor) -> Path:
    """A complete checkpoint folder."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_llava.build().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the checkpoint without the files of these names."""

    def copy(*without: str) -> Path:
        folder = tmp_path / "copy"
        folder.mkdir()
        for file in saved.iterdir():
            if file.name not in without:
                (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return copy


@pytest.fixture
def tiny_config() -> LlavaConfig:
    return tiny_llava.config()
