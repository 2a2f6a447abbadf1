"""What goes into one forward pass, and what happens when memory runs out."""

import logging
from dataclasses import replace

import pytest
import torch

from locheads.geometry import Preprocess, square_geometry
from locheads.models import batching
from locheads.models.adapters import PreparedInput
from locheads.models.batching import (
    TOKENS_OF_A_QUERY,
    Budget,
    Strip,
    chunks,
    gather,
    is_out_of_memory,
    single,
    size_of,
    tokens_of,
    whole,
    with_halving,
)


def make_image(prefix: int = 4, suffixes: tuple[int, ...] = (2, 3, 1), side: int = 8) -> PreparedInput:
    words = tuple(torch.zeros(n, dtype=torch.long) for n in suffixes)
    spans = tuple((n - 1, n) for n in suffixes)
    pixels = {"pixel_values": torch.zeros(1, 3, side, side)}
    geometry = square_geometry(8, 8, 8, 2, Preprocess.pad)
    return PreparedInput(torch.zeros(prefix, dtype=torch.long), words, spans, torch.arange(prefix), pixels, geometry)


def budget(tokens: int, queries: int) -> Budget:
    """Just enough for so many."""
    return Budget(tokens + TOKENS_OF_A_QUERY * queries, 1)


def test_the_default_budget_fills_a_gpu_and_takes_one_strip_at_a_time_on_a_cpu() -> None:
    assert Budget.of(None, torch.device("cpu")).tokens == 1
    assert Budget.of(None, torch.device("cuda")).tokens == 16_384
    assert Budget.of(300, torch.device("cpu")).tokens == 300


def test_chunks_stay_within_the_budget_padding_included() -> None:
    strips = single(make_image(suffixes=(2, 6, 1)))  # 6, 10 and 5 tokens
    assert tokens_of(strips) == 30
    assert [len(chunk) for chunk in chunks(strips, budget(30, 3))] == [3]
    assert [len(chunk) for chunk in chunks(strips, budget(29, 3))] == [2, 1]
    assert [len(chunk) for chunk in chunks(strips, budget(19, 2))] == [1, 1, 1]
    assert [strip for chunk in chunks(strips, budget(20, 2)) for strip in chunk] == strips


def test_a_pass_with_more_query_tokens_takes_more_of_the_budget() -> None:
    one = replace(make_image(), spans=((0, 2), (0, 3), (0, 1)))
    assert size_of(whole(one)) == budget(10, 6).tokens
    assert [len(chunk) for chunk in chunks(whole(one) * 2, budget(20, 12))] == [2]
    assert [len(chunk) for chunk in chunks(whole(one) * 2, budget(20, 11))] == [1, 1]


def test_strips_of_one_image_share_a_pass_more_readily_than_those_of_several() -> None:
    one, other = single(make_image(suffixes=(2, 6, 1))), single(make_image())
    assert [len(chunk) for chunk in chunks(one, Budget(1, budget(30, 3).tokens))] == [3]
    assert [len(chunk) for chunk in chunks([*one, *other], Budget(1, budget(30, 3).tokens))] == [3, 3]


def test_a_strip_longer_than_the_budget_still_goes_alone() -> None:
    assert [len(chunk) for chunk in chunks(single(make_image()), Budget(1, 1))] == [1, 1, 1]


def test_images_are_gathered_in_order_up_to_the_budget() -> None:
    items = [(name, make_image()) for name in "abcde"]  # strips of 10 tokens
    found = list(gather(iter(items), whole, budget(20, 6)))
    assert [[name for name, _ in batch] for batch in found] == [["a", "b"], ["c", "d"], ["e"]]


def test_images_whose_tensors_differ_in_size_do_not_share_a_pass() -> None:
    items = [("a", make_image()), ("b", make_image(side=16)), ("c", make_image(side=16))]
    found = list(gather(iter(items), whole, Budget(1000)))
    assert [[name for name, _ in batch] for batch in found] == [["a"], ["b", "c"]]


def test_gathering_takes_no_more_than_it_needs() -> None:
    """Memory: a batch is handed on before the images after the next are made."""
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i, make_image()

    batches = gather(items(), whole, budget(20, 6))
    next(batches)
    assert made == [0, 1, 2]


class Device:
    """Holds so many tokens, and answers with the expressions that it was asked."""

    def __init__(self, capacity: int, error: type[BaseException] = torch.OutOfMemoryError) -> None:
        self.capacity, self.error, self.calls = capacity, error, []

    def __call__(self, strips: list[Strip]) -> list[tuple[int, int]]:
        self.calls.append(tokens_of(strips))
        if tokens_of(strips) > self.capacity:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB")
        return [(id(strip.image), i) for strip in strips for i in strip.suffixes]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_halving_loses_nothing_keeps_the_order_and_is_logged(error, caplog: pytest.LogCaptureFixture) -> None:
    images = [make_image() for _ in range(5)]
    strips = [strip for one in images for strip in whole(one)]
    limit, device = Budget(1000), Device(20, error)
    with caplog.at_level(logging.WARNING):
        found = with_halving(device, strips, limit)
    assert found == [(id(one), i) for one in images for i in range(3)]
    assert device.calls[0] == 50
    assert max(device.calls[1:]) <= 30
    assert "Memory ran out on 15 expressions (50 tokens)" in caplog.text
    # What comes later is not tried at the old size again.
    assert max(limit.tokens, limit.one_image) <= budget(50, 15).tokens // 2


def test_an_image_that_does_not_fit_is_asked_expression_by_expression() -> None:
    (strip,) = whole(make_image(suffixes=(2, 5, 1)))
    found = with_halving(Device(8), [strip], Budget(1000))
    # The middle one has 9 tokens alone.
    assert found == [(id(strip.image), 0), None, (id(strip.image), 2)]


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        with_halving(_raise(RuntimeError("shapes cannot be multiplied")), whole(make_image()), Budget(1))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")
    )


def test_the_failed_pass_is_freed_before_the_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(batching, "free_memory", lambda: order.append("freed"))
    device = Device(20)
    with_halving(lambda strips: (order.append("pass"), device(strips))[1], single(make_image()), Budget(1000))
    assert order[:3] == ["pass", "freed", "pass"]


def _raise(error: Exception):
    def forward(_: list[Strip]) -> list:
        raise error

    return forward
