"""DeepSeek-VL: a SigLIP in timm's names, and for the 7B a SAM beside it."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import written
from compared import Converted, check_equal, check_swaps

from locheads.models.convert.__main__ import main


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Converted]:
    return cache(lambda hybrid: Converted(written.deepseek_vl(hybrid), tmp_path_factory.mktemp("convert")))


sizes = pytest.mark.parametrize("hybrid", [False, True], ids=["1.3b", "7b"])


@sizes
def test_hidden_states_and_rows_are_the_originals(hybrid: bool, converted: Any) -> None:
    check_equal(converted(hybrid))


@sizes
def test_any_two_swapped_weights_are_found_out(hybrid: bool, converted: Any) -> None:
    check_swaps(converted(hybrid), ("lm_head",))
    check_equal(converted(hybrid))


def test_the_prompt_in_the_models_own_words(converted: Any) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "cup"}]
    text = converted(False).lvlm.adapter.processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    assert text.startswith("You are a helpful language and vision assistant. You are able to understand")
    assert text.endswith("natural language.\n\nUser: <image_placeholder>cup\n\nAssistant:")


def test_the_manifest_says_what_the_original_does_not_use(converted: Any) -> None:
    found = json.loads((converted(True).result / "conversion.json").read_text())
    unused = found["sources"]["checkpoint"]["unused"]
    assert len(unused["the original makes them and does not use them"]) == 4
    assert any("truncates" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("vision_model.vision_tower.blocks.1.attn.qkv.weight", "hold nothing for 3 weights"),
        (
            "vision_model.vision_tower.patch_embed.proj.weight",
            "has no vision_model.vision_tower.patch_embed.proj.weight",
        ),
    ],
)
def test_missing_weights_are_named(key: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = written.deepseek_vl()
    made.weights.pop(key)
    assert main([str(made.write(tmp_path / "source")), str(tmp_path / "result")]) == 1
    assert sentence in capsys.readouterr().err
