"""Steered heads: an independent eager computation, what must not change, and every family against its own forward."""

from collections.abc import Iterator
from typing import Any

import pytest
import tiny_llava
import torch
from families import FAMILY_BUILDERS
from PIL import Image
from test_families import PLAIN, adapter, family, noise, sequence
from torch import Tensor
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import eager_attention_forward

from locheads.errors import ModelError
from locheads.models import capture, steering
from locheads.models.adapters import PreparedInput, Sharing
from locheads.models.load import Lvlm
from locheads.models.steering import NOTHING, Steering, answer_beginnings, repeated
from locheads.types import HeadIndex

HEAD, OTHER = HeadIndex(1, 2), HeadIndex(2, 0)


@pytest.fixture(params=[4, 2, 1], ids=["all kv heads", "2 kv heads", "1 kv head"])
def lvlm(request: pytest.FixtureRequest) -> Lvlm:
    """Random heads say next to nothing: these are made loud."""
    model = tiny_llava.build(request.param)
    with torch.no_grad():
        for layer in model.base_model.language_model.layers:
            layer.self_attn.v_proj.weight.mul_(16)
            layer.self_attn.o_proj.weight.mul_(16)
    return tiny_llava.lvlm(model)


@pytest.fixture
def prepared(lvlm: Lvlm, image: Image.Image) -> PreparedInput:
    return lvlm.adapter.prepare(image, ["the red circle", "blue"], PLAIN)


def towards(prepared: PreparedInput, cells: list[int], size: float = 5.0) -> Tensor:
    bias = torch.zeros(len(prepared.prefix))
    bias[prepared.image_tokens[cells]] = size
    return bias


