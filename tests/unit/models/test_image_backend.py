"""Which form of an image processor is a checkpoint's own, and which is taken: by the folder's files and by name."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_llava
import transformers as tf
from hub_folders import HUB
from PIL import Image
from tiny_llava import SHIPPED
from transformers.utils import is_torchvision_available

from locheads.errors import ConfigError, ModelError
from locheads.models.config import ImageBackend, ModelConfig
from locheads.models.engine import EngineConfig
from locheads.models.identity import POCKET, identify
from locheads.models.image_backend import Choice, save_processor
from locheads.models.load import load_lvlm
from locheads.models.loaded import load_model
from locheads.models.processors import image_choice, load_processor

OWN, PIL, TORCHVISION = ImageBackend
HERE = is_torchvision_available()
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8))


def choice(
    folder: Path, family: str = "llava", wanted: ImageBackend = OWN, installed: bool = True, name: str | None = None
) -> Choice | None:
    config = ModelConfig(id=name or str(folder), image_backend=wanted)
    return image_choice(str(folder), config, SimpleNamespace(model_type=family), installed)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("llava_1_5_7b_hf", PIL), ("llava_next_mistral", PIL), ("qwen2_5_vl_7b", PIL), ("smolvlm_256m", PIL),
        ("gemma3_4b", PIL), ("internvl3_8b_composed", TORCHVISION), ("llava_1_5_lora_final", TORCHVISION),
    ],
)  # fmt: skip
def test_the_own_one_of_real_folders(name: str, own: ImageBackend) -> None:
    if not HUB.is_dir():
        pytest.skip(f"{HUB} is not there: the real files of hub repositories are needed")
    assert choice(HUB / name) == Choice(own, own)
    there = choice(HUB / name, installed=False)
    assert there == Choice(own, PIL)
    sentence = there.warning(OWN, name)
    assert (sentence is None) == (own == PIL)
    assert sentence is None or "make install EXTRAS=families" in sentence
    assert there.warning(PIL, name) is None  # who named it is told nothing
    for wanted in (PIL, TORCHVISION):
        assert choice(HUB / name, wanted=wanted) == Choice(own, wanted)


def made(folder: Path, settings: dict[str, Any], nested: bool = False) -> Path:
    content, name = ({"image_processor": settings}, "processor") if nested else (settings, "preprocessor")
    (folder / f"{name}_config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("kind", "nested", "own"),
    [
        ("CLIPImageProcessor", False, PIL), ("CLIPImageProcessor", True, TORCHVISION),
        ("CLIPImageProcessorFast", False, TORCHVISION), ("CLIPImageProcessorPil", True, PIL),
        ("Llama4ImageProcessor", False, TORCHVISION), ("Emu3ImageProcessor", True, PIL), (None, False, PIL),
    ],
)  # fmt: skip
def test_the_rule(kind: str | None, nested: bool, own: ImageBackend, tmp_path: Path) -> None:
    assert choice(made(tmp_path, {"image_processor_type": kind}, nested)) == Choice(own, own)


def test_names_of_before_and_of_others(tmp_path: Path) -> None:
    former = made(tmp_path, {"feature_extractor_type": "CLIPFeatureExtractor"})
    assert choice(former, family="nobodys") == Choice(PIL, PIL)
    assert choice(made(tmp_path, {"image_processor_type": "NobodysImageProcessor"})) is None
    with pytest.raises(ConfigError, match="has no such form of NobodysImageProcessor: use own"):
        choice(tmp_path, wanted=PIL)


@pytest.mark.parametrize(
    ("kind", "wanted", "installed", "sentence"),
    [
        ("CLIPImageProcessor", TORCHVISION, False, "needs the package torchvision: make install EXTRAS=families"),
        ("Llama4ImageProcessor", PIL, True, "=pil: transformers has no such form of Llama4ImageProcessor: use own"),
        ("Emu3ImageProcessor", TORCHVISION, True, "=torchvision: transformers has no such form of Emu3ImageProcessor"),
    ],
)
def test_what_cannot_be_had_is_refused(
    kind: str, wanted: ImageBackend, installed: bool, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        choice(made(tmp_path, {"image_processor_type": kind}), wanted=wanted, installed=installed)


def test_torchvisions_alone_stays_what_is_needed(tmp_path: Path) -> None:
    """Nothing else can take its place: the load itself names the package."""
    folder = made(tmp_path, {"image_processor_type": "Llama4ImageProcessor"})
    assert choice(folder, installed=False) == Choice(TORCHVISION, TORCHVISION)


def test_a_folder_that_we_write_says_which_form_it_was_made_with(tmp_path: Path) -> None:
    processor = tf.AutoProcessor.from_pretrained(SHIPPED)
    processor.image_processor = tf.AutoImageProcessor.from_pretrained(SHIPPED, backend="pil")
    save_processor(processor, tmp_path)
    assert choice(tmp_path) == choice(Path(SHIPPED), name=POCKET) == Choice(PIL, PIL)
    assert load_processor(str(tmp_path), ModelConfig(id=str(tmp_path)), tiny_llava.config()).image_processor.do_pad
    processor.save_pretrained(tmp_path)  # transformers itself leaves it out
    assert choice(tmp_path) == Choice(TORCHVISION, TORCHVISION)


def test_what_loads_is_what_is_known_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    tiny_llava.build().save_pretrained(tmp_path)
    tf.AutoProcessor.from_pretrained(SHIPPED).save_pretrained(tmp_path)
    config = ModelConfig(id=str(tmp_path))
    images = load_lvlm(config, EngineConfig(device="cpu")).adapter.processor.image_processor
    known = identify(config)
    assert known.own_backend == "torchvision"
    assert known.image_processor == f"{type(images).__name__} ({'torchvision' if HERE else 'pil'})"
    assert ("torchvision's, which is not installed" in caplog.text) == (not HERE)
    caplog.clear()
    load_lvlm(ModelConfig(), EngineConfig(device="cpu"))
    assert identify(ModelConfig()).own_backend == "pil" and not caplog.text


@pytest.mark.skipif(not HERE, reason="torchvision is not installed")
@pytest.mark.parametrize("name", ["llava_1_5_7b_hf", "llava_next_mistral", "qwen2_5_vl_7b", "smolvlm_256m"])
def test_each_form_makes_its_own_pixels_and_the_same_tokens(name: str) -> None:
    if not HUB.is_dir():
        pytest.skip(f"{HUB} is not there: the real files of hub repositories are needed")
    folder = str(HUB / name)
    checkpoint = tf.AutoConfig.from_pretrained(folder)
    own, pil, torchvision = (
        load_processor(folder, ModelConfig(id=folder, image_backend=wanted), checkpoint) for wanted in ImageBackend
    )
    assert [one.image_processor.backend for one in (own, pil, torchvision)] == ["pil", "pil", "torchvision"]
    assert own.tokenizer("a cup")["input_ids"] == torchvision.tokenizer("a cup")["input_ids"]
    assert own.tokenizer.backend == torchvision.tokenizer.backend == "tokenizers"
    pixels = [
        np.asarray(one.image_processor(IMAGE, return_tensors="pt")["pixel_values"]) for one in (own, pil, torchvision)
    ]
    np.testing.assert_array_equal(pixels[0], pixels[1])
    assert 0 < np.abs(pixels[0] - pixels[2]).max() < 0.05


def handed_over() -> tuple[Any, Any]:
    return tf.AutoModelForImageTextToText.from_pretrained(SHIPPED).eval(), tf.AutoProcessor.from_pretrained(SHIPPED)


def test_a_processor_that_is_handed_over_is_completed() -> None:
    model, whole = handed_over()
    assert load_model(model, whole).adapter.processor is whole
    poor = tf.LlavaProcessor(whole.image_processor, whole.tokenizer, chat_template="{{ 1 }}")
    made = load_model(model, poor).adapter.processor
    for name in ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy"):
        assert getattr(made, name) == getattr(whole, name) != getattr(poor, name)
    assert made.chat_template == "{{ 1 }}" and poor.patch_size is None  # the user's stays theirs


def test_what_is_said_of_a_processor_that_is_handed_over_stays() -> None:
    model, whole = handed_over()
    other = tf.LlavaProcessor(whole.image_processor, whole.tokenizer, patch_size=16, num_additional_image_tokens=5)
    made = load_model(model, other).adapter.processor
    assert (made.patch_size, made.num_additional_image_tokens) == (16, 5)
    assert made.vision_feature_select_strategy == whole.vision_feature_select_strategy


def test_a_processor_that_cannot_be_completed_is_refused() -> None:
    model, whole = handed_over()
    with pytest.raises(ModelError, match="has no tokenizer that goes with its model"):
        load_model(model, whole.tokenizer)
    del model.config.vision_config
    poor = tf.LlavaProcessor(whole.image_processor, whole.tokenizer)
    with pytest.raises(ModelError, match=r"lacks patch_size, and config\.json does not say it"):
        load_model(model, poor)
