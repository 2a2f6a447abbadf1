"""What the pocket training has besides answers about one object: facts about the others, a cost of looking."""

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from locheads.errors import ConfigError
from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.pocket_model import build_model
from locheads.pocket.scenes import COLOURS, sample_scene
from locheads.pocket.training import train
from locheads.pocket.training.batches import IDS, LEVELS, PATCHES, PREFIX, make_batch
from locheads.pocket.training.facts import FACT, FACTS, elsewhere, overall, with_fact
from locheads.pocket.training.forward import ATTENTION, answer_logits
from locheads.pocket.training.looking import FREE, TIMES, cost, mean_sums
from locheads.pocket.training.train import Trainer, parse_arguments


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(train, "build_model", lambda seed: build_model(seed, layers=3))


def trainer(out, *options, level=1):
    made = Trainer(parse_arguments(["--out", str(out), "--scenes", "1", "--words", "0", "--steps", "60", *options]))
    made.progress.level = level
    return made


def test_attention_sums_of_packed_exchanges_are_those_of_eager_attention():
    """Every exchange once more by itself, in the stock model, whose weights are summed over the image's tokens."""
    model, batch = build_model(0, layers=3).eval(), make_batch(LEVELS[-1], 1, seed=1, step=1, per_scene=3)
    model.set_attn_implementation(ATTENTION)
    packed = []
    with torch.no_grad():
        answer_logits(model, batch, torch.arange(PATCHES)[None], packed)
        packed = torch.stack(packed)[:, 0].unflatten(2, batch.tokens.shape[1:])  # [layer, head, exchange, token]
        model.set_attn_implementation("eager")
        image = torch.full((PATCHES,), model.config.image_token_index)
        for i, words in enumerate(batch.tokens[0]):
            ids = torch.cat([torch.tensor(PREFIX), image, words])[None]
            told = model(input_ids=ids, pixel_values=batch.pixels, output_attentions=True, use_cache=False)
            weights = torch.stack(told.attentions)[:, 0, :, -len(words) :]
            sums = weights[..., len(PREFIX) : len(PREFIX) + PATCHES].sum(3)
            assert torch.allclose(packed[:, :, i], sums, atol=1e-4)
            assert not torch.allclose(packed[:, :, i], weights.sum(3), atol=1e-2)  # the control: of all tokens


def test_mean_sums_leave_out_what_fills_up_a_batch():
    batch = make_batch(LEVELS[-1], 2, seed=1, step=1, per_scene=3)
    words = (batch.tokens.flatten(1) != 0).float()
    assert 0 < words.mean() < 1
    of_words = [layer * words[:, None].expand(-1, 8, -1) for layer in (1.0, 0.5)]
    assert mean_sums(of_words, batch).tolist() == [[1.0] * 8, [0.5] * 8]


def test_the_first_layers_pay_more_and_behind_them_a_head_that_rests_pays_nothing():
    sums = torch.zeros(4, 8)
    sums[2, 3] = FREE / 2
    assert cost(sums) == 0
    sums[3, 1] = FREE + 0.5
    assert cost(sums).item() == pytest.approx(0.5)
    sums[1, 0] = FREE
    assert cost(sums).item() == pytest.approx(0.5 + TIMES * FREE) and TIMES > 1


def test_heads_look_less_where_it_costs_and_only_there():
    looked = {}
    for price in ("0", "5"):
        made = trainer("nowhere", "--image-cost", price, "--facts", "0")
        made.progress.step = 10  # the rate is up
        for _ in range(8):
            last = made.step()
            made.progress.step = 10
        looked[price] = last["image_sums"]
    assert looked["5"] < 0.7 * looked["0"] and looked["0"] > 12


def test_options_change_the_levels_that_ask_facts_or_cost_only(tmp_path):
    made = trainer(tmp_path, "--facts", "0.9", "--image-cost", "0.5", level=0)
    assert made._level() == LEVELS[0] and (LEVELS[0].facts, LEVELS[0].image_cost) == (0, 0)
    made.progress.level = 1
    assert (made._level().facts, made._level().image_cost) == (0.9, 0.5)
    assert trainer(tmp_path)._level() == LEVELS[1] and LEVELS[1].facts and LEVELS[1].image_cost


def test_facts_are_true_of_the_pixels():
    """The colour that covers most is counted in the masks, of all objects and of all but the named one."""
    told = {overall: set(), elsewhere: set()}
    for seed in range(40):
        scene = sample_scene(seed)
        areas = [item.mask(scene.height, scene.width).sum() for item in scene.objects]
        for target, named in enumerate(scene.objects):
            for fact, word, left_out in ((overall, "largest", None), (elsewhere, "next", target)):
                colour, said = fact(scene, target).split()
                of = {c: 0 for c in COLOURS}
                for i, (item, area) in enumerate(zip(scene.objects, areas, strict=True)):
                    of[item.colour] += 0 if i == left_out else area
                assert said == word and of[colour] >= 0.97 * max(of.values())
                told[fact].add(colour == named.colour)
    assert told == {overall: {True, False}, elsewhere: {True, False}}  # neither can be told from the expression alone


def test_every_word_of_a_fact_is_in_the_vocabulary():
    answers = [fact(sample_scene(1), target) for fact in FACTS for target in range(3)]
    assert {word for answer in answers for word in answer.split()} <= IDS.keys()


def test_a_share_of_the_expressions_and_no_question_is_answered_by_a_fact():
    scene, rng = sample_scene(1), np.random.default_rng(0)
    expression = Exchange("the red circle .", "pink plain red circle", "attribute", 0)
    told = [with_fact(expression, scene, rng, 0.5) for _ in range(200)]
    facts = [exchange for exchange in told if exchange.kind == FACT]
    assert 70 < len(facts) < 130 and {fact.prompt for fact in facts} == {expression.prompt}
    assert {fact.answer for fact in facts} == {fact(scene, 0) for fact in FACTS}
    assert next(each for each in told if each.kind != FACT) == expression
    assert all(with_fact(expression, scene, rng, 0.0) == expression for _ in range(20))
    question = Exchange("what shape is the red object ?", "circle", QUESTION, 0)
    assert all(with_fact(question, scene, rng, 1.0) == question for _ in range(20))


def test_the_export_is_a_stock_model_with_the_same_answers(tmp_path):
    made = trainer(tmp_path)
    made.step()
    made.save()
    exported, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), exported.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--facts", "1.5"], "--facts: 1.5 is no share"), (["--image-cost", "-1"], "--image-cost: -1 is below 0")],
)
def test_a_mistake_in_the_options_is_one_sentence_before_any_step(tmp_path, capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--out", str(tmp_path), *options])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_run_is_resumed_with_the_options_that_it_began_with(tmp_path):
    trainer(tmp_path, "--facts", "0.2").save()
    trainer(tmp_path, "--facts", "0.2").restore()
    with pytest.raises(ConfigError, match=r"--facts 0\.2, not None"):
        trainer(tmp_path).restore()
