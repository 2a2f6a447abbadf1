"""Pairs of expressions about one image: which ask for the same object in other words, and which for another object."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Int

from locheads.models.config import PromptConfig, Query
from locheads.types import ImageGroup, Sample

EMPTY_WORDS = frozenset(
    (
        "a", "an", "the", "this", "that", "these", "those", "of", "on", "in", "at", "to", "by", "from", "with", "and",
        "or", "is", "are", "be", "it", "its", "his", "her", "their", "for", "as", "which", "who", "whose", "there",
        "one",
    )
)  # fmt: skip
"""Words that name nothing: two expressions that share only these share no content."""
MEANS = (Query.expression_mean, Query.answer_mean, Query.answer_numbers)
"""Queries of which no single token stands for all."""
NO_TOKENS: Mapping[str, str] = {}
TOGGLED = "~article"
"""Ends the id of a sample that is another's with its article toggled."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of samples of one image, by their positions in it."""

    first: Int[np.ndarray, "pair"]
    second: Int[np.ndarray, "pair"]
    same: Bool[np.ndarray, "pair"]
    """Whether both ask for one object, in other words; else they ask for two objects."""
    shares_word: Bool[np.ndarray, "pair"]
    """Whether the expressions share a word that names something: the control `lex`."""
    same_token: Bool[np.ndarray, "pair"]
    """Whether the attention of both was taken from the same token: the control `token`."""


def pairs_of(samples: Sequence[Sample], prompt: PromptConfig, tokens: Mapping[str, str] = NO_TOKENS) -> Pairs:
    """All pairs that say something of a head: of one ref with different texts, or of two refs with different boxes and
    different texts (the same question has one answer, whichever object was meant).

    `tokens`: of a query in the model's answer, sample id -> the token from whose row the attention was taken, "" for
    the prompt's last.
    """
    own = [_token(sample, prompt, tokens) for sample in samples]
    found = [
        (i, j, a.ref_id == b.ref_id, bool(content_words(a) & content_words(b)), own[i] == own[j])
        for (i, a), (j, b) in combinations(enumerate(samples), 2)
        if text_of(a) != text_of(b) and (a.ref_id == b.ref_id or a.is_apart_from(b))
    ]
    columns = list(zip(*found, strict=True)) or [()] * 5
    positions, flags = columns[:2], columns[2:]
    return Pairs(*(np.array(c, dtype=int) for c in positions), *(np.array(c, dtype=bool) for c in flags))


def with_paraphrases(group: ImageGroup) -> ImageGroup:
    """The image with one sample more for each ref that has a single text: the same with its article toggled."""
    texts: dict[str, set[str]] = {}
    for sample in group.samples:
        texts.setdefault(sample.ref_id, set()).add(text_of(sample))
    toggled: Iterator[Sample] = (
        replace(sample, sample_id=sample.sample_id + TOGGLED, expression=toggle_article(sample.expression))
        for sample in {sample.ref_id: sample for sample in group.samples}.values()
        if len(texts[sample.ref_id]) == 1
    )
    return replace(group, samples=(*group.samples, *toggled))


def toggle_article(expression: str) -> str:
    """ "the red cup" <-> "red cup"; "a red cup" -> "red cup"."""
    article, _, rest = expression.strip().partition(" ")
    return rest if article.casefold() in ("the", "a", "an") and rest.strip() else f"the {expression.strip()}"


def token_is_known(prompt: PromptConfig) -> bool:
    """Whether one token is asked, so that pairs with the same one can be told; not with the mean of several."""
    return prompt.query not in MEANS


def content_words(sample: Sample) -> frozenset[str]:
    """The words of its expression that name something."""
    return frozenset(words_of(sample)) - EMPTY_WORDS


def _token(sample: Sample, prompt: PromptConfig, tokens: Mapping[str, str]) -> str:
    """What stands for the token from which the attention is taken: "" for one that is the prompt's own.

    A word stands for its last token, which only the tokenizer knows; different words may still end alike.
    """
    if prompt.query in MEANS:
        return ""
    if token := tokens.get(sample.sample_id):
        return token
    if _ends_by_itself(prompt) and prompt.query not in (Query.expression_last, Query.expression_mean):
        return ""
    words = words_of(sample)
    return words[-1] if words else ""


def _ends_by_itself(prompt: PromptConfig) -> bool:
    """Whether the prompt's last token is the same for all expressions."""
    after = prompt.template.rpartition("{expression}")[2]
    return prompt.chat or prompt.full_stop or bool(after.strip())


def text_of(sample: Sample) -> str:
    return " ".join(sample.expression.casefold().split())


def words_of(sample: Sample) -> list[str]:
    return re.findall(r"\w+", sample.expression.casefold())
