"""InternVL2: tiles, a pixel shuffle, and the fused matrix of InternLM2."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import written
from compared import Converted, check_equal, check_swaps
from family_parts import without_video
from transformers import AutoModelForImageTextToText, AutoTokenizer, InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from locheads.geometry import Preprocess
from locheads.models import capture
from locheads.models.adapters import FAMILIES
from locheads.models.convert.__main__ import main
from locheads.models.convert.formats.internvl import split_groups
from locheads.models.load import Lvlm


def load(folder: Path) -> Lvlm:
    """As `load_lvlm`, but for the processor's video part, which this environment cannot build."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    settings = json.loads((folder / "processor_config.json").read_text())
    assert settings.pop("processor_class") == "InternVLProcessor"
    parts = GotOcr2ImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    template = (folder / "chat_template.jinja").read_text()
    processor = without_video(InternVLProcessor, *parts, chat_template=template, **settings)
    capture.install(model)
    return Lvlm(model, FAMILIES["internvl"](processor, model.config, Preprocess.native), torch.device("cpu"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Converted]:
    return cache(lambda fused: Converted(written.internvl2(fused), tmp_path_factory.mktemp("convert"), load=load))


decoders = pytest.mark.parametrize("fused", [True, False], ids=["internlm2", "qwen2"])


@decoders
def test_hidden_states_and_rows_are_the_originals(fused: bool, converted: Any) -> None:
    check_equal(converted(fused))


@decoders
def test_any_two_swapped_weights_are_found_out(fused: bool, converted: Any) -> None:
    check_swaps(converted(fused), ("lm_head",))
    check_equal(converted(fused))


def test_a_fused_matrix_comes_apart_group_by_group() -> None:
    # Two groups of three queries; a head has two rows.
    rows = torch.arange(2 * 5 * 2)[:, None]
    q, k, v = split_groups(3, 2)(rows)
    assert q.flatten().tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
    assert k.flatten().tolist() == [6, 7, 16, 17] and v.flatten().tolist() == [8, 9, 18, 19]


def test_the_prompt_in_the_models_own_words(converted: Any) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "cup"}]
    text = converted(True).lvlm.adapter.processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\n<IMG_CONTEXT>\ncup<|im_end|><|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(ps_version="v1"), "ps_version=v1 lays the cells out transposed"),
        (lambda c: c["llm_config"].update(architectures=["MambaForCausalLM"]), "has a MambaForCausalLM as its decoder"),
        (lambda c: c.pop("llm_config"), "config.json has no llm_config"),
        (lambda c: c["vision_config"].update(num_hidden_layers=3), "hold nothing for"),
    ],
)
def test_what_cannot_be_converted_is_said(
    change: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made = written.internvl2()
    change(made.config)
    assert main([str(made.write(tmp_path / "source")), str(tmp_path / "result")]) == 1
    assert sentence in capsys.readouterr().err
