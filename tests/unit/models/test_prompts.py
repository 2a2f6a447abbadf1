"""The text around the expression."""

import copy
from typing import Any

import pytest
from family_parts import tokenizer
from PIL import Image

from locheads.config import Config, check
from locheads.errors import ConfigError, DataError
from locheads.geometry import Preprocess
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.config import PromptConfig, Query
from locheads.models.prompts import PromptText, chat_prompt_text, fill, prompt_text, tokenise
from locheads.pocket.tokenizer import build_tokenizer
from locheads.types import Excerpt, Sample

PLAIN = "<image>\n{expression}"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("red cup", "<image>\nred cup."),
        ("red cup.", "<image>\nred cup."),
        ("red cup . ", "<image>\nred cup ."),
        ("which cup?", "<image>\nwhich cup?"),
        ("that one!", "<image>\nthat one!"),
        ("  two\n\twords ", "<image>\ntwo words."),
        ("{0} {expression} }{", "<image>\n{0} {expression} }{."),
        ("tasse à café ☕", "<image>\ntasse à café ☕."),
    ],
)
def test_the_expression_takes_its_place_and_ends_in_one_full_stop(expression: str, text: str) -> None:
    assert prompt_text(PromptConfig(template=PLAIN), expression).text == text


def test_without_full_stop_the_expression_stays_as_it_is() -> None:
    assert prompt_text(PromptConfig(template=PLAIN, full_stop=False), "red cup").text == "<image>\nred cup"


def test_braces_of_the_template_survive_and_the_expression_may_stand_twice() -> None:
    prompt = PromptConfig(template='{"a": 1} <image> {expression} Box of {expression}')
    assert prompt_text(prompt, "cup").text == '{"a": 1} <image> cup. Box of cup.'


@pytest.mark.parametrize("expression", ["", " ", "\n\t ", "\u3000"])
def test_a_blank_expression_cannot_be_asked(expression: str) -> None:
    with pytest.raises(DataError, match="expression is empty"):
        prompt_text(PromptConfig(template=PLAIN), expression)


def test_an_expression_cannot_bring_its_own_image() -> None:
    with pytest.raises(DataError, match="holds <image>"):
        prompt_text(PromptConfig(), "the <image> cup")


def test_all_prompts_share_the_prefix_up_to_the_last_image_token(processor, tiny_config) -> None:
    adapter = LlavaAdapter(processor, tiny_config, Preprocess.pad)
    image, prompt = Image.new("RGB", (30, 20)), PromptConfig(template="look <image>\n{expression}")
    prepared = adapter.prepare(image, ["the red circle", "square", "a b c d"], prompt)
    assert prepared.image_tokens.tolist() == list(range(len(prepared.prefix) - 16, len(prepared.prefix)))
    assert set(prepared.prefix[prepared.image_tokens].tolist()) == {4}
    for expression, suffix in zip(["the red circle.", "square.", "a b c d."], prepared.suffixes, strict=True):
        text = "look " + "<image>" * 16 + "\n" + expression
        whole = processor.tokenizer(text, return_tensors="pt").input_ids[0]
        assert [*prepared.prefix.tolist(), *suffix.tolist()] == whole.tolist()
        assert 4 not in suffix.tolist()


@pytest.mark.parametrize(
    ("template", "expression", "located"),
    [
        (PLAIN, "red cup", "red cup"),
        (PLAIN, "red cup?", "red cup?"),
        (PLAIN, " red   cup ", "red cup"),
        ("<image> {expression} Box of {expression} now", "cup", "cup"),
        ("<image> cup {expression} cup", "cup", "cup"),
        ("<image> {expression}", "{expression}", "{expression}"),
    ],
)
def test_the_expression_is_located_without_the_added_stop(template: str, expression: str, located: str) -> None:
    asked = prompt_text(PromptConfig(template=template), expression)
    assert asked.text == prompt_text(PromptConfig(template=template), expression).text
    assert asked.text[asked.start : asked.end] == located


def test_of_several_places_the_last_counts() -> None:
    asked = prompt_text(PromptConfig(template="<image> {expression} Box of {expression} now"), "cup")
    assert asked == PromptText("<image> cup. Box of cup. now", 20, 23)


