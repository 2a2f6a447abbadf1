"""A rest on the first token that training cannot undo, in a stock Llama with attention bias. Put there by hand.

One dimension of the residual stream is kept free of everything but a large mark on BOS. In every layer from
`FIRST_LAYER` one number of each head's query, in the slowest pair of the rotary embedding, is a constant bias, and the
same number of the key reads the mark alone: so every query gives the first token the same bonus, and no other token.
A head looks elsewhere only by scores of its own above that bonus.

All of it is set again after every step, with all that would carry the mark elsewhere: what writes into that dimension,
and what values, the other numbers of the key, and the MLP would read of it.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from locheads.pocket.tokenizer import BOS
from locheads.pocket.training.batches import IDS
from locheads.pocket.training.gates import FIRST_LAYER

DIMENSION = -1  # of the residual stream, marks BOS
MARK = 300.0  # so large that the norm leaves next to nothing else of BOS, from which its key could be changed


def with_bias(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """The same model with biases of 0 in the attention of its decoder."""
    config = deepcopy(model.config)
    config.text_config.attention_bias = True
    biased = LlavaForConditionalGeneration(config)
    added = biased.load_state_dict(model.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for name in added:
            biased.get_parameter(name).zero_()
    return biased


@dataclass(frozen=True)
class Pin:
    """Part of a parameter that stays as it is."""

    parameter: torch.nn.Parameter
    at: Any
    """An index into it."""
    value: float = 0.0
    of_bonus: bool = False
    """Whether the value is multiplied by the bonus."""


class Rest:
    """The pins of one model. Made before gates are put on it."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        """Raises ValueError where the model's attention has no bias: see `with_bias`."""
        if not model.config.text_config.attention_bias:
            raise ValueError("a rest needs a model with attention bias: use with_bias(model)")
        self.pins = [*_mark(model), *_rests(model)]

    def hold(self, bonus: float) -> None:
        """Sets all pins; `bonus` is what is added to the score of the first token."""
        with torch.no_grad():
            for pin in self.pins:
                pin.parameter[pin.at] = pin.value * (bonus if pin.of_bonus else 1.0)

    def mask_gradients(self) -> None:
        """What is pinned takes no part in the step, nor in the norm of the gradient."""
        for pin in self.pins:
            if pin.parameter.grad is not None:
                pin.parameter.grad[pin.at] = 0


def _mark(model: LlavaForConditionalGeneration) -> list[Pin]:
    """The dimension holds the mark of BOS and nothing else; neither MLPs nor values read it."""
    embedding = model.get_input_embeddings().weight
    projected = model.model.multi_modal_projector.linear_2
    pins = [Pin(embedding, (slice(None), DIMENSION)), Pin(embedding, (IDS[BOS], DIMENSION), MARK)]
    pins += [Pin(projected.weight, DIMENSION), Pin(projected.bias, DIMENSION)]
    for layer in model.model.language_model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        pins += [Pin(writer.weight, DIMENSION) for writer in (attention.o_proj, mlp.down_proj)]
        readers = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj)
        pins += [Pin(reader.weight, (slice(None), DIMENSION)) for reader in readers]
        biased = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        pins += [Pin(each.bias, slice(None)) for each in biased]
    return pins


def _rests(model: LlavaForConditionalGeneration) -> list[Pin]:
    """The bias of the queries and the row of the keys. They come after `_mark`, which sets the same to 0."""
    text = model.config.text_config
    width = text.hidden_size // text.num_attention_heads
    rows = torch.arange(text.num_attention_heads) * width + width // 2 - 1  # the slowest pair turns by less than 1e-4
    # The norm gives a mark that outweighs all else the size sqrt(hidden); scores are divided by sqrt(width).
    bias = (width / text.hidden_size) ** 0.5
    pins = []
    for layer in model.model.language_model.layers[FIRST_LAYER:]:
        query, key = layer.self_attn.q_proj, layer.self_attn.k_proj
        pins += [Pin(query.weight, rows), Pin(query.bias, rows, bias, of_bonus=True)]
        pins += [Pin(key.weight, rows), Pin(key.weight, (rows, DIMENSION), 1.0)]
        pins += [Pin(layer.input_layernorm.weight, DIMENSION, 1.0)]
    return pins
