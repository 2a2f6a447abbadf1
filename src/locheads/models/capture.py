"""Takes the attention row of the query tokens out of any transformers decoder, without patching a model.

transformers looks attention functions up by name. Ours runs sdpa for the output and, while a recorder is
active, also computes the softmax of the few query rows: L x H x Q x N numbers instead of L x H x N x N.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

NAME = "locheads_rows"
"""Must not contain "sdpa": Gemma 2 looks for that string."""

ONE_PASS = RLock()
"""Held during a forward pass: two threads that run a model at once would meet in its hooks and replaced methods."""

Queries = Int[Tensor, "query"] | Int[Tensor, "batch query"]
Keys = Int[Tensor, "key"] | Int[Tensor, "batch key"]
"""Token positions, the same for the whole batch or its own for each row."""


@dataclass
class Recorder:
    """Rows of one forward pass, one entry per recorded decoder layer that attends, in order."""

    queries: Queries
    keys: Keys
    heads: Mapping[int, Sequence[int]] | None = None
    """Which heads of which layers are recorded; None: all of all."""
    depth: int | None = None
    """The forward pass ends with the rows of this many layers; None: it runs to its own end."""
    prefix: int | None = None
    """How many tokens at the start of every row see just those before them, whatever the mask says of the rest."""
    counts: Sequence[int] | None = None
    """How many queries each row of the batch has of its own, those before the ones that fill it up; None: all."""
    rows: list[Float[Tensor, "batch head query key"] | Float[Tensor, "query head key"]] = field(default_factory=list)
    """With `counts` those of all queries of the batch in order, and none for what fills rows up."""
    layers: list[int] = field(default_factory=list)
    """Of which of the decoder's layers each entry of `rows` is."""
    layer: int = -1
    """The one that runs now."""

    def wants(self) -> bool:
        """Whether the layer that runs now is recorded."""
        return self.heads is None or self.layer in self.heads

    def take(self, rows: Float[Tensor, "batch head query key"]) -> None:
        """Keeps the wanted heads of the layer that runs now."""
        wanted = rows if self.heads is None else rows[:, list(self.heads[self.layer])]
        if self.counts is not None:
            own = [row[:, :n].transpose(0, 1) for row, n in zip(wanted, self.counts, strict=True)]
            wanted = own[0] if len(own) == 1 else torch.cat(own)
        self.rows.append(wanted)
        self.layers.append(self.layer)


class _Done(Exception):
    """Everything is recorded: the rest of the forward pass would compute what nobody reads."""


def is_done(error: BaseException) -> bool:
    """Whether a forward pass was only left early, see `recording`."""
    return isinstance(error, _Done)


_active: ContextVar[Recorder | None] = ContextVar("locheads_recorder", default=None)


@contextmanager
def recording(
    queries: Queries,
    keys: Keys,
    heads: Mapping[int, Sequence[int]] | None = None,
    depth: int | None = None,
    prefix: int | None = None,
    counts: Sequence[int] | None = None,
) -> Iterator[Recorder]:
    """While open, the decoder's post-softmax weights from `queries` to `keys` (positions) are recorded.

    With `depth`, the forward pass that runs inside is left as soon as that many layers have attended, and what
    follows it inside the `with` does not run. `prefix` and `counts`: see `Recorder`; the former saves work and changes
    no result.
    """
    recorder = Recorder(queries, keys, heads, depth, prefix, counts)
    token = _active.set(recorder)
    try:
        yield recorder
    except _Done:
        pass
    finally:
        _active.reset(token)


def install(model: PreTrainedModel, rest: str = "sdpa") -> None:
    """Gives the text decoder of `model` the recording attention function, and `rest` to everything else."""
    AttentionInterface.register(NAME, attention)
    # Without the mask function, padded batches would silently get no mask at all.
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    _set(model, NAME, rest)


@contextmanager
def attending(model: PreTrainedModel, decoder: str) -> Iterator[None]:
    """While open, the text decoder of `model` runs the attention function of this name instead of ours."""
    rest = str(model.config._attn_implementation)
    _set(model, decoder, rest)
    try:
        yield
    finally:
        _set(model, NAME, rest)


