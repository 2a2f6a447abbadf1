"""Work ahead of the consumer: in order, bounded, and with its errors where they belong."""

import threading
import time
from collections.abc import Iterator

import pytest

from locheads.pipeline.image_preparation import AHEAD_PER_WORKER, ToolCopies, in_background


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_whatever_takes_longest(workers: int) -> None:
    def work(i: int) -> int:
        time.sleep(0.01 if i % 3 == 0 else 0)
        return i * i

    assert list(in_background(work, range(20), workers)) == [i * i for i in range(20)]


def test_no_more_wait_than_the_bound() -> None:
    started: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            started.append(i)
            yield i

    results = in_background(lambda i: i, items(), 2)
    assert next(results) == 0
    assert len(started) <= 2 * AHEAD_PER_WORKER + 1
    results.close()
    assert len(started) < 1000


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arises_at_its_place_and_the_threads_end(workers: int) -> None:
    def work(i: int) -> int:
        if i == 3:
            raise KeyError("broken")
        return i

    seen = []
    with pytest.raises(KeyError, match="broken"):
        _collect(work, workers, seen)
    assert seen == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("image")]


def _collect(work, workers: int, seen: list[int]) -> None:
    for result in in_background(work, range(9), workers):
        seen.append(result)


def test_threads_work_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=10)
    assert list(in_background(lambda i: barrier.wait() >= 0, range(4), 2)) == [True] * 4


def test_no_two_threads_hold_the_same_copy() -> None:
    copies = ToolCopies({"in use": 0}, 3)
    most = []

    def work(_: int) -> None:
        with copies.one() as tool:
            tool["in use"] += 1
            time.sleep(0.001)
            most.append(tool["in use"])
            tool["in use"] -= 1

    list(in_background(work, range(40), 3))
    assert most == [1] * 40


def test_a_single_worker_uses_the_tool_itself() -> None:
    tool = ["adapter"]
    with ToolCopies(tool, 0).one() as own:
        assert own is tool
    with ToolCopies(tool, 2).one() as own:
        assert own is not tool
        assert own == tool
