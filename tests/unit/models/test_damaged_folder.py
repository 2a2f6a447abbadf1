"""Every file of a model's folder, damaged in many ways: a sentence, or the same answer; never another exception."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import locheads
from locheads import Grounder
from locheads.errors import LocHeadsError
from locheads.types import Grounding

WEIGHTS = Path(locheads.__file__).parent / "pocket" / "weights"
FILES = sorted(path.name for path in WEIGHTS.iterdir())
NEEDED = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json")
CONTENTS = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "garbage": lambda raw: bytes(range(256)) * 8,
    "zeros": lambda raw: bytes(4096),
    "list": lambda raw: b"[]",
    "null": lambda raw: b"null",
    "object": lambda raw: b"{}",
    "deep": lambda raw: b"[" * 100_000,
    "gone": lambda raw: None,
}
VALUES = ("x", None, [], -1, {}, 0, 1e300, True, [1, 2, 3])
PER_FILE = 8
"""Damaged values per JSON file."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model"))


def outcome(folder: Path) -> Grounding | str:
    """The answer, or the sentence; any other exception fails the test."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    try:
        return Grounder(str(folder), heads=["L3H0", "L2H4"])(Image.fromarray(pixels), "the red circle")
    except LocHeadsError as error:
        sentence = str(error)
    assert "\n" not in sentence and sentence.endswith((".", "?"))
    return sentence


def write(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", CONTENTS)
def test_a_damaged_file_is_a_sentence(name: str, damage: str, folder: Path) -> None:
    write(folder / name, CONTENTS[damage]((folder / name).read_bytes()))
    found = outcome(folder)
    if name in NEEDED:
        assert isinstance(found, str), f"{name} {damage} went unnoticed"
    elif not isinstance(found, str):  # what only generates answers may be missing
        np.testing.assert_array_equal(found.heatmap, whole().heatmap)


def whole() -> Grounding:
    found = outcome(WEIGHTS)
    assert isinstance(found, Grounding)
    return found


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
def test_a_value_of_the_wrong_kind_is_a_sentence_or_does_nothing_worse(name: str, folder: Path) -> None:
    content, rng = json.loads((WEIGHTS / name).read_text()), random.Random(name)
    keys = list(_keys(content))
    for _ in range(min(PER_FILE, 3 * len(keys))):
        damaged, path = copy.deepcopy(content), rng.choice(keys)
        place = damaged
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = rng.choice(VALUES)
        (folder / name).write_text(json.dumps(damaged))
        outcome(folder)


def test_a_panic_of_the_tokenizer_is_a_sentence(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["post_processor"]["special_tokens"]["<s>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "The tokenizer refuses the prompt for 'the red circle'" in str(outcome(folder))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda tensor: None, "lacks 1 weights of its model, such as"),
        (lambda tensor: torch.zeros(3, 5), "1 weights of another shape"),
        (lambda tensor: torch.full_like(tensor, float("nan")), "attention is not finite"),
    ],
)
def test_a_damaged_weight_is_a_sentence(damage: Any, says: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    tensor = damage(weights.pop(name))
    save_file(weights if tensor is None else weights | {name: tensor}, folder / "model.safetensors", {"format": "pt"})
    assert says in str(outcome(folder))


HUB = Path(__file__).parents[4] / "shared" / "hub_files"


@pytest.mark.skipif(not HUB.is_dir(), reason="no folders of real checkpoints without their weights here")
def test_a_real_checkpoints_folder_without_weights_is_a_sentence() -> None:
    for folder in sorted(path for path in HUB.iterdir() if path.is_dir()):
        assert str(folder) in str(outcome(folder))


def _keys(content: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict) and len(above) < 2:
            yield from _keys(value, (*above, key))
