"""The prompt with the model's own answer behind it, asked at the rows that predict what is wanted of the answer: the
attention pass takes these as it does any other."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from locheads.errors import ModelError
from locheads.models.adapters import PreparedInput
from locheads.models.answer import answer_prepared, check_makes_words
from locheads.models.answer_tokens import no_box_format, wanted_tokens
from locheads.models.attend import NO_MEMORY
from locheads.models.batching import Budget
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm
from locheads.types import Answer


def behind_answers(lvlm: Lvlm, image: PreparedInput, prompt: PromptConfig, budget: Budget) -> PreparedInput:
    """The prompts with the model's answers, asked at the rows of `prompt.query`.

    Raises:
        DataError: an answer has no such rows.
        ModelError: the model cannot write, or the memory does not suffice.
        ConfigError: the query needs to know how boxes are written.
    """
    check_makes_words(lvlm)
    answers = [one for one in answer_prepared(lvlm, image, prompt.max_new_tokens, budget) if one is not None]
    if len(answers) < len(image.suffixes):
        raise ModelError(NO_MEMORY)
    token = lvlm.adapter.image_token_id
    wanted = [wanted_tokens(answer, prompt.query, token, no_box_format) for answer in answers]
    return with_answers(image, answers, wanted, lvlm.adapter.answer_type)


def with_answers(
    image: PreparedInput, answers: Sequence[Answer], wanted: Sequence[tuple[int, ...]], answer_type: int = 0
) -> PreparedInput:
    """Each prompt with its answer up to what predicts the last wanted token, asked at the rows that predict them.

    Args:
        image: with prompts whose answers these are.
        answers: one per prompt.
        wanted: of each, see `wanted_tokens`.
        answer_type: see `FamilyAdapter`.
    """
    heard = [torch.tensor(answer.ids[: max(own)]).long() for answer, own in zip(answers, wanted, strict=True)]
    ends = [len(suffix) - 1 for suffix in image.suffixes]
    types = [
        torch.cat([torch.zeros_like(suffix), torch.full_like(own, answer_type)])
        for suffix, own in zip(image.suffixes, heard, strict=True)
    ]
    return replace(
        image,
        suffixes=tuple(torch.cat([suffix, own]) for suffix, own in zip(image.suffixes, heard, strict=True)),
        spans=tuple((end + min(own), end + max(own) + 1) for end, own in zip(ends, wanted, strict=True)),
        picked=tuple(tuple(token - min(own) for token in own) for own in wanted),
        suffix_types=tuple(types),
    )
