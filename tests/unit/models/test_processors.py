"""What a processor's settings lack is that of its model; what neither says is a sentence; failures are, too."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from families import FAMILY_BUILDERS
from PIL import Image
from transformers import AutoConfig, ProcessorMixin

from locheads.errors import ModelError
from locheads.models.config import ModelConfig
from locheads.models.processors import FIELDS, completed, lacking_fields, load_processor, read

NAMES = (
    "llava", "llava_pixtral", "vipllava", "llava_next", "llava_onevision", "deepseek_vl", "deepseek_vl_hybrid", "janus",
    "internvl", "ovis2", "gemma3", "idefics3", "mistral3",
)  # fmt: skip
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_settings_lack_is_that_of_the_model(name: str) -> None:
    model, processor = FAMILY_BUILDERS[name]()
    whole = {field: getattr(processor, field) for field in lacking_fields(processor, {})}
    assert whole
    with (
        mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"),
        mock.patch.dict("sys.modules", {"num2words": mock.MagicMock()}),
    ):
        made = completed(processor, {}, model.config, name)
    assert {field: getattr(made, field) for field in whole} == whole
    given = {**dict.fromkeys(FIELDS, 0), "patch_size": 99}
    assert lacking_fields(processor, given) == []
    assert completed(processor, given, model.config, name) is processor  # what is said stays


@pytest.mark.parametrize("name", ["llava_next", "deepseek_vl", "gemma3", "idefics3"])
def test_a_folder_without_them_gives_the_same_tokens(name: str, tmp_path: Path) -> None:
    model, processor = FAMILY_BUILDERS[name]()
    model.config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    content: dict[str, Any] = json.loads(file.read_text())
    assert content.keys() & FIELDS.keys()
    file.write_text(json.dumps({key: value for key, value in content.items() if key not in FIELDS}))
    found = load_processor(str(tmp_path), ModelConfig(id=str(tmp_path)), AutoConfig.from_pretrained(tmp_path))
    text = f"{getattr(processor, 'boi_token', processor.image_token)} cup"
    one, other = (stock(text=text, images=IMAGE)["input_ids"] for stock in (found, processor))
    assert list(one[0]) == list(other[0])


def test_patches_that_are_scaled_stay() -> None:
    model, processor = FAMILY_BUILDERS["aya_vision"]()
    assert completed(processor, {}, model.config, "FOLDER") is processor


def test_what_neither_says_is_refused() -> None:
    model, processor = FAMILY_BUILDERS["llava_next"]()
    del model.config.vision_config
    processor.patch_size = None
    with pytest.raises(ModelError, match=r"The processor of FOLDER lacks patch_size, and config\.json does not say it"):
        completed(processor, {"num_additional_image_tokens": 1}, model.config, "FOLDER")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ImportError("needs torchvision"), "make install EXTRAS=families"),
        (ValueError("requires `torchvision` to be installed"), "make install EXTRAS=families"),
        (ImportError("needs gptqmodel"), "install it beside LocHeads"),
        (type("PanicException", (BaseException,), {})("index out of range"), "Cannot load the model FOLDER"),
        (KeyError("x"), "Cannot load the model FOLDER"),
    ],
)
def test_any_failure_of_a_loader_is_a_sentence(error: BaseException, says: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with pytest.raises(ModelError) as caught:
        read("FOLDER", ModelConfig(id="FOLDER"), fail)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert "EXTRAS" in says or "EXTRAS" not in str(caught.value)
