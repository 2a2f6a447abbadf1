"""The pocket model's forward passes in training: words of a scene, and packed exchanges about it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, LlavaForConditionalGeneration

from locheads.pocket.language import SIDES, sides
from locheads.pocket.scenes import Scene, sample_scene
from locheads.pocket.training.batches import IDS, PATCHES, PREFIX, Batch, pixels_of

ATTENTION = "pocket_training"


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    exchanges: tuple[int, int] | None = None,
    image_sums: list[Tensor] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Float32 whatever autocast says: on a CPU twice as fast as bfloat16 at 16 numbers per head.

    `exchanges` (how many, tokens in each) says that the end of the sequence holds exchanges, all of one length.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = query.float(), key.float(), value.float()
        if exchanges:
            mixed = _packed(query, key, value, *exchanges, scaling, image_sums)
        else:
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    return mixed.transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attention)


def _packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchanges: int,
    length: int,
    scale: float | None,
    image_sums: list[Tensor] | None = None,
) -> Tensor:
    """Causal attention in which an exchange sees the prefix and itself; all are [b, heads, tokens, n].

    Scores between exchanges are never computed, which halves the work of a block mask over the whole sequence.
    """
    query = query * (scale or query.shape[-1] ** -0.5)
    prefix = query.shape[2] - exchanges * length
    before = [x[:, :, :prefix] for x in (query, key, value)]
    first = scaled_dot_product_attention(before[0], before[1], before[2], is_causal=True, scale=1.0)
    queries, keys, values = (x[:, :, prefix:].unflatten(2, (exchanges, length)) for x in (query, key, value))
    future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    own = (queries @ keys.transpose(-1, -2)).masked_fill_(future, -torch.inf)
    shared = (query[:, :, prefix:] @ key[:, :, :prefix].transpose(-1, -2)).unflatten(2, (exchanges, length))
    # One softmax over both parts, which are never joined: that would copy them, forth and back.
    top = torch.maximum(shared.detach().amax(4, keepdim=True), own.detach().amax(4, keepdim=True))
    shared, own = shared.sub_(top).exp_(), own.sub_(top).exp_()
    total = shared.sum(4, keepdim=True) + own.sum(4, keepdim=True)
    if image_sums is not None:
        image_sums.append((shared[..., len(PREFIX) :].sum(4) / total[..., 0]).flatten(2, 3))
    mixed = (shared.flatten(2, 3) @ value[:, :, :prefix]).unflatten(2, (exchanges, length)) + own @ values
    mixed = (mixed / total).flatten(2, 3)
    return torch.cat([first, mixed], dim=2)


def keep_patches(scenes: int, kept: int, generator: torch.Generator) -> Tensor:
    """Int64 [scenes, kept]: per scene the patches that stay, ascending."""
    order = torch.rand(scenes, PATCHES, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values


def image_features(model: LlavaForConditionalGeneration, pixels: Tensor, kept: Tensor) -> Tensor:
    """Float [b, k, hidden]: the projected image tokens at `kept`, int64 [b, k]."""
    features = model.model.get_image_features(pixels, return_dict=True).pooler_output
    every = torch.stack(list(features))
    return every.gather(1, kept[:, :, None].expand(-1, -1, every.shape[2]))


def answer_logits(
    model: LlavaForConditionalGeneration, batch: Batch, kept: Tensor, image_sums: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [n, vocabulary] and targets [n] at the n supervised positions, exchange by exchange.

    `kept` is int64 [b, k]: the image tokens that the decoder sees, at their original positions. Every layer adds its
    heads' attention sums to `image_sums`, float [b, heads, exchanges * tokens].

    Raises ValueError where the model has another attention function: it would mix the exchanges, silently.
    """
    if model.config.text_config._attn_implementation != ATTENTION:
        raise ValueError("call model.set_attn_implementation(ATTENTION) first")
    device, (count, exchanges, length) = batch.pixels.device, batch.tokens.shape
    embed = model.get_input_embeddings()
    system = embed(torch.tensor(PREFIX, device=device)).expand(count, -1, -1)
    image = image_features(model, batch.pixels, kept).to(system.dtype)
    text = torch.arange(length, device=device).repeat(exchanges) + len(PREFIX) + PATCHES
    positions = [torch.arange(len(PREFIX), device=device), text]
    before, after = (p.expand(count, -1) for p in positions)
    output = model.model.language_model(
        inputs_embeds=torch.cat([system, image, embed(batch.tokens.flatten(1))], dim=1),
        position_ids=torch.cat([before, kept + len(PREFIX), after], dim=1),
        attention_mask=None,
        use_cache=False,
        exchanges=(exchanges, length),
        image_sums=image_sums,
    ).last_hidden_state
    targets = batch.targets.flatten(1)
    supervised = targets != -100
    return model.lm_head(output[:, -exchanges * length :][supervised]), targets[supervised]


POOLED_TOKENS = 144  # image tokens that are averaged
SCALE = 4.0  # of the likeness between the average and a word vector


def words_of(scene: Scene) -> list[int]:
    """Ids of the words that describe the one object of a scene, with the sides of the image it clearly lies on."""
    item = scene.objects[0]
    words = [item.dots, item.texture, item.colour, item.shape, *(SIDES[i].split()[-1] for i in sides(scene, item))]
    return [IDS[word] for word in words]


def word_batch(seed: int, step: int, scenes: int, majority: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [b, 3, 192, 192] of scenes with one object, and the words as float [b, vocabulary], rows of sum 1."""
    seeds = np.random.default_rng([seed, step, 8]).integers(2**41, 2**42, size=scenes)
    drawn = [sample_scene(int(scene_seed), (1,)) for scene_seed in seeds]
    targets = torch.zeros(scenes, len(IDS))
    for row, scene in zip(targets, drawn, strict=True):
        row[words_of(scene)] = 1
    return pixels_of(drawn, majority), targets / targets.sum(1, keepdim=True)


def word_logits(model: LlavaForConditionalGeneration, pixels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Logits [b, vocabulary] of the mean over the image tokens `kept`, int64 [b, k]."""
    mean = image_features(model, pixels, kept).float().mean(1)
    return SCALE * mean @ model.get_input_embeddings().weight.T


def word_loss(model: LlavaForConditionalGeneration, seed: int, step: int, scenes: int, device: str) -> torch.Tensor:
    """Cross entropy with the words of each image."""
    pixels, targets = word_batch(seed, step, scenes, majority=0.8)
    kept = keep_patches(scenes, POOLED_TOKENS, torch.Generator().manual_seed(seed * 1_000_003 + step))
    with torch.autocast(device, torch.bfloat16):
        logits = word_logits(model, pixels.to(device), kept.to(device))
    return cross_entropy(logits, targets.to(device))
