"""What the attention pass finds is stored in the background: in order, within bounds, and whatever ends the pass."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.errors import StoreError
from locheads.geometry import Preprocess, square_geometry
from locheads.models.engine import EngineConfig
from locheads.pipeline import store_writer
from locheads.pipeline.store_writer import Storable, StoreWriter
from locheads.store.attention_store import AttentionStore
from locheads.store.store_files import Part
from locheads.types import Attention, Failure


class Store(AttentionStore):
    """Remembers the images of each file; one of these raises instead."""

    full: str | None = None

    def __init__(self, cache: Path) -> None:
        super().__init__(cache, {"model": "m"})
        self.files: list[list[str]] = []
        self.threads: set[int] = set()

    def append(self, parts: list[Part]) -> None:
        names = [part.image_id for part in parts]
        self.threads.add(threading.get_ident())
        if self.full in names:
            raise StoreError(f"no space for {names}")
        super().append(parts)
        self.files += [names] if names else []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def found(name: str) -> Callable[[], Storable]:
    def work() -> Storable:
        maps = np.ones((1, 1, 1, 2, 2), np.float32)
        attention = Attention(
            name, (f"{name}/0",), maps, maps.sum((-2, -1)), square_geometry(9, 9, 9, 2, Preprocess.pad)
        )
        return Storable(Part.of(attention), [Failure(f"{name}/1", name, "because")])

    return work


def put(store: Store, *work: Callable[[], Storable], images: int = 2, then: BaseException | None = None) -> None:
    """All of it, and then the end or this error."""
    with StoreWriter(store, EngineConfig(shard_images=images)) as writer:
        for one in work:
            writer.put(one)
        if then is not None:
            raise then


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_files_hold_the_images_in_their_order_whoever_is_ready_first(store: Store, workers: int) -> None:
    slow = threading.Event()

    def first() -> Storable:
        if workers > 1:  # the others are ready before it
            assert slow.wait(60)
        return found("a")()

    def last() -> Storable:
        slow.set()
        return found("e")()

    with StoreWriter(store, EngineConfig(workers=workers, shard_images=2)) as writer:
        for work in (first, *map(found, "bcd"), last):
            writer.put(work)
    assert store.files == [["a", "b"], ["c", "d"], ["e"]]
    assert [failure.sample_id for failure in writer.failures] == ["a/1", "b/1", "c/1", "d/1", "e/1"]
    assert len(store.threads) == 1 and threading.get_ident() not in store.threads


def test_a_file_ends_where_it_would_grow_too_large(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "FILE_BYTES", 2 * found("a")().part.nbytes)
    with StoreWriter(store, EngineConfig(shard_images=1000)) as writer:
        for name in "abcde":
            writer.put(found(name))
    assert store.files == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("of the model")])
def test_whatever_ends_the_pass_what_was_put_is_stored(store: Store, error: BaseException) -> None:
    with pytest.raises(type(error)):
        put(store, *map(found, "abc"), then=error)
    assert store.files == [["a", "b"], ["c"]]


def test_no_more_waits_than_the_bound_and_an_image_without_maps_is_only_counted(store: Store) -> None:
    engine, gate, begun = EngineConfig(workers=1, shard_images=100), threading.Event(), []

    def gated() -> Storable:
        begun.append(len(begun))
        assert gate.wait(60)
        return Storable(None, [])

    def put_all(writer: StoreWriter) -> None:
        for _ in range(20):
            writer.put(gated)
            done.append(None)

    done: list[None] = []
    with StoreWriter(store, engine) as writer:
        driver = threading.Thread(target=put_all, args=(writer,))
        driver.start()
        driver.join(1.0)  # enough for it to run into the bound; without one it would have put all by then
        waiting = len(done)
        gate.set()
        driver.join(60)
    assert waiting <= store_writer.AHEAD_PER_WORKER + 1 and len(done) == 20
    assert store.files == []


def test_a_disk_that_is_full_ends_the_pass_with_its_sentence_and_keeps_the_rest(store: Store) -> None:
    store.full = "c"
    with pytest.raises(StoreError, match=r"no space for \['c', 'd'\]"):
        put(store, *map(found, "abcdef"))
    assert ["a", "b"] in store.files and not any("c" in names for names in store.files)


def test_an_error_of_the_work_is_raised(store: Store) -> None:
    def fails() -> Storable:
        raise ValueError("a number of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        put(store, found("a"), fails, images=1)
    assert store.files == [["a"]]