def _set(model: PreTrainedModel, decoder: str, rest: str) -> None:
    text = model.config.get_text_config(decoder=True)
    parts = {key: decoder if getattr(model.config, key) is text else rest for key in model.config.sub_configs}
    model.set_attn_implementation({"": decoder if text is model.config else rest, **parts})


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    scaling = options.get("scaling") or query.shape[-1] ** -0.5
    softcap = options.pop("softcap", None)
    causal = is_causal(module, options)
    if attention_mask is None and softcap is not None:
        attention_mask = causal_mask(key.shape[2], causal, None, key.device)[:, :, -query.shape[2] :]
    window = options.get("sliding_window")
    if attention_mask is None and window is not None and key.shape[2] > window:
        # sdpa knows no window of its own: without a mask it would look beyond it.
        attention_mask = causal_mask(key.shape[2], causal, window, key.device)
    recorder = _active.get()
    if recorder is not None:
        recorder.layer = getattr(module, "layer_idx", recorder.layer + 1)
        _record(recorder, query, key, attention_mask, scaling, softcap, causal)
    if softcap is not None:
        return _softcapped(query, key, value, attention_mask, scaling, softcap), None
    if recorder is not None and recorder.prefix is not None and attention_mask is not None:
        return _in_two(module, query, key, value, attention_mask, recorder.prefix, **options), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _in_two(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, prefix: int, **options: Any
) -> Float[Tensor, "batch token head dim"]:
    """sdpa of the prefix and of what follows it apart. The kernels skip the future where it is all that is hidden;
    under a mask they work out every pair of tokens."""
    first, _ = sdpa_attention_forward(
        module, query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], None, **options | {"is_causal": True}
    )
    rest, _ = sdpa_attention_forward(module, query[:, :, prefix:], key, value, mask[:, :, prefix:], **options)
    return torch.cat([first, rest], dim=1)


def _record(recorder: Recorder, query: Tensor, key: Tensor, mask: Tensor | None, *how: Any) -> None:
    scaling, softcap, causal = how
    if recorder.wants():
        recorder.take(query_rows(query, key, mask, scaling, recorder, softcap, causal))
    if recorder.depth is not None and recorder.layer + 1 >= recorder.depth:
        raise _Done


def query_rows(
    query: Float[Tensor, "batch head token dim"],
    key: Float[Tensor, "batch kv_head token dim"],
    mask: Tensor | None,
    scaling: float,
    recorder: Recorder,
    softcap: float | None = None,
    causal: bool = True,
) -> Float[Tensor, "batch head query key"]:
    """softmax(q K^T * scaling + mask) in float32 over *all* keys, for the recorder's queries, at its keys.

    Grouped-query attention needs no copies of the keys: the query heads of a group become more rows.

    Args:
        query, key: as the attention function gets them, positions already rotated in.
        mask: bool (True: may attend) or additive, [batch or 1, head or 1, token, token or more]; None: causal, or
            everything where `causal` is False.
        scaling: of the logits, usually dim ** -0.5.
        recorder: whose queries and keys.
        softcap: logits are squeezed into (-softcap, softcap) by tanh before the mask (Gemma 2).
        causal: whether a missing mask hides the future, as sdpa takes it.
    """
    batch, heads, _, dim = query.shape
    queries, keys = recorder.queries.to(query.device), recorder.keys.to(query.device)
    picked = _pick(query, queries).float().reshape(batch, key.shape[1], -1, dim)
    logits = (picked @ key.float().transpose(-1, -2) * scaling).reshape(batch, heads, -1, key.shape[2])
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if mask is not None:
        row = _pick(mask.expand(batch, -1, -1, -1), queries)[..., : key.shape[2]]
        logits = logits.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else logits + row.float()
    elif causal:
        future = torch.arange(key.shape[2], device=key.device) > queries[..., None]
        logits = logits.masked_fill(future if future.ndim == 2 else future[:, None], -torch.inf)
    weights = logits.softmax(dim=-1)
    if keys.ndim == 1:
        return weights[..., keys]
    return weights.gather(-1, keys[:, None, None].expand(-1, heads, weights.shape[2], -1))


def _pick(tensor: Tensor, positions: Queries | Keys) -> Tensor:
    """[batch, head, token, x] -> [batch, head, position, x]."""
    if positions.ndim == 1:
        return tensor[:, :, positions]
    return tensor.gather(2, positions[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3]))


def is_causal(module: nn.Module, options: Mapping[str, Any]) -> bool:
    """As sdpa decides it where there is no mask."""
    is_causal = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)


def causal_mask(tokens: int, causal: bool, window: int | None, device: torch.device) -> Bool[Tensor, "1 1 token token"]:
    """True where a token may attend: to itself and before where causal, and less than `window` tokens away."""
    index = torch.arange(tokens, device=device)
    distance = index[:, None] - index[None, :]
    visible = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return (visible if window is None else visible & (distance.abs() < window))[None, None]


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Float[Tensor, "batch token head dim"]:
    """The output of attention whose logits are squeezed by tanh, which sdpa cannot; masks as in `query_rows`."""
    assert mask is not None
    batch, heads, tokens, dim = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, dim)
    logits = (grouped @ key.transpose(-1, -2) * scaling).reshape(batch, heads, tokens, -1)
    logits = torch.tanh(logits / softcap) * softcap
    row = mask[..., : key.shape[2]]
    logits = logits.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else logits + row
    weights = logits.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = weights.reshape(batch, key.shape[1], -1, key.shape[2]) @ value
    return mixed.reshape(batch, heads, tokens, -1).transpose(1, 2).contiguous()
