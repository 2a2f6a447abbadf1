"""A cost of looking at the image, so that a head without work rests on the text. It knows nothing of where objects are.

Without it nearly every head of so small a model looks at the image, and many localize (the first edition).
"""

import torch
from torch import Tensor

from locheads.discovery.config import CriterionConfig
from locheads.pocket.tokenizer import PAD
from locheads.pocket.training.batches import IDS, Batch

FIRST_LAYERS = CriterionConfig().skip_layers  # in which a head pays more, so that words are read there
TIMES = 10.0  # as much
FREE = 0.02  # attention sum that costs nothing in the other layers: a head that rests is not pressed any further


def mean_sums(image_sums: list[Tensor], batch: Batch) -> Tensor:
    """Float [layer, head]: the attention sums of `answer_logits`, mean over all words behind an image."""
    words = batch.tokens.flatten(1) != IDS[PAD]
    return torch.stack(image_sums).transpose(2, 3)[:, words].mean(1)


def cost(sums: Tensor) -> Tensor:
    """What all heads pay for their `mean_sums`, float [layer, head]."""
    return TIMES * sums[:FIRST_LAYERS].sum() + (sums[FIRST_LAYERS:] - FREE).clamp(min=0).sum()
