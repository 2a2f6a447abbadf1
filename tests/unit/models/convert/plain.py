"""The original architectures as plain PyTorch on named tensors, written from their papers and descriptions.

Nothing here uses transformers: it is what the converted models are compared with. Weights are given under the names of
the original checkpoints; shapes are [token, width], one image and one prompt at a time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[token, width] -> [head, token, width / heads]"""
    return x.reshape(len(x), heads, -1).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """[head, token, dim] -> ([token, head * dim], weights [head, query, key])"""
    logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -math.inf)
    weights = logits.softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(q.shape[1], -1), weights


def rotated(x: Tensor, theta: float) -> Tensor:
    """Rotary positions: dimension i is paired with i + half."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)


@dataclass
class Decoded:
    """The text decoder's result."""

    hidden: Tensor
    """[token, width], after the final norm."""
    attention: list[Tensor] = field(default_factory=list)
    """Per layer [head, query, key]."""


def llama(x: Tensor, w: Weights, size: SimpleNamespace, prefix: str = "model.") -> Decoded:
    """Vicuna, LLaMA, Yi: pre-norm blocks, rotary positions, grouped queries, a gated feed-forward layer."""
    found = Decoded(x)
    for i in range(size.layers):
        at = f"{prefix}layers.{i}."
        y = rms_norm(x, w[at + "input_layernorm.weight"], size.eps)
        q = rotated(heads_of(linear(y, w, at + "self_attn.q_proj"), size.heads), size.theta)
        k = rotated(heads_of(linear(y, w, at + "self_attn.k_proj"), size.kv_heads), size.theta)
        v = heads_of(linear(y, w, at + "self_attn.v_proj"), size.kv_heads)
        k, v = (t.repeat_interleave(size.heads // size.kv_heads, dim=0) for t in (k, v))
        mixed, weights = attend(q, k, v, causal=True)
        found.attention.append(weights)
        x = x + linear(mixed, w, at + "self_attn.o_proj")
        y = rms_norm(x, w[at + "post_attention_layernorm.weight"], size.eps)
        gate = F.silu(linear(y, w, at + "mlp.gate_proj"))
        x = x + linear(gate * linear(y, w, at + "mlp.up_proj"), w, at + "mlp.down_proj")
    found.hidden = rms_norm(x, w[prefix + "norm.weight"], size.eps)
    return found


def patches(pixels: Tensor, w: Weights, name: str, side: int) -> Tensor:
    """[3, height, width] -> [patch, width], row by row: a linear map of each patch's pixels."""
    cut = pixels.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
    x = cut.reshape(cut.shape[0] * cut.shape[1], -1) @ w[f"{name}.weight"].flatten(1).T
    return x + w[f"{name}.bias"] if f"{name}.bias" in w else x


def clip(pixels: Tensor, w: Weights, size: SimpleNamespace, prefix: str = "vision_model.") -> list[Tensor]:
    """CLIP's vision transformer -> hidden states [1 + patch, width], before the first layer and after each."""
    x = patches(pixels, w, prefix + "embeddings.patch_embedding", size.patch)
    x = torch.cat([w[prefix + "embeddings.class_embedding"][None], x])
    x = x + w[prefix + "embeddings.position_embedding.weight"]
    x = layer_norm(x, w, prefix + "pre_layrnorm", 1e-5)
    states = [x]
    for i in range(size.layers):
        at = f"{prefix}encoder.layers.{i}."
        y = layer_norm(x, w, at + "layer_norm1", 1e-5)
        q, k, v = (heads_of(linear(y, w, at + f"self_attn.{n}_proj"), size.heads) for n in "qkv")
        x = x + linear(attend(q, k, v, causal=False)[0], w, at + "self_attn.out_proj")
        y = size.act(linear(layer_norm(x, w, at + "layer_norm2", 1e-5), w, at + "mlp.fc1"))
        x = x + linear(y, w, at + "mlp.fc2")
        states.append(x)
    return states


def intern_vit(pixels: Tensor, w: Weights, size: SimpleNamespace, prefix: str = "") -> list[Tensor]:
    """InternViT -> hidden states [1 + patch, width]; its norm is RMS, its scales are learnt.

    Positions were learnt for one grid and are interpolated to the image's.
    """
    x = patches(pixels, w, prefix + "embeddings.patch_embedding", size.patch)
    x = torch.cat([w[prefix + "embeddings.class_embedding"][0], x])
    positions = w[prefix + "embeddings.position_embedding"]
    old, new = math.isqrt(positions.shape[1] - 1), math.isqrt(len(x) - 1)
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    x = x + torch.cat([positions[0, :1], grid[0].flatten(1).T])
    states = [x]
    for i in range(size.layers):
        at = f"{prefix}encoder.layers.{i}."
        q, k, v = linear(rms_norm(x, w[at + "norm1.weight"], 1e-6), w, at + "attn.qkv").chunk(3, dim=-1)
        q, k = (rms_norm(t, w[at + f"attn.{n}_norm.weight"], 1e-6) for n, t in (("q", q), ("k", k)))
        mixed, _ = attend(*(heads_of(t, size.heads) for t in (q, k, v)), causal=False)
        x = x + linear(mixed, w, at + "attn.proj") * w[at + "ls1"]
        y = rms_norm(x, w[at + "norm2.weight"], 1e-6)
        y = linear(F.gelu(linear(y, w, at + "mlp.fc1")), w, at + "mlp.fc2")
        x = x + y * w[at + "ls2"]
        states.append(x)
    return states


def projector(x: Tensor, w: Weights, kind: str, name: str = "model.mm_projector") -> Tensor:
    """LLaVA's: one linear layer, or two with a GELU between, or these with a layer norm after each (Yi-VL)."""
    if kind == "linear":
        return linear(x, w, name)
    if kind == "mlp2x_gelu":
        return linear(F.gelu(linear(x, w, f"{name}.0")), w, f"{name}.2")
    x = layer_norm(linear(x, w, f"{name}.0"), w, f"{name}.1", 1e-5)
    return layer_norm(linear(F.gelu(x), w, f"{name}.3"), w, f"{name}.4", 1e-5)


def normal(shape: tuple[int, ...], generator: torch.Generator, scale: float, centre: float = 0.0) -> Tensor:
    return centre + scale * torch.randn(shape, generator=generator)


def spread(x: Any) -> SimpleNamespace:
    return SimpleNamespace(**x)


def gemma(x: Tensor, w: Weights, size: SimpleNamespace, act: Any) -> Decoded:
    """Gemma: as LLaMA, but what comes in is scaled, norms multiply by 1 + weight, and the gate has a GELU."""
    made = {key: 1 + value if key.endswith("norm.weight") else value for key, value in w.items()}
    x = x * x.shape[-1] ** 0.5
    found = Decoded(x)
    for i in range(size.layers):
        at = f"model.layers.{i}."
        y = rms_norm(x, made[at + "input_layernorm.weight"], size.eps)
        q = rotated(heads_of(linear(y, made, at + "self_attn.q_proj"), size.heads), size.theta)
        k = rotated(heads_of(linear(y, made, at + "self_attn.k_proj"), size.kv_heads), size.theta)
        v = heads_of(linear(y, made, at + "self_attn.v_proj"), size.kv_heads)
        k, v = (t.repeat_interleave(size.heads // size.kv_heads, dim=0) for t in (k, v))
        mixed, weights = attend(q, k, v, causal=True)
        found.attention.append(weights)
        x = x + linear(mixed, made, at + "self_attn.o_proj")
        y = rms_norm(x, made[at + "post_attention_layernorm.weight"], size.eps)
        gated = act(linear(y, made, at + "mlp.gate_proj")) * linear(y, made, at + "mlp.up_proj")
        x = x + linear(gated, made, at + "mlp.down_proj")
    found.hidden = rms_norm(x, made["model.norm.weight"], size.eps)
    return found


def convnext(pixels: Tensor, w: Weights, depths: tuple[int, ...], prefix: str = "visual.trunk.") -> list[Tensor]:
    """ConvNeXt -> the features of its stages, [channel, row, col]: each half as large as the one before."""

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x.permute(1, 2, 0), w, name, 1e-6).permute(2, 0, 1)

    def conv(x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x[None], w[f"{name}.weight"], w[f"{name}.bias"], **how)[0]

    x, found = norm(conv(pixels, prefix + "stem.0", stride=4), prefix + "stem.1"), []
    for i, depth in enumerate(depths):
        at = f"{prefix}stages.{i}."
        if i > 0:
            x = conv(norm(x, at + "downsample.0"), at + "downsample.1", stride=2)
        for j in range(depth):
            block = f"{at}blocks.{j}."
            y = conv(x, block + "conv_dw", padding=3, groups=len(x)).permute(1, 2, 0)
            y = F.gelu(linear(layer_norm(y, w, block + "norm", 1e-6), w, block + "mlp.fc1"))
            y = linear(y, w, block + "mlp.fc2") * w[block + "gamma"]
            x = x + y.permute(2, 0, 1)
        found.append(x)
    return found


def mined(tokens: Tensor, details: Tensor, w: Weights) -> Tensor:
    """Patch info mining, token by token: tokens [cell, width], details [channel, row, col] -> [cell, width]."""
    grid = math.isqrt(len(tokens))
    side = details.shape[-1] // grid
    found = []
    for cell, token in enumerate(tokens):
        y, x = cell // grid * side, cell % grid * side
        inside = details[:, y : y + side, x : x + side].flatten(1).T

        def mapped(one: Tensor, name: str) -> Tensor:
            return linear(
                layer_norm(one, w, f"model.vlm_uni_{name}_projector.0", 1e-5), w, f"model.vlm_uni_{name}_projector.1"
            )

        keys = mapped(inside, "aux")
        weights = (keys @ mapped(token, "query") / math.sqrt(keys.shape[-1])).softmax(0)
        found.append(weights @ mapped(inside, "val"))
    return torch.stack(found)
