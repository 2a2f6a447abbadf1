"""Masks that grow and fade against plain loops; recolouring; and what a diffusers pipeline is handed."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from locheads import edit
from locheads.errors import ModelError
from locheads.geometry import stretched
from locheads.types import Grounding


def blot(seed: int = 0) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[np.random.default_rng(seed).integers(0, 20, 5), np.random.default_rng(seed + 1).integers(0, 30, 5)] = True
    return mask


def distance_by_loops(mask: np.ndarray) -> np.ndarray:
    inside = np.argwhere(mask)
    rows, cols = mask.shape
    return np.array([[min(math.dist((y, x), p) for p in inside) for x in range(cols)] for y in range(rows)])


@pytest.mark.parametrize("seed", range(3))
def test_growing_and_fading_are_those_of_a_loop(seed: int) -> None:
    mask = blot(seed)
    away = distance_by_loops(mask)
    for pixels in (0, 1, 2.5, 5):
        np.testing.assert_array_equal(edit.dilated(mask, pixels), away <= pixels + 1e-9)
    for pixels in (0, 1, 4):
        np.testing.assert_allclose(edit.feathered(mask, pixels), np.maximum(1 - away / (pixels + 1), 0), atol=1e-6)
    # The negative controls: a square is no disc, and no feather is the mask itself.
    assert (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0).sum() != edit.dilated(mask, 2).sum()
    np.testing.assert_array_equal(edit.feathered(mask, 0), mask)
    assert not edit.dilated(np.zeros((4, 4), bool), 3).any() and not edit.feathered(np.zeros((4, 4), bool), 3).any()


def striped() -> tuple[Image.Image, np.ndarray]:
    """A red square with darker stripes on grey."""
    pixels = np.full((60, 80, 3), 120, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    pixels[mask] = (200, 40, 40)
    pixels[20:40:4, 30:60] = (140, 20, 20)
    return Image.fromarray(pixels), mask


def test_recolouring_changes_the_masks_pixels_alone_and_keeps_their_texture() -> None:
    image, mask = striped()
    found = np.asarray(edit.recoloured(image, mask, (40, 160, 60)))
    before = np.asarray(image)
    np.testing.assert_array_equal(found[~mask], before[~mask])
    mean = found[mask].mean(axis=0)
    assert mean[1] > mean[0] + 60 and mean[1] > mean[2] + 60
    light = [cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0].astype(int) for pixels in (before, found)]
    steps = [each[21, 40] - each[20, 40] for each in light]
    assert steps[0] > 20 and abs(steps[0] - steps[1]) <= 3  # of 255: the stripes are as deep as before
    faded = np.asarray(edit.recoloured(image, mask, (40, 160, 60), feather=3))
    changed = (faded != before).any(axis=2)
    assert changed[mask].all() and changed[18, 40] and not changed[edit.feathered(mask, 3) == 0].any()
    np.testing.assert_array_equal(np.asarray(edit.recoloured(image, np.zeros((60, 80), bool), (0, 255, 0))), before)


class Pipeline:
    """As diffusers' are called: paints everything blue, and remembers what it was given."""

    def __call__(self, **given: Any) -> Any:
        self.given = given
        return SimpleNamespace(images=[Image.new("RGB", (given["width"], given["height"]), (0, 0, 255))])


def test_a_pipeline_gets_image_mask_and_prompt_and_only_the_mask_is_taken_of_its_answer() -> None:
    image, mask = striped()
    pipeline = Pipeline()
    found = np.asarray(edit.inpainted(image, mask, "a blue square", pipeline, side=40, num_inference_steps=3))
    given = pipeline.given
    assert (given["prompt"], given["num_inference_steps"]) == ("a blue square", 3)
    assert given["image"].size == given["mask_image"].size == (given["width"], given["height"]) == (40, 32)
    holes = np.asarray(given["mask_image"])
    assert set(np.unique(holes)) == {0, 255} and holes[16, 20] == 255 and holes[2, 2] == 0  # white is painted
    np.testing.assert_array_equal(found[mask], np.broadcast_to((0, 0, 255), (mask.sum(), 3)))
    np.testing.assert_array_equal(found[~mask], np.asarray(image)[~mask])
    edit.inpainted(image, mask, "x", pipeline, side=512)
    assert pipeline.given["image"].size == (80, 64)  # never larger, but for the multiples of 8


