"""A cost of looking at the image, so that a head without work rests on the text. It knows nothing of where objects are.

Without it nearly every head of so small a model looks at the image, and many localize (the first edition).
"""

import torch
from torch import Tensor

from locheads.pocket.tokenizer import PAD
from locheads.pocket.training.batches import IDS, Batch

FIRST_LAYERS = 2  # in which a head pays more: those that the paper's criteria skip, too
TIMES = 4.0  # as much
FREE = 0.03  # attention sum that costs nothing: a head that rests is not pressed any further


def mean_sums(image_sums: list[Tensor], batch: Batch) -> Tensor:
    """Float [layer, head]: the attention sums of `answer_logits`, mean over all words behind an image."""
    words = batch.tokens.flatten(1) != IDS[PAD]
    return torch.stack(image_sums).transpose(2, 3)[:, words].mean(1)


def cost(sums: Tensor) -> Tensor:
    """Sum over all heads of what their `mean_sums`, float [layer, head], exceed `FREE` by."""
    each = (sums - FREE).clamp(min=0)
    return TIMES * each[:FIRST_LAYERS].sum() + each[FIRST_LAYERS:].sum()
