"""Real files of hub repositories with scaled-down weights: rows equal eager attention, tokens the stock processor's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from hub_folders import HEADS, HUB, LAYERS, processor, scaled
from PIL import Image
from safetensors.torch import load_file, save_file

from locheads.errors import ModelError
from locheads.geometry import Preprocess
from locheads.models import load
from locheads.models.answer import check_makes_words
from locheads.models.attend import attend_image
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.findings import Outcome
from locheads.models.folder_checks import check_folder
from locheads.models.load import Lvlm, load_lvlm
from locheads.models.processors import load_processor

IMAGES = HUB.parent / "data" / "refcoco_slice" / "images" / "train2014"
PROMPT = PromptConfig(template="{expression}", chat=True)
TOLERANCE = 2e-5
GRIDS = {
    "llava_1_5_7b_hf": slice(None),
    "llava_next_mistral": slice(0, 576),
    "qwen2_5_vl_7b": slice(None),
    "smolvlm_256m": slice(-64, None),
    "internvl3_8b_composed": slice(-256, None),
}
"""Folder -> which of the prompt's image tokens are the default grid."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = scaled(name, tmp_path_factory.mktemp("hub") / name)
        return made[name]

    return get


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Lvlm:
    monkeypatch.setattr(load, "load_processor", lambda source, *_: processor(Path(source)))
    config = ModelConfig(id=str(folder), preprocess=Preprocess.native, **options)
    return load_lvlm(config, EngineConfig(device="cpu"))


def photograph(longest: int = 320) -> Image.Image:
    if not IMAGES.is_dir():
        pytest.skip(f"{IMAGES} is not there: the shared test data is needed")
    image = Image.open(min(IMAGES.iterdir())).convert("RGB")
    image.thumbnail((longest, longest))
    return image


@pytest.mark.parametrize("name", GRIDS)
def test_rows_equal_eager_attention_on_a_real_image(
    name: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, image = checkpoint(name), photograph()
    maps, geometry = attend_image(loaded(folder, monkeypatch), image, ["the man on the left"], PROMPT)
    assert maps.shape == (1, LAYERS, HEADS, geometry.rows, geometry.cols)
    rows, cells = eager(folder, image, "the man on the left.")
    cells = cells[GRIDS[name]]
    np.testing.assert_allclose(maps[0].reshape(LAYERS, HEADS, -1), rows[..., cells], atol=TOLERANCE)
    assert np.ptp(rows[..., cells], axis=-1).max() > 100 * TOLERANCE  # they are worth comparing
    assert not np.allclose(maps[0].reshape(LAYERS, HEADS, -1), rows[..., cells - 1], atol=TOLERANCE)


@torch.inference_mode()
def eager(folder: Path, image: Image.Image, expression: str) -> tuple[np.ndarray, np.ndarray]:
    """-> (the last token's rows [layer, head, token], positions of the image tokens), by transformers alone."""
    stock = processor(folder)
    parts = [{"type": "image", "image": image}, {"type": "text", "text": expression}]
    inputs = stock.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=True, add_generation_prompt=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    model = tf.AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    rows = model.eval()(**inputs, output_attentions=True).attentions
    found = (inputs["input_ids"][0] == model.config.image_token_id).nonzero().flatten()
    return np.stack([layer[0, :, -1].numpy() for layer in rows]), found.numpy()


@pytest.mark.parametrize("name", ["llava_1_5_7b_hf", "llava_next_mistral", "smolvlm_256m"])
def test_every_check_of_a_real_folder_passes(name: str, checkpoint: Callable[[str], Path]) -> None:
    findings = {finding.name: finding for finding in check_folder(ModelConfig(id=str(checkpoint(name))), PROMPT)}
    assert {finding.outcome for finding in findings.values()} == {Outcome.passed}, findings
    filled = "patch_size, vision_feature_select_strategy, num_additional_image_tokens taken from config.json"
    assert (filled in findings["processor"].text) == (name == "llava_next_mistral")


TEXTS = (
    "hello", "hello world", " hello", "  two  spaces ", "USER: <image>\nhello ASSISTANT:", "a</s>b <pad> x", "<unk>",
    "日本語 🎉 é\tx\n\ny",
)  # fmt: skip


def test_tokens_of_the_pieces_alone_are_those_of_the_fast_tokenizer(tmp_path: Path) -> None:
    real = HUB / "llava_1_5_7b_hf"
    if not real.is_dir():
        pytest.skip(f"{real} is not there: the real files of hub repositories are needed")
    for file in real.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    config = tf.AutoConfig.from_pretrained(real)
    fast, pieces = (
        load_processor(str(folder), ModelConfig(id=str(folder)), config).tokenizer for folder in (real, tmp_path)
    )
    assert pieces.convert_ids_to_tokens(pieces("hello")["input_ids"]) == ["<s>", "▁hello"]
    for text in TEXTS:
        assert pieces(text)["input_ids"] == fast(text)["input_ids"], text


def test_a_template_that_only_the_tokenizer_has_is_used(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint("llava_1_5_7b_hf")
    whole = loaded(folder, monkeypatch).adapter
    moved = loaded(folder, monkeypatch).adapter
    moved.processor.tokenizer.chat_template, moved.processor.chat_template = moved.processor.chat_template, None
    image = Image.new("RGB", (64, 48))
    for one, other in zip(
        whole.prepare(image, ["cup"], PROMPT).suffixes, moved.prepare(image, ["cup"], PROMPT).suffixes, strict=True
    ):
        assert one.tolist() == other.tolist()


def test_what_only_the_head_lacks_attends_and_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
) -> None:
    whole = checkpoint("llava_1_5_7b_hf")
    folder = tmp_path / "headless"
    folder.mkdir()
    for file in whole.iterdir():
        if file.name != "model.safetensors":
            (folder / file.name).symlink_to(file)
    weights = load_file(whole / "model.safetensors")
    del weights["language_model.lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    image, lvlm = Image.new("RGB", (64, 48), "red"), loaded(folder, monkeypatch)
    maps, _ = attend_image(lvlm, image, ["cup"], PROMPT)
    np.testing.assert_array_equal(maps, attend_image(loaded(whole, monkeypatch), image, ["cup"], PROMPT)[0])
    with pytest.raises(ModelError, match=r"has no lm_head\.weight"):
        check_makes_words(lvlm)


def test_the_real_original_names_its_converter() -> None:
    folder = HUB / "llava_v1_5_7b_original"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the real files of hub repositories are needed")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llava"  # as transformers' own form has
    found = check_folder(ModelConfig(id=str(folder)))[-1]
    assert found.outcome == Outcome.failed and "python -m locheads.models.convert" in found.advice
