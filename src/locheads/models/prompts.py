"""The text around the image and the expression, and where in its tokens the expression stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from locheads.errors import ConfigError, DataError, boundary, chosen
from locheads.models.config import PromptConfig, Query

IMAGE = "<image>"
"""Where the image goes in `prompt.template`, whatever the model's own image token is called."""
SLOT = "{expression}"


@dataclass(frozen=True)
class Asked:
    """A prompt's text, in which one placeholder stands for the image."""

    text: str
    start: int
    """Where the expression begins in the text, in characters: the last of them where it stands several times."""
    end: int
    """Where it ends, without the full stop that was added."""


def render_prompt(prompt: PromptConfig, expression: str) -> str:
    """The template with the expression in place; `<image>` stays for the adapter to fill.

    Raises:
        DataError: the expression is empty or blank, or holds the image's placeholder.
    """
    return ask(prompt, expression).text


def ask(prompt: PromptConfig, expression: str) -> Asked:
    """As `render_prompt`, with the place of the expression."""
    text = " ".join(expression.split())
    if not text:
        raise DataError("The expression is empty: there is nothing to ground.")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError("The expression holds half of a surrogate pair, which is no letter: mend its file's encoding.")
    if IMAGE in text:
        raise DataError(f"The expression holds {IMAGE}, which stands for the image: take it out.")
    stop = "." if prompt.full_stop and text[-1] not in ".?!" else ""
    # Plain replacement, not str.format: an expression may hold braces, and so may a user's template.
    before, _, after = prompt.template.rpartition(SLOT)
    start = len(before := before.replace(SLOT, text + stop))
    return Asked(before + text + stop + after, start, start + len(text))


def ask_in_chat(prompt: PromptConfig, expression: str, processor: Any) -> Asked:
    """The rendered question inside the model's own chat template, with the model's placeholder for the image.

    Raises:
        DataError: as `ask`, or the chat template changed the question, so that the expression cannot be located.
        ConfigError: the model has no chat template, or one that does not run.
    """
    asked = ask(prompt, expression)
    parts = [{"type": "image"}, {"type": "text", "text": asked.text}]
    # A template is a program of the checkpoint's author: it raises whatever Jinja and Python do.
    unusable = f"prompt={prompt.name} asks in the model's chat template, and this model has none that works"
    with boundary(unusable, ConfigError, "choose a prompt with chat=false, such as referseg or bare."):
        text = processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
    # Many templates strip the white space around a message.
    at = text.rfind(asked.text.strip())
    if at < 0:
        raise DataError(f"The model's chat template changed the question {asked.text!r}: use prompt.chat=false.")
    shift = at - (len(asked.text) - len(asked.text.lstrip()))
    return Asked(text, asked.start + shift, asked.end + shift)


def fill(asked: Asked, placeholder: str, tokens: str) -> Asked:
    """Puts the image's tokens where the placeholder stands.

    Raises:
        DataError: the placeholder occurs not once but several times, because the expression holds it.
        ConfigError: it does not stand before the expression.
    """
    head, found, tail = asked.text.partition(placeholder)
    if not found or len(head) > asked.start:
        raise ConfigError(
            f"The prompt {asked.text!r} does not have the image ({placeholder}) before the expression: "
            "the image is read once for all expressions. Use another template."
        )
    if placeholder in tail:
        raise DataError(f"The expression holds {placeholder}, which stands for the image: take it out.")
    shift = len(tokens) - len(placeholder)
    return Asked(head + tokens + tail, asked.start + shift, asked.end + shift)


def tokenise(tokenizer: Any, asked: Asked, query: Query, special: bool) -> tuple[list[int], tuple[int, int]]:
    """-> (token ids of the text, the query tokens as a half-open range of positions).

    `special`: let the tokenizer add its own first token. A token that holds the expression and more (such as its
    full stop) counts as the expression's.

    Raises:
        DataError: the expression cannot be located in the tokens.
        ConfigError: `query` is no choice of `Query`, whose names do as well.
    """
    query = chosen(Query, query)
    fast = getattr(tokenizer, "is_fast", False)
    refused = f"The tokenizer refuses the prompt for {asked.text[asked.start : asked.end][:40]!r}"
    with boundary(refused, DataError, "is there anything odd about the expression?"):
        encoded = tokenizer(asked.text, add_special_tokens=special, return_offsets_mapping=fast)
        ids = list(encoded["input_ids"])
    if query == Query.last:
        return ids, (len(ids) - 1, len(ids))
    if fast:
        first, end = _by_offsets(encoded["offset_mapping"], asked)
    else:
        first, end = _by_prefixes(tokenizer, ids, asked, special)
    if first >= end:
        raise DataError(
            f"The expression {asked.text[asked.start : asked.end]!r} cannot be located in the prompt's tokens: "
            "use prompt.query=last."
        )
    match query:
        case Query.expression_last:
            return ids, (end - 1, end)
        case Query.expression_mean:
            return ids, (first, end)
        case _:
            assert_never(query)


def _by_offsets(offsets: Sequence[tuple[int, int]], asked: Asked) -> tuple[int, int]:
    touching = [i for i, (a, b) in enumerate(offsets) if a < b and a < asked.end and b > asked.start]
    return (touching[0], touching[-1] + 1) if touching else (0, 0)


def _by_prefixes(tokenizer: Any, ids: list[int], asked: Asked, special: bool) -> tuple[int, int]:
    """For a tokenizer without offsets: the text up to the expression, and up to its end, tokenised by themselves.

    Only right where both are how the tokens of the whole text begin, which is checked; else (0, 0).
    """
    # The blank before a word is usually part of the word's token.
    texts = (asked.text[: asked.start].rstrip(" "), asked.text[: asked.end])
    before, until = (list(tokenizer(text, add_special_tokens=special)["input_ids"]) for text in texts)
    exact = ids[: len(before)] == before and ids[: len(until)] == until
    return (len(before), len(until)) if exact else (0, 0)
