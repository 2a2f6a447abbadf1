"""The text around the expression."""

import pytest
from PIL import Image

from locheads.config import PromptConfig
from locheads.errors import DataError
from locheads.models.adapters.llava import LlavaAdapter
from locheads.models.geometry import Preprocess
from locheads.models.prompts import render_prompt

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
    assert render_prompt(PromptConfig(template=PLAIN), expression) == text


def test_without_full_stop_the_expression_stays_as_it_is() -> None:
    assert render_prompt(PromptConfig(template=PLAIN, full_stop=False), "red cup") == "<image>\nred cup"


def test_braces_of_the_template_survive_and_the_expression_may_stand_twice() -> None:
    prompt = PromptConfig(template='{"a": 1} <image> {expression} Box of {expression}')
    assert render_prompt(prompt, "cup") == '{"a": 1} <image> cup. Box of cup.'


@pytest.mark.parametrize("expression", ["", " ", "\n\t ", "\u3000"])
def test_a_blank_expression_cannot_be_asked(expression: str) -> None:
    with pytest.raises(DataError, match="expression is empty"):
        render_prompt(PromptConfig(template=PLAIN), expression)


def test_an_expression_cannot_bring_its_own_picture() -> None:
    with pytest.raises(DataError, match="holds <image>"):
        render_prompt(PromptConfig(), "the <image> cup")


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
