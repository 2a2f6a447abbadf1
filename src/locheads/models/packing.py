"""All expressions of a picture in one sequence: [prefix with the image | suffix 1 | suffix 2 | ...].

With the image before the text and a causal decoder, nothing before the expression depends on it, so the LVLM
reads the picture once. Exact: a block mask keeps the suffixes apart, and their positions start again after the
prefix, so every suffix sees what it would see alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """One sequence of T tokens that holds Q expressions."""

    input_ids: Int[Tensor, "1 token"]
    position_ids: Int[Tensor, "1 token"]
    mask: Bool[Tensor, "1 1 token token"]
    """True where a token may attend."""
    queries: Int[Tensor, "query"]
    """Position of the last token of each suffix."""


def pack(prefix: Int[Tensor, "prefix"], suffixes: Sequence[Int[Tensor, "suffix"]]) -> Packed:
    """Packs one prefix and its suffixes. Every suffix needs at least one token: its last is the query."""
    lengths = torch.tensor([len(suffix) for suffix in suffixes])
    start = len(prefix)
    # Segment 0 is the prefix, segment i the i-th suffix.
    segment = torch.repeat_interleave(torch.arange(len(suffixes) + 1), torch.cat([torch.tensor([start]), lengths]))
    positions = torch.cat([torch.arange(start), *(torch.arange(start, start + n) for n in lengths.tolist())])
    index = torch.arange(len(segment))
    visible = (segment[None, :] == 0) | (segment[:, None] == segment[None, :])
    mask = (index[:, None] >= index[None, :]) & visible
    return Packed(
        torch.cat([prefix, *suffixes])[None], positions[None], mask[None, None], start + lengths.cumsum(0) - 1
    )
