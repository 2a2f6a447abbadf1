"""Overlaps beside the numbers of a store: they come back as they were, are checked, and belong to samples that were
asked together."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from locheads.store.attention_store import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.needed_maps import NeededMaps
from locheads.store.store_files import LISTING, DamagedShard, Part
from locheads.types import Attention, ImageGroup, Overlaps

KEY = {"model": "m"}
MINE = "pairs and smoothing"
Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


def overlaps(samples: int, seed: int = 0, cells: int = 300) -> Overlaps:
    """Of all pairs of so many samples, two layers of three heads."""
    rng = np.random.default_rng(seed)
    pairs = samples * (samples - 1) // 2
    peaks = rng.integers(0, cells, (samples, 2, 3)).astype(np.min_scalar_type(cells - 1))
    return Overlaps(rng.random((pairs, 2, 3)).astype(np.float16), peaks, (4, 5))


def stored(whole: Attention, rows: Sequence[int] = (0, 1), key: str | None = MINE) -> Part:
    """No map, and overlaps where there is a key."""
    names, empty = tuple(whole.sample_ids[i] for i in rows), np.zeros((len(rows), 0, 4, 5), np.float32)
    some = replace(whole, sample_ids=names, maps=empty, sums=None, heads=())
    return Part.of(some, overlaps=overlaps(len(rows)) if key else None, overlaps_key=key)


def needed(group: ImageGroup, key: str = MINE) -> NeededMaps:
    return NeededMaps(frozenset(), overlaps={sample.sample_id: key for sample in group.samples})


def missing(store: AttentionStore, group: ImageGroup, key: str = MINE) -> list[str]:
    return [sample.sample_id for left in store.missing([group], needed(group, key)) for sample in left.samples]


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("cells", [16, 300, 70_000])
@pytest.mark.parametrize("samples", [1, 3])
def test_they_come_back_as_they_were(
    tmp_path: Path, attention: Make, group: Group, reopened: bool, samples: int, cells: int
) -> None:
    """Even without a pair, and whatever the size of a map."""
    store, found = AttentionStore(tmp_path, KEY), overlaps(samples, cells=cells)
    whole = attention("a", samples)
    store.append([Part.of(replace(whole, maps=whole.maps[:, 0, :0], sums=None, heads=()), None, found, MINE)])
    store = AttentionStore(tmp_path, KEY) if reopened else store
    ((names, read),) = store.read_overlaps(group("a", samples), MINE)
    assert names == whole.sample_ids and read.shape == (whole.geometry.rows, whole.geometry.cols)
    np.testing.assert_array_equal(read.overlap, found.overlap)
    np.testing.assert_array_equal(read.peaks, found.peaks)
    assert read.overlap.dtype == np.float16 and read.peaks.dtype == found.peaks.dtype
    assert list(store.read_overlaps(group("a", samples), "other smoothing")) == []


def test_other_settings_are_missing(tmp_path: Path, attention: Make, group: Group) -> None:
    store, image = AttentionStore(tmp_path, KEY), group("a", 2)
    assert missing(store, image) == ["a/0", "a/1"]
    store.append([stored(attention("a", 2), key=None)])
    assert missing(store, image) == ["a/0", "a/1"]
    store.append([stored(attention("a", 2))])
    assert missing(store, image) == []
    assert missing(store, image, "other smoothing") == ["a/0", "a/1"]
    assert store.lacking([image], needed(image, "other")) == needed(image, "other")
    assert needed(image).whole_model() and not NeededMaps(frozenset()).whole_model()


def test_samples_must_have_been_asked_together(tmp_path: Path, attention: Make, group: Group) -> None:
    store, whole, image = AttentionStore(tmp_path, KEY), attention("a", 3), group("a", 3)
    store.append([stored(whole, (0, 1))])
    assert missing(store, image) == ["a/2"]  # it failed, and is tried again, by itself
    store.append([stored(whole, (2,))])
    assert missing(store, image) == ["a/0", "a/1", "a/2"]  # it did not fail: now it has pairs
    store.append([stored(whole, (0, 1, 2))])
    assert missing(store, image) == []
    assert [names for names, _ in store.read_overlaps(image, MINE)] == [("a/0", "a/1", "a/2")]


def test_from_all_maps_they_follow_but_not_from_those_of_some_samples(
    tmp_path: Path, attention: Make, group: Group
) -> None:
    store, whole = AttentionStore(tmp_path, KEY), attention("a", 2)
    store.write([whole])
    assert missing(store, group("a", 2)) == [] and store.has_all_maps(group("a", 2))
    assert missing(store, group("a", 3)) == ["a/0", "a/1", "a/2"]
    store.append([stored(attention("a", 3), (0, 1, 2))])
    assert missing(store, group("a", 3)) == [] and not store.has_all_maps(group("a", 3))


@pytest.mark.parametrize("array", ["overlap", "cell_of_peak"])
@pytest.mark.parametrize("how", ["read", "all at once"])
def test_a_flipped_bit_is_seen(tmp_path: Path, attention: Make, group: Group, array: str, how: str) -> None:
    store, image = AttentionStore(tmp_path, KEY), group("a", 2)
    store.append([stored(attention("a", 2))])
    (shard,) = store.folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")
    content[length + json.loads(content[8:length])[f"0.{array}"]["data_offsets"][0]] ^= 4
    shard.write_bytes(content)
    store = AttentionStore(tmp_path, KEY)
    list(store.read([image]))  # reads nothing of them
    assert missing(store, image) == []
    if how == "read":
        with pytest.raises(DamagedShard, match=rf"the checksum of {array} of image a does not match"):
            list(store.read_overlaps(image, MINE))
    else:
        store.set_damaged_aside([image])
    assert missing(store, image) == ["a/0", "a/1"]
    assert sorted(file.suffix for file in store.folder.iterdir()) == [".damaged", ".damaged", ".json"]


def test_a_listing_of_an_earlier_version_is_read(
    tmp_path: Path, attention: Make, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([attention("a", 2)])
    (path,) = store.folder.glob(f"*{LISTING}")
    listing = json.loads(path.read_text())
    del listing["pictures"][0]["overlaps"], listing["listing_sha256"]
    path.write_text(json.dumps(listing | {"listing_sha256": json_digest(listing)}))
    assert AttentionStore(tmp_path, KEY).missing([group("a", 2)]) == [] and caplog.records == []
