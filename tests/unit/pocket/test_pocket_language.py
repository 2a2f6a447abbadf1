from collections import Counter

import numpy as np
from pocket_evaluator import fits

from locheads.pocket.language import KINDS, QUESTION, SIDES, describe, sample_exchange, sample_expression, sides
from locheads.pocket.scenes import DOTS, Scene, SceneObject, sample_scene
from locheads.pocket.tokenizer import build_tokenizer


def many_expressions(scenes=150):
    for seed in range(scenes):
        scene = sample_scene(seed)
        rng = np.random.default_rng(seed)
        for target in range(len(scene.objects)):
            for _ in range(4):
                yield scene, sample_expression(scene, target, rng)


def test_every_expression_fits_its_object_and_no_other():
    for scene, expression in many_expressions():
        assert fits(scene, expression.text) == [expression.target], expression


def test_all_kinds_occur_and_attributes_are_the_majority():
    kinds = Counter(expression.kind for _, expression in many_expressions())
    assert set(kinds) == set(KINDS)
    assert kinds["attribute"] > sum(kinds.values()) / 2
    assert min(kinds.values()) > 20


def test_most_expressions_have_a_distractor():
    found = []
    for scene, expression in many_expressions():
        item = scene.objects[expression.target]
        others = [o for i, o in enumerate(scene.objects) if i != expression.target]
        found.append(any(o.shape == item.shape or o.colour == item.colour for o in others))
    assert np.mean(found) >= 0.5


def test_expressions_never_name_the_dots_and_have_no_full_stop():
    for _, expression in many_expressions(40):
        assert not set(expression.text.split()) & {*DOTS, "."}


def test_a_bare_expression_never_holds_the_first_word_of_its_answer():
    for seed in range(100):
        scene, rng = sample_scene(seed), np.random.default_rng(seed)
        for _ in range(6):
            exchange = sample_exchange(scene, rng)
            if exchange.kind != QUESTION:
                assert exchange.answer.split()[0] not in exchange.prompt.split()


def test_answers_follow_from_the_scene():
    one = SceneObject("circle", "red", "small", "plain", "pink", (0, 0, 56, 56))
    assert describe(one) == "pink plain red circle"
    scene = Scene(0, 192, 192, (one,))
    rng = np.random.default_rng(0)
    answers = {e.prompt: e.answer for e in (sample_exchange(scene, rng) for _ in range(3000)) if e.kind == QUESTION}
    assert answers["what colour are the dots on the red object ?"] == "pink"
    assert answers["what shape is the red object ?"] == "circle"
    assert answers["describe the circle ."] == "red circle plain pink"


def test_the_tokenizer_knows_every_word():
    tokenizer = build_tokenizer()
    for seed in range(60):
        scene, rng = sample_scene(seed), np.random.default_rng(seed)
        for _ in range(10):
            exchange = sample_exchange(scene, rng)
            ids = tokenizer(f"{exchange.prompt} {exchange.answer}", add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert len(ids) == len(exchange.prompt.split()) + len(exchange.answer.split())


def test_sides_are_those_of_the_image():
    item = SceneObject("circle", "red", "small", "plain", "pink", (0, 120, 60, 60))
    assert [SIDES[i] for i in sides(Scene(0, 192, 192, (item,)), item)] == ["on the left", "at the bottom"]
    middle = SceneObject("circle", "red", "small", "plain", "pink", (70, 66, 60, 60))
    assert sides(Scene(0, 192, 192, (middle,)), middle) == []
