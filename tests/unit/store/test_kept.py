"""What was worked out once is read again, but only while nothing that it depends on has changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.errors import StoreError
from locheads.store import kept as module
from locheads.store.attention_store import AttentionStore
from locheads.store.kept import kept
from locheads.types import Attention, ImageGroup

Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


class Counted:
    """Makes arrays that tell how often they were made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return {"iou": np.full((2, 3), self.times, np.float64), "heads": np.arange(self.times)[::-1]}


@pytest.fixture
def make() -> Counted:
    return Counted()


def test_it_is_made_once_and_comes_back_as_it_was(tmp_path: Path, make: Counted) -> None:
    first, second = (kept(tmp_path, "n", ["a", 1], make) for _ in range(2))
    assert make.times == 1
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)
        assert second[name].dtype == array.dtype
    assert kept(tmp_path, "n", ["a", 2], make)["iou"][0, 0] == 2
    assert kept(tmp_path, "m", ["a", 1], make)["iou"][0, 0] == 3
    assert kept(tmp_path, "n", ["a", 1], make)["iou"][0, 0] == 1


@pytest.mark.parametrize("place", [0, 60, -3])
def test_one_that_is_damaged_is_made_again_with_a_warning(
    tmp_path: Path, make: Counted, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    kept(tmp_path, "n", [], make)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert kept(tmp_path, "n", [], make)["iou"][0, 0] == 2
    assert f"{file} is damaged" in caplog.text and "made again" in caplog.text
    caplog.clear()
    assert kept(tmp_path, "n", [], make)["iou"][0, 0] == 2 and not caplog.records


def test_one_that_is_not_enough_is_replaced(tmp_path: Path, make: Counted) -> None:
    kept(tmp_path, "n", [], make)
    assert len(kept(tmp_path, "n", [], make, lambda found: len(found["heads"]) >= 2)["heads"]) == 2
    assert len(kept(tmp_path, "n", [], make, lambda found: len(found["heads"]) >= 2)["heads"]) == 2
    assert make.times == 2 and len(list(tmp_path.iterdir())) == 1


def test_where_nothing_can_be_written_it_is_only_made(
    tmp_path: Path, make: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("Cannot write.")

    monkeypatch.setattr(module, "write_bytes", full)
    assert [kept(tmp_path, "n", [], make)["iou"][0, 0] for _ in range(2)] == [1, 2]


def test_in_a_store_it_depends_on_where_the_samples_lie(
    tmp_path: Path, make: Counted, attention: Make, group: Group
) -> None:
    store = AttentionStore(tmp_path, {"model": "m"})
    store.write([attention("a"), attention("b")])
    groups = [group("a"), group("b")]

    def again(some: list[ImageGroup], depends_on: str = "") -> float:
        reopened = AttentionStore(tmp_path, {"model": "m"})
        return reopened.kept("n", some, depends_on, make)["iou"][0, 0]

    assert [again(groups), again(groups)] == [1, 1]
    assert again(groups[:1]) == 2 and again(groups[::-1]) == 3 and again(groups, "another truth") == 4
    assert again(groups) == 1
    (shard,) = store.folder.glob("*.safetensors")
    store.set_aside(shard, "damaged")
    store.write([attention("b"), attention("a")])
    assert again(groups) == 5  # the same maps, for all that anybody knows, but read from elsewhere


def test_in_a_store_of_other_versions_nothing_is_kept(
    tmp_path: Path, make: Counted, attention: Make, group: Group
) -> None:
    AttentionStore(tmp_path, {"model": "m"}, {"torch": "1"}).write([attention("a")])
    taken = AttentionStore(tmp_path, {"model": "m"}, {"torch": "2"}, take=True)
    assert taken.is_of_other_versions
    assert [taken.kept("n", [group("a")], "", make)["iou"][0, 0] for _ in range(2)] == [1, 2]
    assert not list(tmp_path.rglob("*.kept"))