class Chat:
    """A processor as far as its chat template goes."""

    def __init__(self, write: Any) -> None:
        self.write = write

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize and add_generation_prompt
        (message,) = messages
        image, text = message["content"]
        assert (message["role"], image["type"], text["type"]) == ("user", "image", "text")
        return self.write(text["text"])


@pytest.mark.parametrize(
    "template", ["Where is {expression} ?", "  Where is {expression} ?\n", "Find it: {expression}"]
)
@pytest.mark.parametrize("write", [lambda t: f"USER: [P] {t} A:", lambda t: f"U [P]\n{t.strip()}</s>"])
def test_a_chat_template_keeps_the_place_of_the_expression(template: str, write: Any) -> None:
    prompt = PromptConfig(template=template, chat=True, full_stop=False)
    asked = chat_prompt_text(prompt, "the red cup", Chat(write))
    assert asked.text == write(template.replace("{expression}", "the red cup"))
    assert asked.text[asked.start : asked.end] == "the red cup"


def test_a_chat_template_that_rewrites_the_question_is_found_out() -> None:
    with pytest.raises(DataError, match="changed the question 'Where is cup'"):
        chat_prompt_text(
            PromptConfig(template="Where is {expression}", chat=True, full_stop=False), "cup", Chat(str.upper)
        )


def test_filling_in_the_image_moves_the_expression() -> None:
    assert fill(PromptText("a [P] cup", 6, 9), "[P]", "[P][P][P]") == PromptText("a [P][P][P] cup", 12, 15)


def test_an_image_after_the_expression_or_absent_is_refused() -> None:
    for text in ("cup [P]", "cup"):
        with pytest.raises(ConfigError, match=r"image .* before the expression"):
            fill(PromptText(text, 0, 3), "[P]", "x")
    with pytest.raises(DataError, match=r"holds .*take it out"):
        fill(PromptText("[P] cup [P]", 4, 11), "[P]", "x")


class Slow:
    """A tokenizer without offsets: one token per word, but for "7 cup", which is one."""

    is_fast = False

    def __call__(self, text: str, add_special_tokens: bool, return_offsets_mapping: bool = False) -> dict:
        assert not return_offsets_mapping
        words = text.replace("7 cup", "7cup").split()
        return {"input_ids": [1] * add_special_tokens + [sum(word.encode()) for word in words]}


@pytest.mark.parametrize("special", [True, False])
def test_without_offsets_the_expression_is_found_by_what_precedes_it(special: bool) -> None:
    asked = PromptText("where is the red cup now", 9, 20)
    for query, span in ((Query.last, (5, 6)), (Query.expression_last, (4, 5)), (Query.expression_mean, (2, 5))):
        found = tokenise(Slow(), asked, query, special)[1]
        assert found == (span[0] + special, span[1] + special)


def test_without_offsets_a_merged_token_is_an_error_and_no_guess() -> None:
    asked = PromptText("box 7 cup now", 6, 9)
    with pytest.raises(DataError, match="'cup' cannot be located"):
        tokenise(Slow(), asked, Query.expression_mean, False)
    assert tokenise(Slow(), asked, Query.last, False)[1] == (2, 3)


@pytest.mark.parametrize("expression", ["the red circle", "x", "tasse à café ☕", "(b) [c] {d}", "circle circle"])
@pytest.mark.parametrize("bos", [None, "<s>"])
def test_offsets_find_exactly_the_expressions_tokens(expression: str, bos: str | None) -> None:
    words = tokenizer(bos)
    asked = prompt_text(PromptConfig(template="<image> where is {expression} in it", full_stop=False), expression)
    ids, (first, end) = tokenise(words, asked, Query.expression_mean, special=True)
    assert words.decode(ids[first:end]).strip() == expression
    assert words.decode(ids[:first]).rstrip().endswith("where is") and words.decode(ids[end:]) == " in it"
    assert tokenise(words, asked, Query.expression_last, special=True)[1] == (end - 1, end)
    assert ids == words(asked.text)["input_ids"]


