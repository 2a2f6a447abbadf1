"""What is written comes back, and nothing is asked for twice."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locheads.store.attention_store import FORMAT, AttentionStore
from locheads.types import Attention, ImageGroup

KEY = {"model": {"id": "m", "weights": "abc"}, "prompt": "p"}
Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


def names(groups: list[ImageGroup]) -> list[str]:
    return [sample.sample_id for group in groups for sample in group.samples]


def assert_equal(found: Attention, written: Attention) -> None:
    assert (found.image_id, found.sample_ids) == (written.image_id, written.sample_ids)
    assert found.geometry == written.geometry
    assert found.maps.dtype == np.float32
    peaks = written.maps.max(axis=(-2, -1), keepdims=True)
    assert np.abs((found.maps - written.maps) / peaks).max() <= 2**-11
    np.testing.assert_array_equal(found.sums, written.sums)


@pytest.mark.parametrize("reopened", [False, True])
def test_what_is_written_comes_back(tmp_path: Path, attention: Make, group: Group, reopened: bool) -> None:
    store = AttentionStore(tmp_path, KEY)
    written = [attention("a", 2), attention("b", 3)]
    store.write(written)
    store = AttentionStore(tmp_path, KEY) if reopened else store
    found = list(store.read([group("a", 2), group("b", 3)]))
    assert len(found) == 2
    for one, other in zip(found, written, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.ascontiguousarray(a.transpose(1, 2, 0, 3, 4)).transpose(2, 0, 1, 3, 4),
        lambda a: np.asfortranarray(a),
        lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
        lambda a: np.repeat(a, 2, axis=0)[::2],
    ],
    ids=["permuted as by the attention pass", "Fortran", "reversed", "every second"],
)
def test_arrays_come_back_whatever_their_layout_in_memory(
    tmp_path: Path, attention: Make, group: Group, layout: Callable
) -> None:
    plain = attention("a", 3)
    maps = layout(plain.maps)
    np.testing.assert_array_equal(maps, plain.maps)
    assert not maps.flags.c_contiguous
    store = AttentionStore(tmp_path, KEY)
    store.write([Attention("a", plain.sample_ids, maps, np.asfortranarray(plain.sums), plain.geometry)])
    assert_equal(next(store.read([group("a", 3)])), plain)


def test_faint_heads_keep_their_shape(tmp_path: Path, attention: Make, group: Group) -> None:
    faint = attention("a", 1)
    # Below the smallest 16-bit number: without a scale of its own, such a head would be all zeros.
    weak = Attention("a", faint.sample_ids, faint.maps * np.float32(1e-9), faint.sums, faint.geometry)
    store = AttentionStore(tmp_path, KEY)
    store.write([weak])
    assert_equal(next(store.read([group("a", 1)])), weak)


def test_a_map_of_zeros_and_a_map_with_nan_come_back_as_such(tmp_path: Path, attention: Make, group: Group) -> None:
    written = attention("a", 1)
    written.maps[0, 0, 0] = 0.0
    written.maps[0, 0, 1, 2, 2] = np.nan
    store = AttentionStore(tmp_path, KEY)
    store.write([written])
    found = next(store.read([group("a", 1)])).maps[0]
    assert found[0, 0].max() == 0.0
    assert np.isnan(found[0, 1, 2, 2])
    assert np.isfinite(found[1]).sum() == 60


def test_missing_shrinks_as_shards_are_written(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    groups = [group("a", 2), group("b", 2), group("c", 1)]
    assert names(store.missing(groups)) == ["a/0", "a/1", "b/0", "b/1", "c/0"]
    store.write([attention("b", 2)])
    assert names(store.missing(groups)) == ["a/0", "a/1", "c/0"]
    store.write([attention("a", 1), attention("c", 1)])
    assert names(store.missing(groups)) == ["a/1"]
    store.write([attention("a", 1, first=1)])
    assert store.missing(groups) == []


def test_a_missing_group_keeps_its_image_and_only_the_absent_expressions(
    tmp_path: Path, attention: Make, group: Group
) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([attention("a", 1)])
    (left,) = store.missing([group("a", 3)])
    assert (left.image_id, left.path, left.width, left.height) == ("a", Path("a.jpg"), 33, 21)
    assert left.samples == group("a", 3).samples[1:]


def test_reading_gives_only_the_samples_asked_for_in_stored_order(
    tmp_path: Path, attention: Make, group: Group
) -> None:
    store = AttentionStore(tmp_path, KEY)
    written = attention("a", 4)
    store.write([written, attention("b", 1)])
    whole = group("a", 4)
    some = ImageGroup("a", whole.path, 33, 21, (whole.samples[3], whole.samples[1]))
    (found,) = store.read([some, group("absent", 2)])
    assert found.sample_ids == ("a/1", "a/3")
    np.testing.assert_array_equal(found.sums, written.sums[[1, 3]])


def test_one_image_may_be_spread_over_shards_and_twice_in_one(tmp_path: Path, attention: Make, group: Group) -> None:
    parts = [attention("a", 1), attention("a", 2, seed=1, first=1), attention("a", 1, seed=2, first=3)]
    store = AttentionStore(tmp_path, KEY)
    store.write(parts[:2])
    store.write(parts[2:])
    found = list(AttentionStore(tmp_path, KEY).read([group("a", 4)]))
    assert len(found) == 3
    for one, other in zip(found, parts, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("other", [{**KEY, "prompt": "q"}, {"model": {"id": "m", "weights": "abd"}, "prompt": "p"}, {}])
def test_another_key_is_another_folder(tmp_path: Path, attention: Make, group: Group, other: dict) -> None:
    first, second = AttentionStore(tmp_path, KEY), AttentionStore(tmp_path, other)
    assert first.folder != second.folder
    first.write([attention("a", 1)])
    assert names(AttentionStore(tmp_path, other).missing([group("a", 1)])) == ["a/0"]


def test_the_order_of_the_keys_does_not_matter_and_the_folder_says_what_it_holds(tmp_path: Path) -> None:
    store = AttentionStore(tmp_path, KEY)
    assert AttentionStore(tmp_path, dict(reversed(KEY.items()))).folder == store.folder
    assert json.loads((store.folder / "key.json").read_text()) == {"format": FORMAT, **KEY}


def test_two_stores_on_one_folder_both_append(tmp_path: Path, attention: Make, group: Group) -> None:
    one, two = AttentionStore(tmp_path, KEY), AttentionStore(tmp_path, KEY)
    one.write([attention("a", 1)])
    two.write([attention("b", 1)])
    one.write([attention("c", 1)])
    groups = [group("a", 1), group("b", 1), group("c", 1)]
    assert [found.image_id for found in AttentionStore(tmp_path, KEY).read(groups)] == ["a", "b", "c"]
    assert names(one.missing(groups)) == ["b/0"]  # it does not look again, and nothing is lost if it asks twice


def test_writing_nothing_makes_no_shard(tmp_path: Path) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([])
    assert [file.name for file in store.folder.iterdir()] == ["key.json"]
