"""The softmax row of a query, on random numbers, against a loop that knows nothing of batches or groups."""

import math

import pytest
import torch

from locheads.models.capture import Recorder, query_rows

TOKENS, DIM, SCALING = 9, 5, 0.7


def tensors(kv_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(kv_heads)
    query = torch.randn(2, 4, TOKENS, DIM, generator=generator) * 2
    return query, torch.randn(2, kv_heads, TOKENS, DIM, generator=generator) * 2


def rows_by_loops(
    query: torch.Tensor,
    key: torch.Tensor,
    visible: torch.Tensor,
    queries: list[int],
    keys: list[int],
    softcap: float | None = None,
) -> torch.Tensor:
    """`visible` is True where a query [batch, query, key] may look."""
    batch, heads = query.shape[:2]
    group = heads // key.shape[1]
    rows = torch.zeros(batch, heads, len(queries), len(keys))
    for b in range(batch):
        for h in range(heads):
            for i, q in enumerate(queries):
                weights = torch.zeros(TOKENS, dtype=torch.float64)
                for k in range(TOKENS):
                    if visible[b, q, k]:
                        product = sum(float(query[b, h, q, d] * key[b, h // group, k, d]) for d in range(DIM))
                        logit = product * SCALING
                        if softcap is not None:
                            logit = math.tanh(logit / softcap) * softcap
                        weights[k] = math.exp(logit)
                rows[b, h, i] = (weights / weights.sum())[keys]
    return rows


def causal() -> torch.Tensor:
    return torch.ones(TOKENS, TOKENS).tril().bool().expand(2, TOKENS, TOKENS)


def padded() -> torch.Tensor:
    """Causal, and the second sample does not see its first two tokens."""
    visible = causal().clone()
    visible[1, :, :2] = False
    return visible


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("queries", [[8], [3, 8, 5]], ids=str)
def test_without_a_mask_the_rows_are_causal(kv_heads: int, queries: list[int]) -> None:
    query, key = tensors(kv_heads)
    recorder = Recorder(torch.tensor(queries), torch.tensor([1, 2, 4]))
    found = query_rows(query, key, None, SCALING, recorder)
    torch.testing.assert_close(found, rows_by_loops(query, key, causal(), queries, [1, 2, 4]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["bool", "float", "half"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_bool_and_float_masks_hide_the_same_keys(kind: str, kv_heads: int) -> None:
    query, key = tensors(kv_heads)
    visible = padded()[:, None]
    mask = visible
    if kind != "bool":
        dtype = torch.float32 if kind == "float" else torch.bfloat16
        mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    keys = [0, 1, 2, 3, 6]
    found = query_rows(query, key, mask, SCALING, Recorder(torch.tensor([6, 8]), torch.tensor(keys)))
    torch.testing.assert_close(found, rows_by_loops(query, key, padded(), [6, 8], keys), rtol=0, atol=1e-6)
    assert found[1, :, :, :2].max() == 0.0


def test_the_softmax_runs_over_all_keys_and_not_only_the_chosen_ones() -> None:
    query, key = tensors(4)
    some = query_rows(query, key, None, SCALING, Recorder(torch.tensor([8]), torch.tensor([0, 5])))
    everything = query_rows(query, key, None, SCALING, Recorder(torch.tensor([8]), torch.arange(TOKENS)))
    torch.testing.assert_close(everything.sum(-1), torch.ones(2, 4, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(some, everything[..., [0, 5]], rtol=0, atol=0)
    assert some.sum(-1).max() < 0.999


def test_half_precision_inputs_give_float32_softmax_rows() -> None:
    query, key = (tensor.bfloat16() for tensor in tensors(2))
    recorder = Recorder(torch.tensor([8]), torch.arange(TOKENS))
    found = query_rows(query, key, None, SCALING, recorder)
    assert found.dtype == torch.float32
    expected = rows_by_loops(query.float(), key.float(), causal(), [8], list(range(TOKENS)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_longer_mask_than_there_are_keys_is_cut() -> None:
    query, key = tensors(2)
    recorder = Recorder(torch.tensor([8]), torch.arange(TOKENS))
    wide = torch.cat([padded(), torch.ones(2, TOKENS, 4, dtype=torch.bool)], dim=-1)[:, None]
    torch.testing.assert_close(
        query_rows(query, key, wide, SCALING, recorder),
        query_rows(query, key, padded()[:, None], SCALING, recorder),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("kv_heads", [4, 1])
def test_a_softcap_squeezes_the_logits_before_the_mask(kv_heads: int) -> None:
    query, key = tensors(kv_heads)
    recorder = Recorder(torch.tensor([6, 8]), torch.arange(TOKENS))
    mask = padded()[:, None]
    found = query_rows(query, key, mask, SCALING, recorder, softcap=1.5)
    expected = rows_by_loops(query, key, padded(), [6, 8], list(range(TOKENS)), softcap=1.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (query_rows(query, key, mask, SCALING, recorder) - found).abs().max() > 0.1


def test_without_a_mask_a_decoder_that_is_not_causal_sees_everything() -> None:
    query, key = tensors(2)
    recorder = Recorder(torch.tensor([3]), torch.arange(TOKENS))
    found = query_rows(query, key, None, SCALING, recorder, causal=False)
    everything = torch.ones(2, TOKENS, TOKENS, dtype=torch.bool)
    torch.testing.assert_close(
        found, rows_by_loops(query, key, everything, [3], list(range(TOKENS))), rtol=0, atol=1e-6
    )
    assert found[..., 4:].max() > 0.01


@pytest.mark.parametrize("masked", [False, True])
def test_every_row_of_a_batch_may_have_queries_and_keys_of_its_own(masked: bool) -> None:
    query, key = tensors(2)
    queries, keys = torch.tensor([[8, 4], [5, 5]]), torch.tensor([[0, 3, 2], [1, 4, 4]])
    mask = padded()[:, None] if masked else None
    found = query_rows(query, key, mask, SCALING, Recorder(queries, keys))
    for row in range(2):
        alone = Recorder(queries[row], keys[row])
        expected = query_rows(query, key, mask, SCALING, alone)[row]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 0.05