def test_what_a_pipeline_raises_is_one_sentence() -> None:
    def broken(**_: Any) -> Any:
        raise TypeError("unexpected keyword argument 'mask_image'")

    with pytest.raises(
        ModelError, match=r"cannot inpaint the image \(TypeError: unexpected keyword argument 'mask_image'\)"
    ):
        edit.inpainted(*striped(), "x", broken)


@pytest.fixture
def grounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, and a model that finds its square (or nothing, for "nothing")."""
    image, mask = striped()
    image.save(tmp_path / "a.png")

    class Found:
        def __init__(self, *_: Any, **given: Any) -> None:
            assert given["grounding"].mask == "box_cells"

        def __call__(self, image: Image.Image, expression: str) -> Grounding:
            there = expression != "nothing"
            cells = mask if there else np.zeros_like(mask)
            box = (30.0, 20.0, 60.0, 40.0) if there else None
            return Grounding(box, cells, np.zeros((6, 8)), stretched(80, 60, 6, 8))

    monkeypatch.setattr("locheads.api.Grounder", Found)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_recolours_and_says_so(grounded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edit.main(["a.png", "the square", "--recolour", "#28a03c"]) == 0
    assert capsys.readouterr().out == "Wrote edited.png: 600 pixels are what 'the square' names.\n"
    found, before = (np.asarray(Image.open(grounded / name)) for name in ("edited.png", "a.png"))
    np.testing.assert_array_equal((found != before).any(axis=2), striped()[1])
    assert edit.main(["a.png", "the square", "--recolour", "green", "--segmenter", "box", "--dilate", "1"]) == 0
    assert "Wrote edited.png: 700 pixels" in capsys.readouterr().out  # and a row on each of the four sides


def test_the_command_hands_the_mask_to_the_users_pipeline(
    grounded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}
    pipeline = Pipeline()

    class Auto:
        @staticmethod
        def from_pretrained(name: str, **given: Any) -> Any:
            asked.update(given, name=name)
            return SimpleNamespace(to=lambda device: pipeline)

    monkeypatch.setattr(edit, "_diffusers", lambda: SimpleNamespace(AutoPipelineForInpainting=Auto))
    arguments = ["a.png", "the square", "--prompt", "a lake", "--pipeline", "own/inpaint", "--device", "cpu"]
    assert edit.main([*arguments, "--steps", "2", "--seed", "5"]) == 0
    assert asked["name"] == "own/inpaint" and asked["use_safetensors"] is True
    assert not {"trust_remote_code", "custom_pipeline"} & {*asked}
    assert pipeline.given["num_inference_steps"] == 2 and pipeline.given["generator"].initial_seed() == 5
    assert np.asarray(Image.open(grounded / "edited.png"))[30, 45].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say what is to be done: either --recolour COLOUR, or --prompt TEXT with --pipeline."),
        (["--recolour", "red", "--prompt", "x"], "Say what is to be done"),
        (["--prompt", "x"], "--prompt needs --pipeline"),
        (["--recolour", "reddish"], "--recolour reddish is no colour: write its name or #RRGGBB"),
        (["--recolour", "red", "--out", "a.gif"], "--out a.gif must end with one of .png"),
        (["--recolour", "red", "--out", "./a.png"], "--out a.png is the image itself"),
        (["--recolour", "red", "--dilate", "-1"], "--dilate and --feather are numbers of pixels, 0 or more"),
        (["--recolour", "red", "--segmenter", "sam_hf"], "segmenter=sam_hf needs segmenter.checkpoint"),
        (["--recolour", "red", "--segmenter", "sam9"], "segmenter.kind=sam9 is unknown"),
    ],
)
def test_a_mistake_is_one_sentence_before_a_model_loads(
    arguments: list[str], sentence: str, grounded: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("locheads.api.Grounder", None)
    assert edit.main(["a.png", "the square", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}") and said.count("\n") == 1
    assert not (grounded / "edited.png").exists()


def test_without_diffusers_or_an_object_there_is_a_sentence(
    grounded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert edit.main(["a.png", "the square", "--prompt", "x", "--pipeline", "y"]) == 1
    assert capsys.readouterr().err == f"error: {edit.MISSING}\n"
    assert edit.main(["a.png", "nothing", "--recolour", "red"]) == 1
    assert capsys.readouterr().err == "error: No part of a.png stands out for 'nothing': name something else.\n"
    assert edit.main(["b.png", "the square", "--recolour", "red"]) == 1
    assert "b.png is not there" in capsys.readouterr().err
