"""The rows that the attention pass takes against transformers' own eager attention, and its short cuts against none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from locheads.errors import ModelError
from locheads.models import capture
from locheads.models.adapters import PreparedInput, Sharing, attending_layers
from locheads.models.attend import NO_MEMORY, NOT_FINITE, attend_prepared, run_batch
from locheads.models.batching import Budget, collate, single
from locheads.models.config import DType, PromptConfig
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import noise
from locheads.types import HeadIndex

Maps = Float[np.ndarray, "expression *head row col"]

LIMITS = {DType.float32: (2e-5, 2e-4), DType.float16: (1e-2, 0.1), DType.bfloat16: (3e-2, 0.1)}
"""How much of the attention to the image may lie elsewhere: (of all heads together, of one head's whole attention).

Measured on a CPU, on the pocket model and tiny ones of all families: at most (6e-7, 2e-6), (1.4e-3, 4e-3) and (1.5e-2,
5e-2).
Logits that are a tenth too large move (3e-2 to 7e-2, ...), another query token (0.4 to 1.5, ...).
"""
EXPRESSIONS = ("the red circle", "the blue square on the left", "star")
ALONE, TOGETHER = Budget(1, 1), Budget(10**9)
READ = "do not use these maps: report the model, its folder and this table."


def check_attention(lvlm: Lvlm, prompt: PromptConfig) -> list[Finding]:
    """Rows against eager attention, then what saves work against one expression at a time through all layers.

    Raises:
        DataError, ConfigError, ModelError: the model cannot be asked in this prompt, or has no eager attention.
    """
    image, other = (lvlm.adapter.prepare(noise(320, 240, seed), EXPRESSIONS, prompt) for seed in (0, 1))
    alone = _maps(lvlm, [only(image, i) for i in range(len(EXPRESSIONS))])
    return [
        _compare(lvlm, "rows = eager attention", alone[:2], _stacked(eager_maps(lvlm, only(image, i)) for i in (0, 1))),
        _check_packed(lvlm, image, alone),
        _check_early_exit(lvlm, image, alone),
        _compare(lvlm, "several images = one", _maps(lvlm, [other, image], TOGETHER)[len(EXPRESSIONS) :], alone),
    ]


def _check_packed(lvlm: Lvlm, image: PreparedInput, alone: Maps) -> Finding:
    name = "one pass per image = one per expression"
    if lvlm.adapter.sharing == Sharing.plain:
        return Finding(name, Outcome.not_applicable, "this family is asked one expression at a time")
    return _compare(lvlm, name, _maps(lvlm, [image]), alone)


def _check_early_exit(lvlm: Lvlm, image: PreparedInput, alone: Maps) -> Finding:
    half = alone[:, : alone.shape[1] // 2 + 1].sum(axis=(0, -2, -1))
    # Those of most attention to the image: in a layer with a window there may be none.
    heads = [HeadIndex(int(i) // half.shape[1], int(i) % half.shape[1]) for i in half.ravel().argsort()[-2:]]
    whole = alone[:, [head.layer for head in heads], [head.head for head in heads]]
    name = f"exit after layer {max(head.layer for head in heads)} = all layers"
    return _compare(lvlm, name, _maps(lvlm, [image], heads=heads), whole)


def _compare(lvlm: Lvlm, name: str, found: Maps, expected: Maps) -> Finding:
    if not np.isfinite(found).all():
        return Finding(name, Outcome.failed, "the attention is not finite", NOT_FINITE)
    dtype = DType(str(lvlm.model.dtype).removeprefix("torch."))
    moved, worst = elsewhere(found, expected)
    text = f"{moved:.1e} of the attention to the image lies elsewhere, {worst:.1e} of a head's at most"
    if moved <= LIMITS[dtype][0] and worst <= LIMITS[dtype][1]:
        return Finding(name, Outcome.passed, f"{text} ({dtype.value})")
    return Finding(
        name, Outcome.failed, f"{text}; {LIMITS[dtype][0]:g} and {LIMITS[dtype][1]:g} would do ({dtype.value})", READ
    )


def elsewhere(found: Maps, expected: Maps) -> tuple[float, float]:
    """-> (share of all the attention to the image that lies in other cells, largest such share of a head's row)."""
    moved = np.abs(found - expected).sum(axis=(-2, -1)) / 2
    return float(moved.sum() / max(expected.sum(), np.finfo(expected.dtype).tiny)), float(moved.max())


def _maps(
    lvlm: Lvlm, images: Sequence[PreparedInput], budget: Budget = ALONE, heads: Sequence[HeadIndex] | None = None
) -> Maps:
    """Of all expressions of all images. Raises ModelError where one does not fit into the memory."""
    found = [rows for image in attend_prepared(lvlm, images, budget, heads) for rows in image]
    if any(rows is None for rows in found):
        raise ModelError(NO_MEMORY)
    return _stacked(rows.maps() for rows in found if rows is not None)


def _stacked(maps: Any) -> Maps:
    return np.stack(list(maps))


def only(image: PreparedInput, i: int) -> PreparedInput:
    """With its i-th expression alone."""
    return replace(image, suffixes=image.suffixes[i : i + 1], spans=image.spans[i : i + 1])


@torch.inference_mode()
def eager_maps(lvlm: Lvlm, prepared: PreparedInput, before: int = 0) -> Float[np.ndarray, "layer head row col"]:
    """The maps of the only expression, by transformers' eager attention over all tokens.

    `before`: of the tokens so many before the query tokens, which no maps may equal.

    Raises:
        ModelError: the decoder has no eager attention whose weights can be had.
    """
    start = len(prepared.prefix) - before
    first, end = prepared.spans[0]
    queries = torch.arange(start + first, start + end)
    with (
        capture.attending(lvlm.model, "eager"),
        _weights(lvlm.model.get_decoder(), queries, prepared.image_tokens) as found,
    ):
        run_batch(lvlm, collate(single(prepared), shared=False))
    text = lvlm.model.config.get_text_config(decoder=True)
    attending = attending_layers(text)
    if len(found) != len(attending):
        raise ModelError(
            f"Of the {len(attending)} layers of the decoder {len(found)} show their attention weights with eager "
            "attention: nothing can be compared."
        )
    maps = np.zeros((text.num_hidden_layers, *found[0].shape), dtype=found[0].dtype)
    maps[attending] = found
    return maps.reshape(*maps.shape[:2], prepared.geometry.rows, prepared.geometry.cols)


@contextmanager
def _weights(decoder: nn.Module, queries: Tensor, keys: Tensor) -> Iterator[list[np.ndarray]]:
    """While open, collects [head, key] of every layer, the mean over the queries; the whole weights are let go."""
    found: list[np.ndarray] = []

    def take(_: nn.Module, __: Any, output: Any) -> Any:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if not isinstance(weights, Tensor) or weights.dim() != 4:
            return output
        found.append(weights[0][:, queries.to(weights.device)].float().mean(dim=1).cpu().numpy()[:, keys])
        return (output[0], None, *output[2:])

    hooks = [module.register_forward_hook(take) for module in decoder.modules() if hasattr(module, "layer_idx")]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
