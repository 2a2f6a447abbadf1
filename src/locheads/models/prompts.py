"""The text around the image and the expression, and where in its tokens the expression stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locheads.errors import ConfigError, DataError, boundary
from locheads.models.config import PromptConfig, Query, query_of
from locheads.types import Excerpt

IMAGE = "<image>"
"""Where the image goes in `prompt.template`, whatever the model's own image token is called."""
SLOT = "{expression}"


@dataclass(frozen=True)
class PromptText:
    """A prompt's text, in which one placeholder stands for the image."""

    text: str
    start: int
    """Where the expression begins in the text, in characters: the last of them where it stands several times."""
    end: int
    """Where it ends, without the full stop that was added."""


def prompt_text(prompt: PromptConfig, expression: str) -> PromptText:
    """The template with the expression in place, or the text whose part it is (`Excerpt`); `<image>` stays for the
    adapter to fill.

    Raises:
        DataError: the expression is empty or blank, or holds the image's placeholder.
        ConfigError: it is a part of a text, and the query is the same for all parts.
    """
    text = " ".join(expression.split())
    first, last = 0, len(text)
    if isinstance(expression, Excerpt):
        first, last = expression.part
        if prompt.query not in (Query.expression_last, Query.expression_mean):
            raise ConfigError(
                f"Several expressions are parts of one text, whose prompt.query={prompt.query} is the same for all of "
                "them: use prompt.query=expression_mean or expression_last."
            )
    if not text[first:last]:
        raise DataError("The expression is empty: there is nothing to ground.")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(
            "The expression holds half of a surrogate pair, which is no letter: correct its file's encoding."
        )
    if IMAGE in text:
        raise DataError(f"The expression holds {IMAGE}, which stands for the image: take it out.")
    stop = "." if prompt.full_stop and text[-1] not in ".?!" else ""
    # Plain replacement, not str.format: an expression may hold braces, and so may a user's template.
    before, _, after = prompt.template.rpartition(SLOT)
    start = len(before := before.replace(SLOT, text + stop))
    return PromptText(before + text + stop + after, start + first, start + last)


def chat_prompt_text(prompt: PromptConfig, expression: str, processor: Any) -> PromptText:
    """The rendered question inside the model's own chat template, with the model's placeholder for the image.

    Raises:
        DataError: as `prompt_text`, or the chat template changed the question: the expression cannot be located.
        ConfigError: the model has no chat template, or one that does not run.
    """
    question = prompt_text(prompt, expression)
    parts = [{"type": "image"}, {"type": "text", "text": question.text}]
    # A template is a program of the checkpoint's author: it raises whatever Jinja and Python do.
    unusable = f"prompt={prompt.name} asks in the model's chat template, and this model has none that works"
    with boundary(unusable, ConfigError, "choose prompt=referseg or prompt=bare, which have chat=false."):
        text = processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True, **_template(processor)
        )
    # Many templates strip the white space around a message.
    at = text.rfind(question.text.strip())
    if at < 0:
        raise DataError(f"The model's chat template changed the question {question.text!r}: use prompt.chat=false.")
    shift = at - (len(question.text) - len(question.text.lstrip()))
    return PromptText(text, question.start + shift, question.end + shift)


def _template(processor: Any) -> dict[str, str]:
    """The tokenizer's chat template where the processor has none: some checkpoints have their only one there."""
    own = getattr(processor, "chat_template", True)
    return {} if own else {"chat_template": processor.tokenizer.get_chat_template()}


def fill(question: PromptText, placeholder: str, tokens: str) -> PromptText:
    """Puts the image's tokens where the placeholder stands.

    Raises:
        DataError: the placeholder occurs not once but several times, because the expression holds it.
        ConfigError: it does not stand before the expression.
    """
    head, found, tail = question.text.partition(placeholder)
    if not found or len(head) > question.start:
        raise ConfigError(
            f"The prompt {question.text!r} does not have the image ({placeholder}) before the expression: "
            "the image is read once for all expressions. Use another template."
        )
    if placeholder in tail:
        raise DataError(f"The expression holds {placeholder}, which stands for the image: take it out.")
    shift = len(tokens) - len(placeholder)
    return PromptText(head + tokens + tail, question.start + shift, question.end + shift)


def tokenise(tokenizer: Any, question: PromptText, query: str, special: bool) -> tuple[list[int], tuple[int, int]]:
    """-> (token ids of the text, the query tokens as a half-open range of positions).

    `special`: let the tokenizer add its own first token. A token that holds the expression and more (such as its
    full stop) counts as the expression's. A query in the answer: the last token.

    Raises:
        DataError: the expression cannot be located in the tokens.
        ConfigError: `query` is no choice of `Query`, whose names do as well.
    """
    kind, _ = query_of(query)
    fast = getattr(tokenizer, "is_fast", False)
    refused = f"The tokenizer refuses the prompt for {question.text[question.start : question.end][:40]!r}"
    with boundary(refused, DataError, "is there anything odd about the expression?"):
        encoded = tokenizer(question.text, add_special_tokens=special, return_offsets_mapping=fast)
        ids = list(encoded["input_ids"])
    if kind not in (Query.expression_last, Query.expression_mean):
        return ids, (len(ids) - 1, len(ids))
    if fast:
        first, end = _by_offsets(encoded["offset_mapping"], question)
    else:
        first, end = _by_prefixes(tokenizer, ids, question, special)
    if first >= end:
        raise DataError(
            f"The expression {question.text[question.start : question.end]!r} cannot be located in the prompt's "
            "tokens: use prompt.query=last."
        )
    return ids, (end - 1 if kind == Query.expression_last else first, end)


def _by_offsets(offsets: Sequence[tuple[int, int]], question: PromptText) -> tuple[int, int]:
    touching = [i for i, (a, b) in enumerate(offsets) if a < b and a < question.end and b > question.start]
    return (touching[0], touching[-1] + 1) if touching else (0, 0)


def _by_prefixes(tokenizer: Any, ids: list[int], question: PromptText, special: bool) -> tuple[int, int]:
    """For a tokenizer without offsets: the text up to the expression, and up to its end, tokenised by themselves.

    Only right where both are how the tokens of the whole text begin, which is checked; else (0, 0).
    """
    # The blank before a word is usually part of the word's token.
    texts = (question.text[: question.start].rstrip(" "), question.text[: question.end])
    before, until = (list(tokenizer(text, add_special_tokens=special)["input_ids"]) for text in texts)
    exact = ids[: len(before)] == before and ids[: len(until)] == until
    return (len(before), len(until)) if exact else (0, 0)
