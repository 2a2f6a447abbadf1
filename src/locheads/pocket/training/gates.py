"""A cost per head in use: a gate in [0, 1] on the query of every head. No ground truth takes part.

A head whose gate is 0 looks at everything alike, or, where the rest is held (`rest`), at the first token. The gates are
folded into the query's weights at export, so that the model stays a stock one.
"""

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import LlavaForConditionalGeneration

FIRST_LAYER = 1  # with gates, or with a rest: the heads of layer 0 fetch the words of the expression


class HeadGate(torch.nn.Module):
    """Scales the rows of a query's weights, head by head. `gates`: float [heads], of the parametrization."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gates = torch.nn.Parameter(torch.ones(heads))

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` [heads * width, hidden], each head's rows times its gate."""
        return (weight.unflatten(0, (len(self.gates), -1)) * self.gates[:, None, None]).flatten(0, 1)


def add_gates(model: LlavaForConditionalGeneration) -> list[torch.nn.Parameter]:
    """Puts gates of 1 on every head of the layers from `FIRST_LAYER`. -> per layer the gates, float [heads].

    Only the weights are gated: a bias of the query, by which a head rests, stays.
    """
    found = []
    for layer in model.model.language_model.layers[FIRST_LAYER:]:
        gate = HeadGate(model.config.text_config.num_attention_heads).to(layer.self_attn.q_proj.weight.device)
        parametrize.register_parametrization(layer.self_attn.q_proj, "weight", gate)
        found.append(gate.gates)
    return found


def clamp(gates: list[torch.nn.Parameter]) -> None:
    """Brings gates back into [0, 1] after a step."""
    with torch.no_grad():
        for gate in gates:
            gate.clamp_(0, 1)


def folded(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """A model without gates, its weights those that the gates made of them; the same model where it has none.

    A new one: a copy would share the classes that hold the gates, and lose them together with the model.
    """
    gated = {name: module for name, module in model.named_modules() if parametrize.is_parametrized(module)}
    if not gated:
        return model
    weights = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    plain = LlavaForConditionalGeneration(deepcopy(model.config))
    plain.load_state_dict(weights | {f"{name}.weight": module.weight.detach() for name, module in gated.items()})
    return plain
