"""Damaged shards are set aside and computed again; a write that fails leaves nothing behind."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from locheads.errors import StoreError
from locheads.store import store_files as store_module
from locheads.store.attention_store import AttentionStore
from locheads.store.packed_maps import rounded
from locheads.store.store_files import DamagedShard
from locheads.types import Attention, HeadIndex, HeadScores, ImageGroup

KEY = {"model": "m"}
Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


@pytest.fixture
def shards(tmp_path: Path, attention: Make) -> list[Path]:
    """The safetensors files of a store with the images a and b, in this order."""
    store = AttentionStore(tmp_path, KEY)
    files: list[Path] = []
    for image_id in "ab":
        store.write([attention(image_id)])
        files += set(store.folder.glob("*.safetensors")) - set(files)
    return files


def flip_a_byte(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[-7] ^= 1
    shard.write_bytes(content)


def listing(shard: Path) -> Path:
    return shard.with_suffix(".shard.json")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped byte": flip_a_byte,
    "truncated": lambda shard: shard.write_bytes(shard.read_bytes()[:-20]),
    "empty": lambda shard: shard.write_bytes(b""),
    "arrays gone": lambda shard: shard.unlink(),
    "listing no JSON": lambda shard: listing(shard).write_text('{"sha256": "'),
    "listing empty": lambda shard: listing(shard).write_text(""),
    "listing a list": lambda shard: listing(shard).write_text("[]"),
    "listing binary": lambda shard: listing(shard).write_bytes(b"\xff\xfe\x00"),
    "listing of another file": lambda shard: listing(shard).write_text('{"sha256": "0", "images": []}'),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_shard_is_set_aside_and_the_others_stay(
    tmp_path: Path, shards: list[Path], group: Group, attention: Make, caplog, damage: str
) -> None:
    DAMAGES[damage](shards[0])
    groups = [group("a"), group("b")]
    store = AttentionStore(tmp_path, KEY)
    if damage == "flipped byte":  # seen by who reads it
        assert caplog.records == [] and store.missing(groups) == []
        with pytest.raises(DamagedShard, match=rf"Shard {shards[0]} is damaged \(the checksum of .* does not match\)"):
            list(store.read(groups))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(shards[0]) in warning
    assert "set aside" in warning
    assert [found.image_id for found in store.read(groups)] == ["b"]
    assert [left.image_id for left in store.missing(groups)] == ["a"]
    store.write([attention("a")])
    caplog.clear()
    again = AttentionStore(tmp_path, KEY)
    assert caplog.records == []
    assert again.missing(groups) == []
    np.testing.assert_array_equal(next(again.read([group("a")])).sums, attention("a").sums)


@pytest.mark.parametrize("what", ["maps", "peaks", "sums", "map_checksums", "mean", "numbers.spread", "head"])
def test_a_flipped_bit_of_any_array_is_seen_by_who_reads_it(
    tmp_path: Path, attention: Make, group: Group, what: str
) -> None:
    whole = attention("a")
    scores = HeadScores(whole.sample_ids, {"sums": whole.sums, "spread": whole.sums * 2})
    store = AttentionStore(tmp_path, KEY)
    store.write([replace(whole, mean=whole.mean_map(0)[None].repeat(2, 0), scores=scores, scored_by=("x",))])
    (shard,) = store.folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = 12 if what == "head" else len(content) - max(a["data_offsets"][1] for a in head.values())
    content[start + (0 if what == "head" else head[f"0.{what}"]["data_offsets"][0])] ^= 4
    shard.write_bytes(content)
    with pytest.raises(DamagedShard):
        list(AttentionStore(tmp_path, KEY).read([group("a")], ("x",)))
    assert list(tmp_path.rglob("*.damaged"))


def test_a_reader_of_some_heads_sees_their_damage_and_no_other(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([attention("a")])
    (shard,) = store.folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = len(content) - max(array["data_offsets"][1] for array in head.values()) + head["0.maps"]["data_offsets"][0]
    content[start + (1 * 3 + 2) * 40] ^= 4  # L1H2 of the first sample, of 20 cells in 16 bits
    shard.write_bytes(content)
    others = [HeadIndex(layer, i) for layer in range(2) for i in range(3) if (layer, i) != (1, 2)]
    (found,) = AttentionStore(tmp_path, KEY).read([group("a")], heads=others)
    assert found.heads == tuple(others)
    np.testing.assert_array_equal(found.chosen(0, others), rounded(attention("a").chosen(0, others)))
    with pytest.raises(DamagedShard):
        list(AttentionStore(tmp_path, KEY).read([group("a")], heads=[HeadIndex(1, 2)]))


def test_all_that_is_damaged_is_set_aside_at_once(
    tmp_path: Path, shards: list[Path], attention: Make, group: Group
) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([attention("c")])
    for shard in shards:
        flip_a_byte(shard)
    groups = [group("a"), group("b"), group("c")]
    store.set_damaged_aside(groups)
    assert [left.image_id for left in store.missing(groups)] == ["a", "b"]
    assert [found.image_id for found in store.read(groups)] == ["c"]


def test_intact_shards_give_no_warning(tmp_path: Path, shards: list[Path], group: Group, caplog) -> None:
    assert AttentionStore(tmp_path, KEY).missing([group("a"), group("b")]) == []
    assert caplog.records == []


def test_arrays_without_their_listing_do_not_exist(tmp_path: Path, shards: list[Path], group: Group) -> None:
    listing(shards[0]).unlink()
    store = AttentionStore(tmp_path, KEY)
    assert [left.image_id for left in store.missing([group("a"), group("b")])] == ["a"]


def fail_at(call: int, function: Callable) -> Callable:
    """The function, whose n-th call (from 1) finds the disk full."""
    calls = iter(range(1, 100))

    def wrapped(*arguments: object) -> object:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2], ids=["arrays", "listing"])
def test_a_full_disk_leaves_the_earlier_shards_and_nothing_of_this_one(
    tmp_path: Path, shards: list[Path], attention: Make, group: Group, monkeypatch, name: str, call: int
) -> None:
    store = AttentionStore(tmp_path, KEY)
    before = sorted(store.folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail_at(call, getattr(os, name)))
        with pytest.raises(StoreError, match="No space left on device"):
            store.write([attention("c")])
    assert sorted(store.folder.iterdir()) == before
    groups = [group("a"), group("b"), group("c")]
    for opened in (store, AttentionStore(tmp_path, KEY)):
        assert [found.image_id for found in opened.read(groups)] == ["a", "b"]
    store.write([attention("c")])
    assert AttentionStore(tmp_path, KEY).missing(groups) == []


def test_safetensors_own_word_for_a_full_disk_is_a_store_error(tmp_path: Path, attention: Make, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    store = AttentionStore(tmp_path, KEY)
    before = sorted(store.folder.iterdir())
    monkeypatch.setattr(store_module, "save_file", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write([attention("c")])
    assert sorted(store.folder.iterdir()) == before


WRITES_A_LARGE_SHARD = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from locheads.errors import StoreError
from locheads.geometry import Preprocess, square_geometry
from locheads.store.attention_store import AttentionStore
from locheads.types import Attention

store = AttentionStore(Path(sys.argv[1]), {"model": "m"})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
maps = np.ones((1, 4, 4, 40, 40), dtype=np.float32)
geometry = square_geometry(9, 9, 9, 9, Preprocess.pad)
try:
    store.write([Attention("a", ("a/0",), maps, maps.sum(axis=(-2, -1)), geometry)])
except StoreError as error:
    print("StoreError:", error)
print(sorted(path.name for path in store.folder.iterdir()))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
def test_a_file_that_the_system_refuses_to_grow_is_a_store_error(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WRITES_A_LARGE_SHARD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    error, files = result.stdout.splitlines()
    assert error.startswith("StoreError: Cannot write ")
    assert "File too large" in error
    assert files == "['key.json']"


def test_a_file_where_the_cache_should_be_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write .*key\.json"):
        AttentionStore(tmp_path / "cache", KEY)


class Slow(FileIO):
    """Gives seven bytes at most, as a network's file system may."""

    def read(self, size: int = -1) -> bytes:
        return super().read(min(size, 7))


@pytest.mark.usefixtures("shards")
def test_a_file_that_comes_in_pieces_is_not_taken_for_a_damaged_one(
    tmp_path: Path, group: Group, attention: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FileIO", Slow)
    (found,) = AttentionStore(tmp_path, KEY).read([group("a")])
    np.testing.assert_array_equal(found.maps, rounded(attention("a").maps))
