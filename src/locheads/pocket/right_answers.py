"""Which of a batch's answers are right."""

import torch

from locheads.pocket.batches import Batch
from locheads.pocket.language import KINDS, QUESTION


def first_words(batch: Batch) -> torch.Tensor:
    """Bool [n]: which of the n supervised positions predict the first word of an answer."""
    supervised = batch.targets != -100
    before = torch.nn.functional.pad(supervised, (1, 0))[..., :-1]
    return (supervised & ~before)[supervised]


def whole_answers(right: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Bool, per exchange of the batch: no mistake in its answer. `right` is bool [n], per supervised position."""
    number = first_words(batch).cumsum(0) - 1
    start = torch.ones(batch.targets.shape[:2].numel(), dtype=torch.int, device=right.device)
    return start.scatter_reduce(0, number, right.int(), "amin").bool()


def accuracies(right: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Share of right first words and other words, and per kind that occurs the share of answers without a mistake.

    `right` is bool [n], over the supervised positions, exchange by exchange.
    """
    first = first_words(batch)
    whole = whole_answers(right, batch).cpu().numpy()
    kinds = [exchange.kind for row in batch.exchanges for exchange in row]
    means = {kind: float(whole[[k == kind for k in kinds]].mean()) for kind in (*KINDS, QUESTION) if kind in kinds}
    return {
        "first_word": right[first].float().mean().item(),
        "other_words": right[~first].float().mean().item(),
    } | means
