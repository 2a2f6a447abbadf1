"""What a training may have besides its answers: gates, a rest that is held, facts about the scene; all of them off."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from locheads.errors import ConfigError
from locheads.pocket.language import QUESTION, Exchange, sample_exchange
from locheads.pocket.pocket_model import add_words_of_facts, build_model, load_model
from locheads.pocket.render import background_is_light, render
from locheads.pocket.scenes import sample_scene
from locheads.pocket.tokenizer import BOS, vocabulary, vocabulary_with_facts
from locheads.pocket.training import probe, train
from locheads.pocket.training.batches import IDS, LEVELS, make_batch
from locheads.pocket.training.facts import FACT, FACTS, with_fact
from locheads.pocket.training.forward import ATTENTION, answer_logits, keep_patches
from locheads.pocket.training.rest import DIMENSION, MARK, Rest, with_bias
from locheads.pocket.training.train import Trainer, parse_arguments, run

ALL = ["--gate-cost", "0.01", "--gates-from", "1", "--rest-bonus", "9", "--rest-ramp", "2", "--facts", "0.5"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(train, "build_model", lambda seed: build_model(seed, layers=3))
    monkeypatch.setattr(train, "_WINDOW", 1)


def trainer(out, *options, steps=0):
    made = Trainer(parse_arguments(["--out", str(out), "--scenes", "1", "--words", "0", "--steps", "4", *options]))
    for _ in range(steps):
        made.step()
    return made


def logits_of(model):
    model.eval().set_attn_implementation(ATTENTION)
    batch = make_batch(LEVELS[-1], 1, seed=1, step=1, per_scene=3)
    with torch.no_grad():
        return answer_logits(model, batch, keep_patches(1, 48, torch.Generator().manual_seed(0)))[0]


@pytest.mark.parametrize("options", [ALL[:4], ALL])
def test_gates_are_folded_into_a_stock_model_with_the_same_logits(tmp_path, options):
    trained = trainer(tmp_path, *options, steps=3)
    with torch.no_grad():
        for i, gate in enumerate(trained.regularisers.gates):
            gate.copy_(torch.rand(len(gate), generator=torch.Generator().manual_seed(i)))
    before = logits_of(trained.model)
    trained.save()
    exported, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.allclose(before, logits_of(exported), atol=1e-5)
    assert torch.allclose(before, logits_of(trained.model), atol=1e-6)  # saving has left it as it was
    with torch.no_grad():
        for gate in trained.regularisers.gates:
            gate.fill_(1)
    assert not torch.allclose(before, logits_of(trained.model), atol=1e-2)


def test_heads_in_use_cost_from_their_step_on_and_their_gates_close(tmp_path):
    trained = trainer(tmp_path, "--gate-cost", "1", "--gates-from", "2", "--lr", "0.02")
    assert trained.regularisers.cost(1) == 0 and trained.regularisers.cost(2).item() == pytest.approx(16)
    trained.progress.step = 2
    sums = [trained.step()["gates"] for _ in range(2)]
    assert 16 > sums[0] > sums[1] > 0
    with torch.no_grad():
        trained.regularisers.gates[0].copy_(torch.linspace(-1, 2, 8))
    trained.regularisers.after_step(2)
    assert trained.regularisers.gates[0].min() == 0 and trained.regularisers.gates[0].max() == 1


def test_what_is_pinned_stays_and_what_is_not_moves(tmp_path):
    trained = trainer(tmp_path, "--rest-bonus", "9", "--rest-ramp", "2", "--lr", "0.01", steps=2)
    rest, model = trained.regularisers.rest, trained.model
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    rest.hold(9)
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    embedding = kept["model.language_model.embed_tokens.weight"]
    assert embedding[IDS[BOS], DIMENSION] == MARK and embedding[:, DIMENSION].count_nonzero() == 1
    trained.step()
    moved = [name for name, value in model.state_dict().items() if not torch.equal(kept[name], value)]
    assert {name.rsplit(".", 2)[1] for name in moved} >= {"q_proj", "k_proj", "v_proj", "o_proj", "down_proj"}
    trained.regularisers.rest = None  # a step behind which nothing is held
    trained.step()
    held = {name: value.clone() for name, value in model.state_dict().items()}
    rest.hold(9)
    assert not all(torch.equal(held[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("bonus", [0.0, 3.0, 9.0])
def test_every_head_without_a_score_of_its_own_gives_the_first_token_the_bonus(bonus):
    model = with_bias(build_model(0, layers=3))
    Rest(model).hold(bonus)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.weight.zero_()
    model.eval().set_attn_implementation("eager")
    words = torch.tensor([[IDS[word] for word in f"{BOS} the red circle on the left of the image .".split()]])
    with torch.no_grad():
        output = model.model.language_model(input_ids=words, output_attentions=True, output_hidden_states=True)
    n = words.shape[1]
    expected = np.exp(bonus) / (np.exp(bonus) + n - 1)
    for layer, weights in enumerate(output.attentions):
        shares = weights[0, :, -1, 0].numpy()
        assert shares == pytest.approx(np.full(8, expected if layer else 1 / n), rel=1e-3)
    for states in output.hidden_states[:-1]:  # the last one is normed
        assert states[0, 1:, DIMENSION].abs().max() == 0 and states[0, 0, DIMENSION] == MARK


def test_a_rest_needs_biases():
    with pytest.raises(ValueError, match="with_bias"):
        Rest(build_model(0, layers=1))


def test_biases_of_zero_change_nothing():
    model = build_model(0, layers=2)
    assert torch.equal(logits_of(model), logits_of(with_bias(model)))


def test_without_options_nothing_is_added(tmp_path):
    made = trainer(tmp_path)
    assert made.model.state_dict().keys() == build_model(0, layers=3).state_dict().keys()
    assert len(made.optimisers) == 2 and made.regularisers.cost(10**6) == 0 and made.regularisers.columns == ()
    batch = make_batch(LEVELS[-1], 1, seed=3, step=4)
    scene = sample_scene(int(np.random.default_rng([3, 4]).integers(2**40, 2**41, size=1)[0]), LEVELS[-1].counts)
    rng = np.random.default_rng([scene.seed, 3])
    assert batch.exchanges == [[sample_exchange(scene, rng, LEVELS[-1].kinds) for _ in range(16)]]


def test_a_resumed_run_with_all_options_equals_an_uninterrupted_one(tmp_path):
    whole = trainer(tmp_path / "whole", *ALL, "--stop-at", "3")
    run(whole)
    run(trainer(tmp_path / "parts", *ALL, "--stop-at", "1"))
    resumed = trainer(tmp_path / "parts", *ALL, "--stop-at", "3", "--resume")
    resumed.restore()
    run(resumed)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert "gates" in (tmp_path / "parts" / "curves.csv").read_text().splitlines()[0]


def test_a_training_starts_from_an_export_and_adds_what_it_needs(tmp_path):
    trainer(tmp_path / "first").save()
    start = ["--start", str(tmp_path / "first" / "export"), "--level", "2", "--full", "1"]
    again = trainer(tmp_path / "second", *start, *ALL)
    assert again.progress.level == 2 and again._level().full == 1 and LEVELS[-1].full < 1
    first, known = load_model(tmp_path / "first" / "export"), len(vocabulary())
    now = again.model.get_input_embeddings().weight
    assert torch.equal(now[:known], first.get_input_embeddings().weight) and len(now) == len(vocabulary_with_facts())


def test_an_export_has_a_word_for_every_row(tmp_path):
    for name, options, words in (("facts", ALL, vocabulary_with_facts()), ("plain", [], vocabulary())):
        made = trainer(tmp_path / name, *options)
        made.save()
        tokenizer = AutoProcessor.from_pretrained(tmp_path / name / "export").tokenizer
        assert len(tokenizer) == len(made.model.get_output_embeddings().weight) == len(words)
    assert vocabulary_with_facts()[: len(vocabulary())] == vocabulary()


def test_fuller_steps_and_more_positions_change_the_last_level_only(tmp_path):
    made = trainer(tmp_path, "--full", "0.5", "--positions", "0.9")
    assert made._level() == LEVELS[0]
    made.progress.level = len(LEVELS) - 1
    assert (made._level().full, made._level().keep) == (0.5, LEVELS[-1].keep)
    shares = []
    for level in (made._level(), LEVELS[-1]):
        said = [exchange for row in make_batch(level, 8, seed=1, step=1).exchanges for exchange in row]
        shares.append(np.mean([exchange.kind == "position" for exchange in said if exchange.kind != QUESTION]))
    assert shares[0] > 1.4 * shares[1]


def test_a_model_without_training_tells_no_facts(monkeypatch):
    scenes = [(seed, sample_scene(seed)) for seed in range(8)]
    monkeypatch.setattr(probe, "split_scenes", lambda split: scenes)
    model = build_model(0, layers=1)
    add_words_of_facts(model, seed=0)
    found = probe.fact_accuracy(model, "val")
    assert found.keys() == FACTS.keys() and max(found[name] for name in ("objects", "tone", "alike")) < 0.9


@pytest.mark.parametrize("name", FACTS)
def test_what_is_true_is_possible_and_not_all_that_is_possible_is_true(name):
    for seed in range(30):
        scene = sample_scene(seed)
        for target in range(len(scene.objects)):
            true, possible = set(FACTS[name].true(scene, target)), FACTS[name].possible(scene, target)
            assert true < set(possible) and len(set(possible)) == len(possible)
            assert len({len(answer.split()) for answer in possible}) == 1


def test_facts_are_true():
    numbers = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    tones = []
    for seed in range(40):
        scene = sample_scene(seed)
        number, noun = FACTS["objects"].true(scene, 0)[0].split()
        assert numbers[number] == len(scene.objects) and noun == "objects"
        for target, item in enumerate(scene.objects):
            number, noun = FACTS["alike"].true(scene, target)[0].split()
            assert noun == item.shape + "s"
            assert numbers[number] == [other.shape for other in scene.objects].count(item.shape)
            others = sorted(f"{o.colour} {o.shape} there" for o in scene.objects if o is not item)
            assert sorted(FACTS["another"].true(scene, target)) == others
        image, covered = render(scene), np.any([o.mask(scene.height, scene.width) for o in scene.objects], axis=0)
        assert FACTS["tone"].true(scene, 0)[0].split()[0] == ("light" if background_is_light(scene) else "dark")
        tones.append((background_is_light(scene), image[~covered].mean()))
    light, dark = ([grey for is_light, grey in tones if is_light == side] for side in (True, False))
    assert np.mean(light) > 130 > np.mean(dark) and min(len(light), len(dark)) > 8
    assert np.mean([(grey > 130) == is_light for is_light, grey in tones]) > 0.8


def test_a_share_of_the_expressions_and_no_question_is_answered_by_a_fact():
    scene, rng = sample_scene(1), np.random.default_rng(0)
    expression = Exchange("the red circle .", "pink plain red circle", "attribute", 0)
    told = [with_fact(expression, scene, rng, 0.5) for _ in range(200)]
    facts = [exchange for exchange in told if exchange.kind == FACT]
    assert 70 < len(facts) < 130 and {fact.prompt for fact in facts} == {expression.prompt}
    answers = {fact.answer for fact in facts}
    assert len(answers) == 2 + len(scene.objects) and next(e for e in told if e.kind != FACT) == expression
    question = Exchange("what shape is the red object ?", "circle", QUESTION, 0)
    assert all(with_fact(question, scene, rng, 1.0) == question for _ in range(20))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--facts", "1.5"], "--facts 1.5 is a share"),
        (["--gate-cost", "-1"], "--gate-cost -1.0 must not be below 0"),
        (["--start", "nowhere"], "nowhere holds no config.json"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence_before_any_step(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path / "out"), *options])
    assert train.main() != 0
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_is_resumed_with_the_options_that_it_began_with(tmp_path):
    trainer(tmp_path, *ALL).save()
    trainer(tmp_path, *ALL).restore()
    with pytest.raises(ConfigError, match=r"--rest-bonus 9\.0, not 10\.0"):
        trainer(tmp_path, *ALL, "--rest-bonus", "10").restore()
    with pytest.raises(ConfigError, match=r"--gate-cost 0\.01, not 0\.0"):
        trainer(tmp_path).restore()
