"""Which of a batch's answers are right."""

import torch

from locheads.pocket.batches import Batch
from locheads.pocket.language import KINDS, QUESTION


def first_words(batch: Batch) -> torch.Tensor:
    """Bool [n]: which of the n supervised positions predict the first word of an answer."""
    supervised = batch.targets != -100
    before = torch.nn.functional.pad(supervised, (1, 0))[:, :-1]
    new_segment = batch.segments != torch.nn.functional.pad(batch.segments, (1, 0))[:, :-1]
    return (supervised & (~before | new_segment))[supervised]


def accuracies(right: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Share of right first words and other words, and per kind the share of answers without a mistake.

    `right` is bool [n], over the supervised positions row by row.
    """
    first = first_words(batch)
    number = first.cumsum(0) - 1
    kinds = [exchange.kind for row in batch.exchanges for exchange in row]
    whole = torch.ones(len(kinds), dtype=torch.int, device=right.device)
    whole = whole.scatter_reduce(0, number, right.int(), "amin").cpu().numpy()
    means = {
        kind: float(whole[[k == kind for k in kinds]].mean()) if kind in kinds else float("nan")
        for kind in (*KINDS, QUESTION)
    }
    return {
        "first_word": right[first].float().mean().item(),
        "other_words": right[~first].float().mean().item(),
    } | means
