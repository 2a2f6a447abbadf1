"""Scenes whose answer is known: what is drawn where it is said to be, heads that find it and heads that do not."""

import numpy as np
import pytest
import torch

from locheads.discovery.headset import parse_heads, read_headset
from locheads.geometry import Preprocess
from locheads.grounding.config import GroundingConfig
from locheads.models import capture
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.findings import Outcome
from locheads.models.load import Lvlm, load_lvlm
from locheads.pipeline.known_answer import COLOURS, GROUND, Scene, check_known_answer, four_objects, lone_objects
from locheads.pocket.pocket_model import build_config


@pytest.fixture(scope="module")
def pocket() -> Lvlm:
    return load_lvlm(ModelConfig(), EngineConfig(device="cpu"))


def outcomes(lvlm: Lvlm, names: list[str]) -> list[Outcome]:
    return [one.outcome for one in check_known_answer(lvlm, parse_heads(names), PromptConfig(), GroundingConfig())]


def test_the_published_heads_point_at_the_objects(pocket: Lvlm) -> None:
    heads = [str(head) for head in read_headset("pocket").heads[:3]]
    assert outcomes(pocket, heads) == [Outcome.passed, Outcome.passed]


def test_random_heads_do_not(pocket: Lvlm) -> None:
    # What stands alone on a plain ground is marked by many heads; the words are followed by few.
    assert outcomes(pocket, ["L0H1", "L0H0", "L3H1"]) == [Outcome.failed, Outcome.failed]
    assert outcomes(pocket, ["L0H1", "L0H4", "L0H2"])[1] == Outcome.failed


def test_a_model_of_random_weights_knows_nothing(pocket: Lvlm) -> None:
    torch.manual_seed(0)
    model = type(pocket.model)(build_config()).eval()
    capture.install(model)
    adapter = LlavaAdapter(pocket.adapter.processor, model.config, Preprocess.pad)
    lvlm = Lvlm(model, adapter, pocket.device)
    assert outcomes(lvlm, ["L3H0", "L2H4", "L4H3"]) == [Outcome.failed, Outcome.failed]


def test_objects_lie_where_the_scene_says_and_nowhere_else() -> None:
    alone, four = list(lone_objects()), list(four_objects())
    assert [len(scene.boxes) for scene in [*alone, *four]] == [1] * 8 + [4] * 4
    for scene in [*alone, *four]:
        _check(scene)
    expressions = [scene.expressions[0] for scene in alone]
    assert len(set(expressions)) == 8
    for words in zip(*(text.split()[1:] for text in expressions), strict=True):
        assert sorted(map(words.count, set(words))) == [2, 2, 2, 2]
    assert sorted(map([scene.boxes[0] for scene in alone].count, {scene.boxes[0] for scene in alone})) == [2, 2, 2, 2]


def _check(scene: Scene) -> None:
    pixels = np.array(scene.image)
    left = (pixels != GROUND).any(axis=2)
    for expression, box in zip(scene.expressions, scene.boxes, strict=True):
        painted = (pixels == COLOURS[expression.split()[1]]).all(axis=2)
        ys, xs = np.nonzero(painted)
        assert np.abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - box).max() <= 13  # a star's bounds
        left &= ~painted
    assert not left.any()
