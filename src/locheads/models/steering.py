"""Makes chosen heads look elsewhere while the LVLM reads, and asks how its answer would begin then.

A steered head gets a bias on its logits, before the softmax, at the query tokens of one expression. Only that row of
that head is worked out anew, from the keys and values that the layer has anyway; whatever follows from it follows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from locheads.errors import ModelError, boundary
from locheads.models import capture
from locheads.models.adapters import PreparedInput
from locheads.models.attend import NO_MEMORY, logits_at, model_inputs, strips_of
from locheads.models.batching import Batch, Budget, Strip, collate, is_out_of_memory, with_halving
from locheads.models.identity import PARTS
from locheads.models.load import Lvlm
from locheads.types import HeadIndex

NAME = "locheads_steered"


@dataclass(frozen=True)
class Steering:
    """What is done to some heads at the query tokens of one expression."""

    heads: tuple[HeadIndex, ...]
    bias: Float[Tensor, "prefix"]
    """Added to their logits for the tokens of the prefix; -inf hides a token."""


NOTHING = Steering((), torch.empty(0))
"""The model as it is."""


def repeated(image: PreparedInput, i: int, times: int) -> PreparedInput:
    """The i-th of its expressions so many times, each to be steered in its own way."""
    return replace(image, suffixes=(image.suffixes[i],) * times, spans=(image.spans[i],) * times)


def answer_beginnings(
    lvlm: Lvlm, image: PreparedInput, steerings: Sequence[Steering]
) -> Float[Tensor, "expression word"]:
    """Log probabilities of the first token of the answer, in float32 on the CPU.

    Args:
        lvlm: with the weights that make words (see `check_makes_words`).
        image: with its expressions.
        steerings: of each expression.

    Raises:
        ModelError: the model cannot be steered, or the memory does not suffice.
    """
    budget, found = Budget.of(None, lvlm.device), []
    with _attending(lvlm):
        for strip in strips_of(lvlm, image):
            found += with_halving(partial(_forward, lvlm, steerings), [strip], budget)
    known = [row for row in found if row is not None]
    if len(known) < len(found):
        raise ModelError(NO_MEMORY)
    return torch.stack(known)


@contextmanager
def _attending(lvlm: Lvlm) -> Iterator[None]:
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    with capture.ONE_PASS, capture.attending(lvlm.model, NAME):
        yield


@torch.inference_mode()
def _forward(lvlm: Lvlm, steerings: Sequence[Steering], strips: Sequence[Strip]) -> list[Float[Tensor, "word"]]:
    (strip,) = strips  # one at a time, so that its rows are those of the whole pass
    batch = collate(strips, shared=len(strip.suffixes) > 1)
    text = lvlm.model.config.get_text_config(decoder=True)
    steered = _steered(batch, strip, steerings, text.num_attention_heads)
    token = _active.set(steered)
    try:
        with boundary("The model's forward pass failed", ModelError, PARTS, is_out_of_memory):
            logits = logits_at(lvlm, model_inputs(lvlm, batch), strip.ends())
    finally:
        _active.reset(token)
    if steered.layers_seen != text.num_hidden_layers:
        raise ModelError(
            f"Of the {text.num_hidden_layers} layers of the decoder {steered.layers_seen} take their attention from "
            "where heads can be steered: stage=steer is not for this model."
        )
    return list(logits.log_softmax(dim=-1).cpu())


@dataclass
class _Steered:
    """The rows of one forward pass that are steered."""

    rows: Int[Tensor, "row"]
    """Their query tokens."""
    bias: Float[Tensor, "row token"]
    heads: dict[int, Bool[Tensor, "row head"]]
    """By layer, which heads of which rows."""
    layers_seen: int = 0


_active: ContextVar[_Steered | None] = ContextVar("locheads_steered", default=None)


def _steered(batch: Batch, strip: Strip, steerings: Sequence[Steering], n_heads: int) -> _Steered:
    lengths = [end - first for first, end in (strip.image.spans[i] for i in strip.suffixes)]
    of_rows = [steerings[i] for i, n in zip(strip.suffixes, lengths, strict=True) for _ in range(n)]
    bias = torch.zeros(len(of_rows), batch.input_ids.shape[1])
    heads: dict[int, Tensor] = {}
    for row, steering in enumerate(of_rows):
        bias[row, : len(steering.bias)] = steering.bias
        for head in steering.heads:
            chosen = heads.setdefault(head.layer, torch.zeros(len(of_rows), n_heads, dtype=torch.bool))
            chosen[row, head.head] = True
    return _Steered(batch.queries[0], bias, heads)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """`capture.attention`, in whose output the rows of the steered heads are replaced."""
    output, _ = capture.attention(module, query, key, value, attention_mask, **options)
    steered = _active.get()
    if steered is None:
        return output, None
    layer, steered.layers_seen = steered.layers_seen, steered.layers_seen + 1
    if layer in steered.heads:
        rows, heads = steered.rows.to(query.device), steered.heads[layer].to(query.device)
        mask = _seen(module, query, key, attention_mask, options)[:, :, rows] + steered.bias.to(query)
        turned, _ = capture.attention(module, query[:, :, rows], key, value, mask, **options)
        output[:, rows] = torch.where(heads[..., None], turned, output[:, rows])
    return output, None


def _seen(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Float[Tensor, "batch head token key"]:
    """The mask as it is added to the logits."""
    if mask is None:
        causal = capture.is_causal(module, options)
        mask = capture.causal_mask(key.shape[2], causal, options.get("sliding_window"), key.device)
    mask = mask[..., : key.shape[2]]
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
