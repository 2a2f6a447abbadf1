"""Rows of the model's own answer: of every family they are those of `generate` with eager attention."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS
from test_sharing import as_plain, maps, prepared
from test_sharing import lvlm as of_family

from locheads.errors import ConfigError, DataError
from locheads.models import capture
from locheads.models.adapters import PreparedInput, Sharing
from locheads.models.answer import _tensors, answer_prepared
from locheads.models.answer_rows import with_answers
from locheads.models.answer_tokens import query_token, wanted_tokens
from locheads.models.batching import Budget
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm
from locheads.models.verification.eager_rows import only
from locheads.types import Answer

LIMIT = 6
families = pytest.mark.parametrize("name", list(FAMILY_BUILDERS))


@cache
def lvlm(name: str) -> Lvlm:
    """Its random weights may well say the image's token, which `test_an_answer_without_them_says_so` is about."""
    one = of_family(name)
    one.model.generation_config.suppress_tokens = [one.adapter.image_token_id]
    return one


@cache
def answers(name: str) -> list[Answer]:
    found = answer_prepared(lvlm(name), prepared(name), LIMIT, Budget(1, 1))
    assert all(found)
    return found


@cache
def generated(name: str, i: int) -> tuple[list[int], list[np.ndarray]]:
    """By transformers' own `generate`, eager: -> (ids, of each the maps of the row that predicts it)."""
    one, image = lvlm(name), only(prepared(name), i)
    ids = torch.cat([image.prefix, image.suffixes[0]])[None]
    with capture.attending(one.model, "eager"):
        output = one.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LIMIT, do_sample=False,
            output_attentions=True, return_dict_in_generate=True, pad_token_id=0,
            **_tensors(one, image, len(image.suffixes[0])),
        )  # fmt: skip
    grid = image.geometry.rows, image.geometry.cols

    def maps_of(weights: torch.Tensor, tokens: int) -> np.ndarray:
        row = weights[0, :, -1]  # of the last token; a cache that slides has let go of the first keys
        row = torch.nn.functional.pad(row, (tokens - row.shape[-1], 0))
        return row[:, image.image_tokens].numpy().reshape(-1, *grid)

    n = ids.shape[1]
    rows = [np.stack([maps_of(layer, n + t) for layer in step]) for t, step in enumerate(output.attentions)]
    return output.sequences[0, ids.shape[1] :].tolist(), rows


def behind(name: str, wanted: list[tuple[int, ...]]) -> PreparedInput:
    return with_answers(prepared(name), answers(name), wanted, lvlm(name).adapter.answer_type)


@families
def test_answers_are_generates_together_and_alone(name: str) -> None:
    one = lvlm(name)
    alone = answer_prepared(as_plain(one), prepared(name), LIMIT, Budget(1, 1))
    assert answers(name) == alone
    for i, answer in enumerate(answers(name)):
        ids, _ = generated(name, i)
        assert list(answer.ids) == ids[: len(answer.ids)] and len(ids) == len(answer.ids) + answer.ended
        assert answer.text == one.adapter.processor.tokenizer.decode(answer.ids)


@families
def test_rows_are_those_of_eager_attention_on_the_generated_sequence(name: str) -> None:
    wanted = [tuple(range(len(answer.ids))) for answer in answers(name)]
    (found,) = maps(lvlm(name), [behind(name, wanted)])
    (shifted,) = maps(lvlm(name), [behind(name, [(*own[1:], len(own)) for own in wanted])])
    for i, own in enumerate(wanted):
        expected = np.mean(generated(name, i)[1][: len(own)], axis=0)
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=2e-5)
        assert np.abs(shifted[i] - expected).max() > 2e-3


@families
def test_single_rows_are_picked_and_packed_equals_single(name: str) -> None:
    ends = [len(answer.ids) for answer in answers(name)]  # of which the row is the last that there is
    wanted = [(1, min(3, ends[0])), (0,), (min(2, ends[2]),)]
    image = behind(name, wanted)
    (found,) = maps(lvlm(name), [image])
    (alone,) = maps(as_plain(lvlm(name)), [image])
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)
    for i, own in enumerate(wanted):
        expected = np.mean([generated(name, i)[1][token] for token in own], axis=0)
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=2e-5)


@families
def test_the_first_is_the_last_token_of_the_prompt(name: str) -> None:
    (found,) = maps(
        lvlm(name), [behind(name, [wanted_tokens(one, "answer_first", -1, _none) for one in answers(name)])]
    )
    (last,) = maps(lvlm(name), [prepared(name)])
    assert (found == last).all()


def _none(_: str) -> None:
    return None


def said(*pieces: str, ended: bool = True) -> Answer:
    return Answer(tuple(range(len(pieces))), pieces, ended)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("answer_first", (0,)), ("answer_mean", tuple(range(7))), ("answer_end", (7,)), ("answer_word:1", (0,)),
        ("answer_word:2", (1, 2)), ("answer_word:3", (4, 5)), ("answer_numbers", (1, 6)),
    ],
)  # fmt: skip
def test_which_tokens_are_wanted(query: str, wanted: tuple[int, ...]) -> None:
    answer = said("a", " pin", "k", " ", "", "Ü", ".")  # the fifth only begins the sixth's letter
    assert wanted_tokens(answer, query, -1, lambda text: [(1, 3), (text.index("."), len(text))]) == wanted


@pytest.mark.parametrize(
    ("query", "answer", "sentence"),
    [
        ("answer_word:3", said("a", "<image>", " cup"), "holds the model's image token"),
        ("answer_word:3", said("a", " cup", "."), r"'a cup.' has no word 3, but 2 in all"),
        ("answer_word:1", said(), "has no word 1, but 0 in all"),
        ("answer_mean", said(), "answers nothing"),
        ("answer_end", said("a", " cup", ended=False), "does not end within its 2 tokens: raise prompt.max_new_tokens"),
        ("answer_numbers", said("a", " cup"), "holds no four numbers of a box"),
    ],
)
def test_an_answer_without_them_says_so(query: str, answer: Answer, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wanted_tokens(answer, query, 1, _none)


def test_the_token_of_a_row_is_the_one_before() -> None:
    answer = said("a", " red", " cup")
    assert [query_token(answer, wanted) for wanted in ((0,), (1,), (2, 3))] == ["", "a", "red"]


@pytest.mark.parametrize("query", ["answer_word", "answer_word:0", "answer_word:x", "answer_last", "word:1"])
def test_a_query_that_there_is_not(query: str) -> None:
    with pytest.raises(ConfigError, match=r"answer_word:2|There is no Query"):
        PromptConfig(query=query)


def test_the_checkpoints_settings_of_generate_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a penalty on what was said before."""
    one = lvlm("qwen2_5_vl")
    before = answers("qwen2_5_vl")
    monkeypatch.setattr(one.model.generation_config, "suppress_tokens", [before[0].ids[2], one.adapter.image_token_id])
    found = answer_prepared(one, prepared("qwen2_5_vl"), LIMIT, Budget(1, 1))
    assert found == answer_prepared(as_plain(one), prepared("qwen2_5_vl"), LIMIT, Budget(1, 1)) != before


def test_memory_that_runs_out_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    one = lvlm("llava")
    assert one.adapter.sharing is Sharing.packed
    from locheads.models import answer

    together: Any = answer.Together

    def small(lvlm: Any, strip: Any, *more: Any) -> Any:
        if len(strip.suffixes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return together(lvlm, strip, *more)

    monkeypatch.setattr(answer, "Together", small)
    assert answer_prepared(one, replace(prepared("llava")), LIMIT, Budget(1, 1)) == answers("llava")
