"""The training pass through the stock modules: image tokens dropped at random, exchanges apart by a block mask."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, LlavaForConditionalGeneration

from locheads.pocket.batches import PATCHES, PREFIX, Batch


def _float_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """sdpa in float32 whatever autocast says: on a CPU twice as fast as in bfloat16 at 16 numbers per head."""
    with torch.autocast(query.device.type, enabled=False):
        mixed = scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=attention_mask, scale=scaling
        )
    return mixed.transpose(1, 2).to(query.dtype), None


AttentionInterface.register("pocket_float32", _float_attention)


def keep_patches(scenes: int, kept: int, generator: torch.Generator) -> torch.Tensor:
    """Int64 [scenes, kept]: per scene the patches that stay, ascending."""
    order = torch.rand(scenes, PATCHES, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values


def answer_logits(
    model: LlavaForConditionalGeneration, batch: Batch, kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [n, vocabulary] and targets [n] at the n supervised positions, row by row.

    `kept` is int64 [b, k]: the image tokens that the decoder sees, at their original positions.
    """
    device = batch.pixels.device
    count, prefix = len(kept), len(PREFIX)
    inner = model.model
    features = inner.get_image_features(batch.pixels, return_dict=True).pooler_output
    image = torch.stack(list(features)).gather(1, kept[:, :, None].expand(-1, -1, inner.config.text_config.hidden_size))
    embed = model.get_input_embeddings()
    system = embed(torch.tensor(PREFIX, device=device)).expand(count, -1, -1)
    hidden = torch.cat([system, image.to(system.dtype), embed(batch.tokens)], dim=1)
    system_positions = torch.arange(prefix, device=device).expand(count, -1)
    positions = torch.cat([system_positions, kept + prefix, batch.positions], dim=1)
    output = inner.language_model(
        inputs_embeds=hidden, position_ids=positions, attention_mask=block_mask(batch.segments, prefix + kept.shape[1]),
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    supervised = batch.targets != -100
    return model.lm_head(output[:, prefix + kept.shape[1] :][supervised]), batch.targets[supervised]


def block_mask(segments: torch.Tensor, prefix: int) -> torch.Tensor:
    """Bool [b, 1, prefix + t, prefix + t], True = may be seen: causal, and only the prefix and one's own segment."""
    count, length = segments.shape
    full = torch.cat([segments.new_zeros(count, prefix), segments], dim=1)
    causal = torch.ones(prefix + length, prefix + length, dtype=torch.bool, device=segments.device).tril()
    own = (full[:, None, :] == full[:, :, None]) | (full[:, None, :] == 0)
    return (causal & own)[:, None]