def test_no_first_token_twice_after_a_chat_template_that_wrote_it(tiny_config, processor) -> None:
    class Parts:
        image_processor = processor.image_processor
        image_token = "<image>"

        def __init__(self, template: str) -> None:
            self.tokenizer = tokenizer("<s>")
            self.template = template

        def apply_chat_template(self, messages: list[dict], **_: Any) -> str:
            return self.template.format(messages[0]["content"][1]["text"])

    tiny_config.image_token_id = tokenizer().convert_tokens_to_ids("<image>")
    first = tokenizer().convert_tokens_to_ids("<s>")
    prompt = PromptConfig(template="{expression}", chat=True)
    for template in ("<s>U <image> {}", "U <image> {}"):
        adapter = LlavaAdapter(Parts(template), tiny_config, Preprocess.pad)
        prefix = adapter.prepare(Image.new("RGB", (30, 20)), ["cup"], prompt).prefix.tolist()
        assert prefix[0] == first and first not in prefix[1:]


@pytest.mark.parametrize(
    ("template", "in_chat", "sentence"),
    [
        ("<image>", False, r"no \{expression\}"),
        ("{expression}", False, "exactly once"),
        ("<image><image>{expression}", False, "exactly once"),
        ("{expression}<image>", False, "<image> before"),
        ("<image>{expression}", True, "must not hold <image> with prompt.chat=true"),
        ("Where?", True, r"no \{expression\}"),
    ],
)
def test_templates_are_checked_before_anything_loads(template: str, in_chat: bool, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PromptConfig(template=template, chat=in_chat)


@pytest.mark.parametrize("prompt", [PromptConfig(), PromptConfig(template="Where is {expression}?", chat=True)])
def test_good_templates_pass_the_check(prompt: PromptConfig) -> None:
    assert check(Config(prompt=prompt)) is None


def test_half_a_surrogate_pair_is_an_expression_that_cannot_be_asked() -> None:
    """JSON may hold it, and no tokenizer takes it."""
    with pytest.raises(DataError, match="half of a surrogate pair"):
        prompt_text(PromptConfig(), "the \ud800 cup")
    assert prompt_text(PromptConfig(), "the \U0001f375 cup").text.endswith("cup.")


def test_a_part_of_a_text_is_located_as_the_expression_of_a_longer_template() -> None:
    """The text around the part written into the template gives the same prompt, and so the same attention."""
    excerpt = Excerpt.within("in this picture , ", "the  red cup", " is left of it .")
    assert str(excerpt) == "in this picture , the red cup is left of it ." and excerpt.part == (18, 29)
    for template in ("Look: <image> {expression}", "<image>{expression}? I mean {expression}!"):
        longer = template.replace("{expression}", "in this picture , {expression} is left of it .")
        plain, mean = PromptConfig(template=longer, full_stop=False), Query.expression_mean
        found = prompt_text(PromptConfig(template=template, query=mean), excerpt)
        assert found == prompt_text(plain, "the red cup")
        assert found != prompt_text(PromptConfig(template=template), str(excerpt))
    ids, (first, end) = tokenise(build_tokenizer(), found, "expression_mean", special=True)
    assert build_tokenizer().convert_ids_to_tokens(ids[first:end]) == ["the", "red", "[UNK]"]
    with pytest.raises(DataError, match="The expression is empty"):
        prompt_text(PromptConfig(query=mean), Excerpt.within("a text ", " ", "without part"))
    with pytest.raises(ConfigError, match=r"prompt.query=last is the same for all of them"):
        prompt_text(PromptConfig(), excerpt)


def test_another_article_stands_in_the_text_too() -> None:
    sample = Sample("1", "1", "red cup", (0, 0, 1, 1), {}, "", sentence=Excerpt.within("this is ", "red cup", "."))
    toggled = sample.reworded("the red cup")
    assert (toggled.expression, str(toggled.asked)) == ("the red cup", "this is the red cup.")
    assert toggled.sentence is not None and toggled.sentence.parts == ("this is ", "the red cup", ".")
    assert sample.reworded("cup").asked[8:11] == "cup" and copy.deepcopy(toggled) == toggled
    assert copy.deepcopy(toggled.sentence).part == (8, 19)
