"""A store that keeps the maps of some heads only: what is missing is known, and parts come together again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locheads.store import store_files
from locheads.store.attention_store import AttentionStore
from locheads.store.needed_maps import EVERYTHING, NeededMaps, lacking, union
from locheads.store.packed_maps import rounded
from locheads.store.store_files import LISTING
from locheads.types import Attention, HeadIndex, HeadScores, ImageGroup

KEY = {"model": "m"}
A, B, C = HeadIndex(0, 1), HeadIndex(1, 2), HeadIndex(1, 0)
BY = ("mean", "area")
Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


def part(whole: Attention, *heads: HeadIndex, scored_by: tuple[str, ...] | None = None, rest: bool = False):
    """Some heads of it, and where asked for the scores, the mean and the cells."""
    maps = whole.maps[:, [h.layer for h in heads], [h.head for h in heads]]
    entropy = whole.sums.astype(np.float64) + len(str(scored_by))
    scores = HeadScores(whole.sample_ids, {"sums": whole.sums, "entropy": entropy, "mean": whole.sums + 1})
    return Attention(
        whole.image_id, whole.sample_ids, maps, None, whole.geometry, whole.image, heads,
        scores if scored_by else None, scored_by,
        whole.maps.mean(axis=(1, 2)) if rest else None,
        whole.maps > whole.maps.mean(axis=(-2, -1), keepdims=True) if rest else None,
    )  # fmt: skip


def read_one(store: AttentionStore, group: ImageGroup, scored_by: tuple[str, ...] | None = None) -> Attention:
    found = list(store.read([group], scored_by))
    assert all(one.heads is not None for one in found)
    return found[0]


@pytest.mark.parametrize("reopened", [False, True])
def test_what_is_written_of_some_heads_is_read(tmp_path: Path, attention: Make, group: Group, reopened: bool) -> None:
    whole = attention("a", 2)
    store = AttentionStore(tmp_path, KEY)
    store.write([part(whole, B, A, scored_by=BY, rest=True)])
    store = AttentionStore(tmp_path, KEY) if reopened else store
    found = list(store.read([group("a", 2)], BY))
    assert [one.sample_ids for one in found] == [("a/0",), ("a/1",)]
    for i, one in enumerate(found):
        np.testing.assert_array_equal(one.chosen(0, [A, B]), rounded(whole.maps[i, [0, 1], [1, 2]]))
        np.testing.assert_array_equal(one.mean_map(0), whole.maps[i].mean(axis=(0, 1)))
        np.testing.assert_array_equal(one.cells[0], whole.maps[i] > whole.maps[i].mean(axis=(-2, -1), keepdims=True))
        np.testing.assert_array_equal(one.scores["entropy"][0], whole.sums[i].astype(np.float64) + len(str(BY)))
        assert one.scores.sample_ids == one.sample_ids
    assert np.abs(found[0].chosen(0, [A]) - found[1].chosen(0, [A])).max() > 0


def test_a_head_that_is_not_stored_is_named(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([part(attention("a", 1), A)])
    one = read_one(store, group("a", 1))
    with pytest.raises(ValueError, match="lacks the maps of L1H2, L1H0"):
        one.chosen(0, [A, B, C])
    with pytest.raises(ValueError, match="lacks the mean over all heads"):
        one.mean_map(0)
    assert one.scores is None and one.cells is None


def test_parts_of_a_sample_come_together_whatever_images_they_were_written_with(
    tmp_path: Path, attention: Make, group: Group
) -> None:
    whole = attention("a", 3)
    store = AttentionStore(tmp_path, KEY)
    store.write([part(attention("b", 1), A), part(whole, A, scored_by=BY)])
    second = part(whole, C, B, rest=True)
    store.write([replace(second, sample_ids=second.sample_ids[1:2], maps=second.maps[1:2], mean=second.mean[1:2],
                         cells=second.cells[1:2])])  # fmt: skip
    found = list(AttentionStore(tmp_path, KEY).read([group("a", 3)], BY))
    assert [one.heads for one in found] == [(A,), (A, C, B), (A,)]
    np.testing.assert_array_equal(found[1].chosen(0, [B, A, C]), rounded(whole.maps[1, [1, 0, 1], [2, 1, 0]]))
    assert [one.mean is None for one in found] == [True, False, True]
    assert all(one.scores is not None for one in found)


def test_of_several_scores_those_asked_for_are_read(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    zero = ("relu_mean_eps", "mass", "empty_maps=zero")
    for by in (BY, ("relu_mean_eps", "mass"), zero):
        store.write([part(attention("a", 1), A, scored_by=by)])
    for by in (BY, ("relu_mean_eps", "mass"), zero):
        entropy = read_one(store, group("a", 1), by).scores["entropy"]
        np.testing.assert_array_equal(entropy, attention("a", 1).sums.astype(np.float64) + len(str(by)))
    assert read_one(store, group("a", 1), ("mean", "mass")).scores is None


@pytest.mark.parametrize("all_maps", [True, False])
def test_of_numbers_that_are_stored_no_map_is_read(
    tmp_path: Path, attention: Make, group: Group, monkeypatch: pytest.MonkeyPatch, all_maps: bool
) -> None:
    whole = attention("a", 2)
    scored = part(whole, A, scored_by=BY)
    store = AttentionStore(tmp_path, KEY)
    store.write([replace(whole, scores=scored.scores, scored_by=BY) if all_maps else scored, attention("b", 1)])
    read, real = [], store_files._Arrays._read_maps

    def counting(self: Any, numbers: np.ndarray, *rest: Any) -> Any:
        read.extend([self.entry.image_id] * len(numbers))
        return real(self, numbers, *rest)

    monkeypatch.setattr(store_files._Arrays, "_read_maps", counting)
    found = list(store.read_numbers([group("a", 2), group("b", 1)], BY))
    assert [name for one in found for name in one.sample_ids] == ["a/0", "a/1", "b/0"]
    entropies = np.concatenate([one.scores["entropy"] for one in found if one.image_id == "a"])
    np.testing.assert_array_equal(entropies, scored.scores["entropy"])
    # Of the image without numbers, and of both by numbers of another kind, the maps are there to work them out.
    assert read == ["b"] * 6 and found[-1].scores is None
    np.testing.assert_array_equal(found[-1].maps, rounded(attention("b", 1).maps))
    others = list(store.read_numbers([group("a", 2)], ("mean", "mass")))
    assert all(one.scores is None for one in others) and read.count("a") == (12 if all_maps else 2)


def test_missing_and_lack_say_which_part_of_the_need_is_open(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([part(attention("a", 2), A, scored_by=BY)])
    groups = [group("a", 2), group("b", 1)]
    need = NeededMaps(frozenset([A, B]), scored_by=BY, mean=True)
    assert [g.image_id for g in store.missing(groups, need)] == ["a", "b"]
    assert store.lacking(groups[:1], need) == NeededMaps(frozenset([B]), mean=True)
    assert store.lacking(groups, need) == need
    assert [g.image_id for g in store.missing(groups, NeededMaps(frozenset([A]), scored_by=BY))] == ["b"]
    assert [g.image_id for g in store.missing(groups, NeededMaps(frozenset([A]), scored_by=("mean", "mass")))] == [
        "a",
        "b",
    ]
    assert [g.image_id for g in store.missing(groups, EVERYTHING)] == ["a", "b"]
    own = NeededMaps(frozenset([A]), own={"a/1": (C,)})
    (left,) = store.missing(groups[:1], own)
    assert [sample.sample_id for sample in left.samples] == ["a/1"]
    assert store.lacking(groups[:1], own).heads == {C}


def test_all_maps_serve_every_need_and_win_over_parts(tmp_path: Path, attention: Make, group: Group) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([part(attention("a", 1), A)])
    store.write([attention("a", 1)])
    assert store.missing([group("a", 1)], NeededMaps(frozenset([B]), scored_by=BY, mean=True, cells=True)) == []
    assert store.missing([group("a", 1)]) == []
    (found,) = store.read([group("a", 1)])
    assert found.heads is None
    np.testing.assert_array_equal(found.chosen(0, [B, A]), rounded(attention("a", 1).maps[0, [1, 0], [2, 1]]))


def test_union_of_needs() -> None:
    assert union([NeededMaps(frozenset([A])), NeededMaps(frozenset([B]), mean=True)]) == NeededMaps(
        frozenset([A, B]), mean=True
    )
    assert union([NeededMaps(frozenset([A])), EVERYTHING]) == EVERYTHING
    assert not NeededMaps(frozenset([A])).whole_model()
    assert all(
        need.whole_model()
        for need in (EVERYTHING, NeededMaps(frozenset(), mean=True), NeededMaps(frozenset(), cells=True))
    )
    assert lacking(NeededMaps(frozenset()), "a", []) is None


def test_entries_of_another_image_do_not_count(tmp_path: Path, attention: Make, group: Group) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one image")
    one = replace(group("a", 1), path=path)
    store = AttentionStore(tmp_path, KEY)
    store.write([replace(attention("a", 1), image=store.image(one))])
    assert store.missing([one]) == []
    path.write_bytes(b"two image")  # of the same size
    other = AttentionStore(tmp_path, KEY)
    assert [g.image_id for g in other.missing([one])] == ["a"]
    assert list(other.read([one])) == []
    path.unlink()
    # Without the image nothing contradicts, and downstream needs none.
    assert AttentionStore(tmp_path, KEY).missing([one]) == []


@pytest.mark.parametrize("change", [("b/0", "b/9"), ('"position"', '"x"'), ('"mean": false', '"mean": true')])
def test_a_listing_that_was_edited_is_damaged_and_both_files_are_set_aside(
    tmp_path: Path, attention: Make, group: Group, change: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    store = AttentionStore(tmp_path, KEY)
    store.write([attention("b", 1)])
    (listing,) = store.folder.glob(f"*{LISTING}")
    text = listing.read_text()
    listing.write_text(text.replace(*change) if change[0] in text else text[:-3])
    again = AttentionStore(tmp_path, KEY)
    assert "is damaged" in caplog.text
    assert [g.image_id for g in again.missing([group("b", 1)])] == ["b"]
    assert sorted(file.suffix for file in store.folder.iterdir()) == [".damaged", ".damaged", ".json"]
    assert sorted(file.name for file in store.folder.glob("*.damaged"))[0].endswith(".safetensors.damaged")
    assert json.loads((store.folder / "key.json").read_text())["model"] == "m"
