"""Rows taken from a real Llava equal what transformers returns with `output_attentions=True`."""

import pytest
import tiny_llava
import torch
from transformers import LlavaForConditionalGeneration as Llava

from locheads.models import capture
from locheads.models.capture import NAME, recording

PIXELS = torch.randn(1, 3, tiny_llava.SIDE, tiny_llava.SIDE, generator=torch.Generator().manual_seed(2))
CELLS = torch.arange(3, 3 + tiny_llava.CELLS)


def tokens(seed: int = 0, length: int = 7) -> torch.Tensor:
    """Three words, the image, some words."""
    words = torch.randint(5, tiny_llava.VOCABULARY, (3 + length,), generator=torch.Generator().manual_seed(seed))
    image = torch.full((tiny_llava.CELLS,), tiny_llava.IMAGE_TOKEN)
    return torch.cat([words[:3], image, words[3:]])[None]


@torch.inference_mode()
def eager_attention(model: Llava, ids: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
    """-> [layer, batch, head, query, key]."""
    twin = tiny_llava.twin(model, "eager")
    pixels = PIXELS.expand(len(ids), -1, -1, -1)
    return torch.stack(twin(input_ids=ids, pixel_values=pixels, output_attentions=True, **options).attentions)


@torch.inference_mode()
def captured(model: Llava, ids: torch.Tensor, queries: list[int], **options: torch.Tensor) -> torch.Tensor:
    with recording(torch.tensor(queries), CELLS) as recorder:
        model.base_model(input_ids=ids, pixel_values=PIXELS.expand(len(ids), -1, -1, -1), **options)
    return torch.stack(recorder.rows)


def test_rows_equal_eager_attention_and_not_those_of_the_query_before(model: Llava) -> None:
    ids = tokens()
    last = ids.shape[1] - 1
    expected = eager_attention(model, ids)
    found = captured(model, ids, [last])[:, :, :, 0]
    assert found.shape == (tiny_llava.LAYERS, 1, tiny_llava.HEADS, tiny_llava.CELLS)
    torch.testing.assert_close(found, expected[..., last, CELLS], rtol=0, atol=2e-5)
    assert (found - expected[..., last - 1, CELLS]).abs().max() > 0.05
    # Every layer and head is itself: shifted by one, they differ clearly.
    assert (found.roll(1, dims=0) - expected[..., last, CELLS]).abs().max() > 0.05
    assert (found.roll(1, dims=2) - expected[..., last, CELLS]).abs().max() > 0.05


def test_several_queries_come_in_the_order_asked_for(model: Llava) -> None:
    ids = tokens()
    expected = eager_attention(model, ids)
    found = captured(model, ids, [25, 21, 24])
    torch.testing.assert_close(found, expected[..., [25, 21, 24], :][..., CELLS], rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_are_masked(model: Llava, side: str) -> None:
    ids = torch.cat([tokens(0), tokens(1)])
    mask = torch.ones_like(ids)
    mask[1, slice(2) if side == "left" else slice(-3, None)] = 0
    query = 25 if side == "left" else 22
    expected = eager_attention(model, ids, attention_mask=mask)[..., query, CELLS]
    found = captured(model, ids, [query], attention_mask=mask)[:, :, :, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    unmasked = captured(model, ids, [query])[:, :, :, 0]
    difference = (unmasked - found).abs().amax(dim=(0, 2, 3))
    assert difference[0] < 2e-5
    assert (difference[1] > 0.01) == (side == "left")  # what stands after the query is invisible anyway


@torch.inference_mode()
def test_the_output_is_that_of_sdpa_whether_or_not_rows_are_recorded(model: Llava) -> None:
    ids = tokens()
    stock = tiny_llava.twin(model, "sdpa").base_model(input_ids=ids, pixel_values=PIXELS).last_hidden_state
    quiet = model.base_model(input_ids=ids, pixel_values=PIXELS).last_hidden_state
    with recording(torch.tensor([25]), CELLS) as recorder:
        recorded = model.base_model(input_ids=ids, pixel_values=PIXELS).last_hidden_state
    assert len(recorder.rows) == tiny_llava.LAYERS
    torch.testing.assert_close(quiet, stock, rtol=0, atol=0)
    torch.testing.assert_close(recorded, stock, rtol=0, atol=0)


def test_nothing_is_recorded_after_the_recorder_closed_not_even_by_an_error(model: Llava) -> None:
    with pytest.raises(KeyError), recording(torch.tensor([25]), CELLS) as recorder:  # noqa: PT012
        with torch.inference_mode():
            model.base_model(input_ids=tokens(), pixel_values=PIXELS)
        raise KeyError
    before = len(recorder.rows)
    with torch.inference_mode():
        model.base_model(input_ids=tokens(), pixel_values=PIXELS)
    assert (before, len(recorder.rows)) == (tiny_llava.LAYERS, tiny_llava.LAYERS)


def test_only_the_text_decoder_gets_the_recording_function(model: Llava) -> None:
    assert model.config.text_config._attn_implementation == NAME
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert "sdpa" not in NAME


@torch.inference_mode()
def test_only_the_wanted_heads_of_the_wanted_layers_are_recorded(model: Llava) -> None:
    full = captured(model, tokens(), [25, 24])
    with recording(torch.tensor([25, 24]), CELLS, heads={0: [3, 1], 2: [0]}) as recorder:
        output = model.base_model(input_ids=tokens(), pixel_values=PIXELS)
    assert output.last_hidden_state.shape[1] == tokens().shape[1]  # without a depth it runs to its end
    assert [tuple(rows.shape) for rows in recorder.rows] == [(1, 2, 2, 16), (1, 1, 2, 16)]
    torch.testing.assert_close(recorder.rows[0], full[0][:, [3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(recorder.rows[1], full[2][:, [0]], rtol=0, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_pass_ends_at_its_depth_with_rows_that_are_exact_to_the_bit(model: Llava, depth: int) -> None:
    full = captured(model, tokens(), [25])
    reached = False
    with recording(torch.tensor([25]), CELLS, depth=depth) as recorder:
        model.base_model(input_ids=tokens(), pixel_values=PIXELS)
        reached = True
    assert not reached
    torch.testing.assert_close(torch.stack(recorder.rows), full[:depth], rtol=0, atol=0)
    # Nothing of the exit stays behind.
    torch.testing.assert_close(captured(model, tokens(), [25]), full, rtol=0, atol=0)


class Module(torch.nn.Module):
    """What an attention function is told about its layer."""

    num_key_value_groups = 2


@pytest.mark.parametrize("options", [{"sliding_window": 4}, {"softcap": 1.5}, {"softcap": 1.5, "is_causal": False}, {}])
def test_output_and_rows_agree_without_a_mask(options: dict) -> None:
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(2, 4, 9, 8, generator=generator) * 2
    key, value = (torch.randn(2, 2, 9, 8, generator=generator) * 2 for _ in range(2))
    with recording(torch.arange(9), torch.arange(9)) as recorder:
        output, _ = capture.attention(Module(), query, key, value, None, scaling=0.5, **options)
    (rows,) = recorder.rows
    # Rows of all queries times the values are the output, whatever the options: both or neither are right.
    expected = rows @ value.repeat_interleave(2, dim=1)
    torch.testing.assert_close(output, expected.transpose(1, 2), rtol=0, atol=1e-5)
    index = torch.arange(9)
    distance = index[:, None] - index[None, :]
    hidden = (distance < 0) & torch.tensor(options.get("is_causal", True))
    hidden |= distance >= options.get("sliding_window", 9)
    assert rows[..., hidden].abs().sum() == 0
    assert (rows[..., ~hidden] > 0).all()
