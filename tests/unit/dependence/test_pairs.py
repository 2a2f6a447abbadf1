"""Which pairs of expressions tell something of a head, and the paraphrases of those that stand alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from locheads.dependence.pairs import TOGGLED, content_words, pairs_of, toggle_article, token_is_known, with_paraphrases
from locheads.models.config import PromptConfig, Query
from locheads.types import ImageGroup, Sample

CUP, PLATE = (0.0, 0.0, 5.0, 5.0), (8.0, 0.0, 12.0, 5.0)
LAST = PromptConfig()


def sample(name: str, ref: str, expression: str, box: tuple[float, float, float, float] = CUP) -> Sample:
    return Sample(name, ref, expression, box, {}, "thing")


SAMPLES = (
    sample("0", "cup", "the red cup"),
    sample("1", "cup", "mug on the left"),
    sample("2", "plate", "red plate", PLATE),
    sample("3", "plate", "  Red  Plate", PLATE),
    sample("4", "cup again", "the beaker"),  # another annotation of the same object
    sample("5", "spoon", "mug on the left", (1.0, 1.0, 2.0, 2.0)),
)


def told(pairs: object, flag: str) -> dict[tuple[int, int], bool]:
    first, second, values = (getattr(pairs, name).tolist() for name in ("first", "second", flag))
    return {(i, j): value for i, j, value in zip(first, second, values, strict=True)}


def test_pairs_are_of_one_object_in_other_words_or_of_two_objects() -> None:
    same = told(pairs_of(SAMPLES, LAST), "same")
    assert same[0, 1] and not same[0, 2]
    assert (2, 3) not in same, "the same words, but for letters and blanks"
    assert (0, 4) not in same, "two refs of one box may mean one object"
    assert (1, 5) not in same, "one question has one answer"
    assert len(same) == 11


def test_articles_and_prepositions_are_no_words_that_are_shared() -> None:
    shares = told(pairs_of(SAMPLES, LAST), "shares_word")
    assert shares[0, 2], "red"
    assert not shares[0, 1] and not shares[2, 5], "the"
    assert content_words(SAMPLES[1]) == {"mug", "left"}


@pytest.mark.parametrize(
    ("prompt", "equal"),
    [
        (LAST, True),
        (replace(LAST, query=Query.expression_mean), True),  # nothing to control by
        (replace(LAST, query=Query.expression_last), False),
        # The full stop is the query token, and without it the expression's last word is.
        (replace(LAST, full_stop=False), False),
        (replace(LAST, full_stop=False, template="<image> {expression} ASSISTANT:"), True),
        (replace(LAST, full_stop=False, chat=True, template="{expression}"), True),
    ],
)
def test_the_token_control_knows_where_the_attention_is_taken(prompt: PromptConfig, equal: bool) -> None:
    same_token = told(pairs_of(SAMPLES, prompt), "same_token")
    assert same_token[0, 2] is equal  # cup and plate
    assert same_token[2, 5] is equal
    assert token_is_known(prompt) is (prompt.query != Query.expression_mean)


def test_of_a_row_in_the_answer_the_token_before_it_is_compared() -> None:
    second = replace(LAST, query="answer_word:2")
    said = {"0": "pink", "1": "pink", "2": "blue", "3": "", "4": "", "5": ""}
    same_token = told(pairs_of(SAMPLES, second, said), "same_token")
    assert same_token[0, 1] and not same_token[0, 2] and not same_token[0, 3] and same_token[3, 4]
    assert token_is_known(second) and not token_is_known(replace(LAST, query=Query.answer_mean))
    assert all(told(pairs_of(SAMPLES, replace(LAST, query=Query.answer_numbers), said), "same_token").values())
    # The row of the prompt's last token is that of `last`, whose token may be the expression's own.
    first = replace(LAST, full_stop=False, query=Query.answer_first)
    nothing = dict.fromkeys(said, "")
    last = pairs_of(SAMPLES, replace(first, query=Query.last))
    assert told(pairs_of(SAMPLES, first, nothing), "same_token") == told(last, "same_token")


def test_the_last_word_is_what_the_token_control_compares() -> None:
    expression_last = replace(LAST, query=Query.expression_last)
    both = (sample("0", "cup", "cup, left!"), sample("1", "plate", "the plate on the Left", PLATE))
    assert told(pairs_of(both, expression_last), "same_token") == {(0, 1): True}


def test_no_and_one_sample_make_no_pair() -> None:
    for samples in ((), SAMPLES[:1]):
        pairs = pairs_of(samples, LAST)
        assert len(pairs.first) == len(pairs.same) == len(pairs.shares_word) == len(pairs.same_token) == 0


@pytest.mark.parametrize(
    ("expression", "toggled"),
    [("the red cup", "red cup"), ("red cup", "the red cup"), ("A cup", "cup"), ("an", "the an"), ("bar", "the bar")],
)
def test_an_article_is_toggled(expression: str, toggled: str) -> None:
    assert toggle_article(expression) == toggled


def test_only_an_object_with_a_single_wording_gets_a_paraphrase() -> None:
    group = ImageGroup("a", Path("a.jpg"), 20, 10, SAMPLES)
    more = with_paraphrases(group)
    added = more.samples[len(SAMPLES) :]
    assert more.samples[: len(SAMPLES)] == SAMPLES
    assert [one.sample_id for one in added] == ["3" + TOGGLED, "4" + TOGGLED, "5" + TOGGLED]
    assert [one.ref_id for one in added] == ["plate", "cup again", "spoon"]
    same = told(pairs_of(more.samples, LAST), "same")
    assert same[3, 6] and same[4, 7] and same[5, 8], "each is a paraphrase of its own"


def test_counts_of_refcoco_val(refcoco_unc_val: list[ImageGroup]) -> None:
    pairs = [pairs_of(group.samples, LAST) for group in refcoco_unc_val]
    assert len(refcoco_unc_val) == 1500
    assert sum(int(found.same.sum()) for found in pairs) == 9609
    # 31,386 pairs of two refs with two boxes, and six of them ask one question for both.
    assert sum(int((~found.same).sum()) for found in pairs) == 31386 - 6
