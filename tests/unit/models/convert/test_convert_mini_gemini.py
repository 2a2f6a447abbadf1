"""Mini-Gemini: two towers, patch info mining, a Gemma."""

import json
from pathlib import Path

import pytest
import torch
import written
from compared import Converted, check_equal, check_swaps
from torch.nn.functional import gelu

from locheads.models.convert.__main__ import main

IDLE = ("lm_head", "post_layernorm", "vision_tower.encoder.layers.2.")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(written.mini_gemini(), tmp_path_factory.mktemp("convert"))


def test_hidden_states_and_rows_are_the_originals(converted: Converted) -> None:
    check_equal(converted)


def test_any_two_swapped_weights_are_found_out(converted: Converted) -> None:
    check_swaps(converted, IDLE)
    check_equal(converted)


def test_towers_of_its_own_count(tmp_path: Path) -> None:
    check_equal(Converted(written.mini_gemini(own_towers=True), tmp_path))


def test_the_activation_is_the_one_that_the_checkpoint_names(converted: Converted) -> None:
    act = converted.lvlm.model.base_model.language_model.layers[0].mlp.act_fn
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(act(x), gelu(x), rtol=0, atol=1e-6)
    assert (act(x) - gelu(x, approximate="tanh")).abs().max() > 1e-4


def test_the_manifest_says_what_was_left_out(converted: Converted) -> None:
    sources = json.loads((converted.result / "conversion.json").read_text())["sources"]
    assert sources["checkpoint"]["unused"]["Gemma's is its embedding"] == ["lm_head.weight"]
    assert len(sources["second vision tower"]["unused"]["other parts of the CLIP that the ConvNeXt is from"]) == 2


@pytest.mark.parametrize(("tower", "option"), [("clip", "--vision-tower DIR"), ("trunk", "--vision-tower-aux DIR")])
def test_a_tower_that_is_not_there_is_asked_for(
    tower: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = written.mini_gemini().write(tmp_path / "source")
    (source / tower).rename(tmp_path / "away")
    assert main([str(source), str(tmp_path / "result")]) == 1
    assert option in capsys.readouterr().err
    given = option.split()[0]
    assert main([str(source), str(tmp_path / "result"), given, str(tmp_path / "away")]) == 0


def test_several_images_per_prompt_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = written.mini_gemini()
    made.config["image_grid"] = 2
    assert main([str(made.write(tmp_path / "source")), str(tmp_path / "result")]) == 1
    assert "image_grid=2 is not supported" in capsys.readouterr().err
