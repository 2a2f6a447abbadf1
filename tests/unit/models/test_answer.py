"""Greedy answers equal those of the family's own processor and `generate`; numbers in them become boxes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from families import FAMILY_BUILDERS
from family_parts import in_full_precision
from test_families import CHAT, PLAIN, adapter, family, noise

from locheads.models.answer import answer_image, check_makes_words
from locheads.models.capture import install
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm

TOKENS = 6


def lvlm_of(name: str) -> Lvlm:
    model, _ = family(name)
    install(model)
    lvlm = Lvlm(model, adapter(name), torch.device("cpu"))
    check_makes_words(lvlm)
    return lvlm


def asked(prompt: PromptConfig, tokens: int = TOKENS) -> PromptConfig:
    return replace(prompt, max_new_tokens=tokens)


def stock_answer(name: str, image: Any, expression: str) -> str:
    """By the family's own processor, in one piece, with the library's attention."""
    model, processor = family(name)
    ours = adapter(name)
    text = f"look {ours.wrapping.format(processor.image_token)}\n{expression}."
    inputs = processor(images=image, text=text, return_tensors="pt")
    inputs = {key: value for key, value in inputs.items() if key not in (*ours.not_for_model, "labels")}
    inputs = in_full_precision(inputs)
    tokenizer = processor.tokenizer
    new = model.generate(
        **inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id
    )
    text = tokenizer.decode(new[0, inputs["input_ids"].shape[1] :])
    return text.split(tokenizer.eos_token)[0].strip() if tokenizer.eos_token else text.strip()


@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_answers_are_those_of_the_stock_processor(name: str) -> None:
    image, expressions = noise((130, 70)), ["the red cup left of it", "circle"]
    lvlm = lvlm_of(name)
    answers, geometry = answer_image(lvlm, image, expressions, asked(PLAIN))
    assert (geometry.width, geometry.height) == image.size
    assert [answer.text.strip() for answer in answers] == [
        stock_answer(name, image, expression) for expression in expressions
    ]


def test_the_comparison_can_fail() -> None:
    """Random weights often say the same whatever they are asked; some of them do not."""
    image = noise((130, 70))
    expressions = ["the red cup left of it", "circle"]
    said = {name: answer_image(lvlm_of(name), image, expressions, asked(PLAIN))[0] for name in FAMILY_BUILDERS}
    differing = [name for name, (one, other) in said.items() if one.text != other.text]
    assert len(differing) > 3


def test_no_more_tokens_than_asked_for() -> None:
    short, _ = answer_image(lvlm_of("llava"), noise((130, 70)), ["circle"], asked(CHAT, 2))
    long, _ = answer_image(lvlm_of("llava"), noise((130, 70)), ["circle"], asked(CHAT, 6))
    assert long[0].ids[:2] == short[0].ids and len(short[0].ids) == 2 < len(long[0].ids)
    assert long[0].text.startswith(short[0].text)