@torch.inference_mode()
def by_eager(lvlm: Lvlm, inputs: dict[str, Tensor], row: int, steerings: list[Steering]) -> tuple[Tensor, Tensor]:
    """The whole [layer, head, query, key] logits with the bias in them, through transformers' own eager attention.
    -> (log probabilities of the next token, weights of the query token [layer, head, key])."""
    layer, weights = 0, []

    def biased(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
        nonlocal layer
        size = query.shape[2]
        whole = torch.full((size, size), -torch.inf).triu(1).repeat(1, query.shape[1], 1, 1)
        for each in steerings:
            for head in each.heads:
                if head.layer == layer:
                    whole[0, head.head, row, : len(each.bias)] += each.bias
        output, found = eager_attention_forward(module, query, key, value, whole, **options)
        weights.append(found[0, :, row])
        layer += 1
        return output, found

    AttentionInterface.register("biased_eager", biased)
    with capture.attending(lvlm.model, "biased_eager"):
        logits = lvlm.model(**inputs, use_cache=False).logits[0, -1]
    return logits.log_softmax(-1), torch.stack(weights)


def test_steered_answers_equal_eager_attention_with_the_bias_in_its_logits(lvlm: Lvlm, prepared: PreparedInput) -> None:
    inputs = sequence(prepared, 0)
    row = inputs["input_ids"].shape[1] - 1
    plain, before = by_eager(lvlm, inputs, row, [])
    torch.testing.assert_close(answer_beginnings(lvlm, prepared, [NOTHING] * 2)[0], plain, rtol=0, atol=2e-5)
    for bias in (
        towards(prepared, [3, 4]),
        towards(prepared, list(range(12)), -20),
        towards(prepared, list(range(16)), -torch.inf),
    ):
        for heads in ((HEAD,), (HEAD, OTHER)):
            moved = Steering(heads, bias)
            expected, after = by_eager(lvlm, inputs, row, [moved])
            found = answer_beginnings(lvlm, repeated(prepared, 0, 2), [NOTHING, moved])
            torch.testing.assert_close(found, torch.stack([plain, expected]), rtol=0, atol=2e-5)
            assert (expected - plain).abs().max() > 1e-3  # so that the comparison can fail
            # In the first steered layer only the chosen head looks elsewhere, and there as it was told.
            assert [h for h in range(4) if not torch.equal(after[1, h], before[1, h])] == [HEAD.head]
            cells = prepared.image_tokens[(bias[prepared.image_tokens] != 0)]
            assert (after[1, 2, cells].sum() > before[1, 2, cells].sum()) == bool((bias > 0).any())


def test_a_bias_of_zero_and_no_heads_change_nothing(lvlm: Lvlm, prepared: PreparedInput) -> None:
    nothing = [NOTHING, Steering((HEAD, OTHER), torch.zeros(len(prepared.prefix))),
               Steering((), towards(prepared, [3]))]  # fmt: skip
    one, other, third = answer_beginnings(lvlm, repeated(prepared, 1, 3), nothing)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(one, third, rtol=0, atol=1e-5)
    assert (one - answer_beginnings(lvlm, prepared, [NOTHING] * 2)[0]).abs().max() > 1e-3


def test_an_expression_is_steered_by_its_own_alone(lvlm: Lvlm, prepared: PreparedInput) -> None:
    """Whatever is done to the others that are read in the same pass."""
    moved, hidden = Steering((HEAD,), towards(prepared, [3])), Steering((OTHER,), towards(prepared, [5], -torch.inf))
    together = answer_beginnings(lvlm, repeated(prepared, 0, 3), [moved, NOTHING, hidden])
    alone = [answer_beginnings(lvlm, repeated(prepared, 0, 1), [each])[0] for each in (moved, NOTHING, hidden)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=2e-5)


@pytest.fixture
def rows_of_values() -> Iterator[dict[str, Tensor]]:
    """Queries and keys with the unit matrix as values: what the function gives then are the weights."""
    generator = torch.Generator().manual_seed(4)
    query, key = (torch.randn(1, n, 6, 8, generator=generator) for n in (4, 2))
    yield {"query": query, "key": key, "value": torch.eye(6).expand(1, 2, 6, 6).contiguous()}
    steering._active.set(None)


@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"sliding_window": 3}, {"is_causal": False}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_the_weights_move_where_the_bias_says(rows_of_values: Any, options: dict[str, Any], masked: bool) -> None:
    module = torch.nn.Module()
    module.num_key_value_groups = 2
    bias = torch.tensor([[0.0, 4.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -9.0, 0.0, 2.0, 0.0]])
    heads = torch.tensor([[True, False, False, True], [False, True, False, False]])
    rows, window = torch.tensor([3, 5]), options.get("sliding_window", 6)
    seen = torch.ones(6, 6, dtype=torch.bool)
    if options.get("is_causal", True) or masked:
        seen = seen.tril() & seen.triu(1 - window)
    mask = seen[None, None] if masked else None
    steering._active.set(steering._Steered(rows, bias, {1: heads}))
    first, steered = (steering._attention(module, **rows_of_values, attention_mask=mask, scaling=0.7, **options)[0]
                      for _ in range(2))  # fmt: skip
    logits = rows_of_values["query"] @ rows_of_values["key"].repeat_interleave(2, 1).transpose(-1, -2) * 0.7
    logits = 3 * torch.tanh(logits / 3) if "softcap" in options else logits
    logits = logits.masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(first, logits.softmax(-1).transpose(1, 2))  # layer 0 is not steered
    for row, head in heads.nonzero().tolist():
        logits[0, head, rows[row]] += bias[row]
    torch.testing.assert_close(steered, logits.softmax(-1).transpose(1, 2))
    assert not torch.allclose(first, steered)


@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_every_family_answers_as_its_own_forward_and_can_be_steered(name: str) -> None:
    model, _ = family(name)
    ours = adapter(name)
    prepared = ours.prepare(noise((130, 70)), ["the red cup left of it", "circle"], PLAIN)
    with torch.inference_mode():
        model.set_attn_implementation("eager")
        logits = [model(**sequence(prepared, i), use_cache=False).logits[0, -1] for i in range(2)]
    expected = torch.stack(logits).float().log_softmax(-1)
    capture.install(model)
    lvlm = Lvlm(model, ours, torch.device("cpu"))
    torch.testing.assert_close(answer_beginnings(lvlm, prepared, [NOTHING] * 2), expected, rtol=0, atol=1e-4)
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    blind = Steering(tuple(HeadIndex(layers - 1, head) for head in range(2)), towards(prepared, [0], 30.0))
    found = answer_beginnings(lvlm, prepared, [NOTHING, blind])
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-4)
    assert (found[1] - expected[1]).abs().max() > 1e-4
    lvlm.adapter.sharing = Sharing.plain
    torch.testing.assert_close(answer_beginnings(lvlm, prepared, [NOTHING, blind]), found, rtol=0, atol=1e-4)


def test_a_model_whose_layers_attend_elsewhere_is_refused(
    lvlm: Lvlm, prepared: PreparedInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvlm.model.config.text_config, "num_hidden_layers", 4)
    with pytest.raises(ModelError, match="Of the 4 layers of the decoder 3 take their attention"):
        answer_beginnings(lvlm, prepared, [NOTHING] * 2)
