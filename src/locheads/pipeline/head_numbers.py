"""The numbers of all heads by several criteria: those of the run's own came with the maps, the others are worked out
once and kept in the store."""

from collections.abc import Sequence

import numpy as np

from locheads.discovery.config import CriterionConfig
from locheads.discovery.criteria import numbers_of
from locheads.discovery.scores import score_each, stack_scores
from locheads.map_numbers import NUMBERS
from locheads.store.attention_store import AttentionStore
from locheads.store.key import code_digest
from locheads.types import HeadScores, ImageGroup

ALIKE = frozenset(number.name for number in NUMBERS if not number.options)
"""Numbers that are the same by every criterion."""


def head_numbers(
    store: AttentionStore, groups: list[ImageGroup], criteria: Sequence[CriterionConfig]
) -> list[HeadScores]:
    """Of the groups' samples that have attention, by each criterion.

    Args:
        store: with the maps of all heads.
        groups: some images; what is kept is found again for the very same ones.
        criteria: the first is the one whose numbers the store may hold beside the maps.
    """
    key = criteria[0].numbers_key()
    read = list(store.read(groups, key, heads=()))
    own = [stack_scores([one.scores for one in read if one.scores])] if all(one.scores for one in read) else []
    new = criteria[len(own) :]
    if not new:
        return own

    def work_out() -> dict[str, np.ndarray]:
        found = [score_each(attention, new) for attention in store.read(groups, key)]
        stacked = [stack_scores(same) for same in zip(*found, strict=True)]
        return {_name(i, name): found for i, scores in enumerate(stacked) for name, found in scores.numbers.items()}

    depends_on = [[criterion.numbers_key() for criterion in new], code_digest(score_each.__module__)]
    kept = store.kept("numbers", groups, depends_on, work_out)
    ids = tuple(sample_id for attention in read for sample_id in attention.sample_ids)
    names = ([number.name for number in numbers_of(criterion.score)] for criterion in new)
    return own + [HeadScores(ids, {n: kept[_name(i, n)] for n in own_names}) for i, own_names in enumerate(names)]


def _name(criterion: int, number: str) -> str:
    return number if number in ALIKE else f"{criterion} {number}"
