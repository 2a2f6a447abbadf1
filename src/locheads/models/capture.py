"""Takes the attention row of the query tokens out of any transformers decoder, without patching a model.

transformers looks attention functions up by name. Ours runs sdpa for the output and, while a recorder is
active, also computes the softmax of the few query rows: L x H x Q x N numbers instead of L x H x N x N.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

NAME = "locheads_rows"
"""Must not contain "sdpa": Gemma 2 looks for that string."""


@dataclass
class Recorder:
    """Rows of one forward pass, one entry per decoder layer in order."""

    queries: Int[Tensor, "query"]
    keys: Int[Tensor, "key"]
    rows: list[Float[Tensor, "batch head query key"]] = field(default_factory=list)


_active: ContextVar[Recorder | None] = ContextVar("locheads_recorder", default=None)


@contextmanager
def recording(queries: Int[Tensor, "query"], keys: Int[Tensor, "key"]) -> Iterator[Recorder]:
    """While open, every decoder layer's post-softmax weights from `queries` to `keys` (positions) are recorded."""
    recorder = Recorder(queries, keys)
    token = _active.set(recorder)
    try:
        yield recorder
    finally:
        _active.reset(token)


def install(model: PreTrainedModel) -> None:
    """Gives the text decoder of `model` the recording attention function, and sdpa to everything else."""
    AttentionInterface.register(NAME, _attention)
    # Without the mask function, padded batches would silently get no mask at all.
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    text = model.config.get_text_config(decoder=True)
    parts = {key: NAME if getattr(model.config, key) is text else "sdpa" for key in model.config.sub_configs}
    model.set_attn_implementation({"": "sdpa", **parts})


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    recorder = _active.get()
    if recorder is not None:
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        recorder.rows.append(query_rows(query, key, attention_mask, scaling, recorder))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def query_rows(
    query: Float[Tensor, "batch head token dim"],
    key: Float[Tensor, "batch kv_head token dim"],
    mask: Tensor | None,
    scaling: float,
    recorder: Recorder,
) -> Float[Tensor, "batch head query key"]:
    """softmax(q K^T * scaling + mask) in float32 over *all* keys, for the recorder's queries, at its keys.

    Grouped-query attention needs no copies of the keys: the query heads of a group become more rows.
    """
    batch, heads, _, dim = query.shape
    kv_heads = key.shape[1]
    picked = query[:, :, recorder.queries].float().reshape(batch, kv_heads, -1, dim)
    logits = (picked @ key.float().transpose(-1, -2) * scaling).reshape(batch, heads, -1, key.shape[2])
    if mask is None:
        future = torch.arange(key.shape[2], device=key.device) > recorder.queries[:, None]
        logits = logits.masked_fill(future, -torch.inf)
    else:
        row = mask[:, :, recorder.queries, : key.shape[2]]
        logits = logits.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else logits + row.float()
    return logits.softmax(dim=-1)[..., recorder.keys]
