"""Maps of other versions are not taken over in silence, and images that changed are named."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from locheads.errors import StoreError
from locheads.store import atomic
from locheads.store.attention_store import AttentionStore
from locheads.types import Attention, ImageGroup

QUESTION = {"model": "m"}
OLD, NEW = {"torch": "1"}, {"torch": "2"}
Make = Callable[..., Attention]
Group = Callable[..., ImageGroup]


@pytest.fixture
def old(tmp_path: Path, attention: Make) -> AttentionStore:
    """Two expressions of image a, made with old versions."""
    store = AttentionStore(tmp_path, QUESTION, made_with=OLD)
    store.write([attention("a")])
    return store


def test_other_versions_are_another_store_which_tells_what_the_old_one_holds(
    tmp_path: Path, old: AttentionStore, group: Group
) -> None:
    store = AttentionStore(tmp_path, QUESTION, made_with=NEW)
    groups = [group("a"), group("b")]
    assert [g.image_id for g in store.missing(groups)] == ["a", "b"] and not store.is_of_other_versions
    ((n, folder, key),) = store.coverage_in_other_versions(groups)
    assert (n, folder, key.made_with) == (2, old.folder, OLD)
    assert list(AttentionStore(tmp_path, {"model": "other"}, made_with=NEW).coverage_in_other_versions(groups)) == []


def test_they_are_taken_when_told_so_and_never_written(tmp_path: Path, old: AttentionStore, group: Group) -> None:
    store = AttentionStore(tmp_path, QUESTION, made_with=NEW, take=True)
    assert store.is_of_other_versions and store.folder == old.folder and store.key.made_with == OLD
    assert store.missing([group("a")]) == []
    with pytest.raises(StoreError, match=r"made with other versions \(torch 1 \(here 2\)\) and lacks some"):
        store.check_writable()


def test_own_maps_come_before_taken_ones(tmp_path: Path, old: AttentionStore, attention: Make) -> None:
    AttentionStore(tmp_path, QUESTION, made_with=NEW).write([attention("b")])
    store = AttentionStore(tmp_path, QUESTION, made_with=NEW, take=True)
    assert not store.is_of_other_versions and store.key.made_with == NEW


def test_nothing_else_there_is_nothing_to_take(tmp_path: Path) -> None:
    assert not AttentionStore(tmp_path, QUESTION, made_with=NEW, take=True).is_of_other_versions


def test_a_store_from_before_versions_were_kept_is_of_unknown_ones(
    tmp_path: Path, attention: Make, group: Group
) -> None:
    AttentionStore(tmp_path, QUESTION).write([attention("a")])
    ((n, _, key),) = AttentionStore(tmp_path, QUESTION, made_with=NEW).coverage_in_other_versions([group("a")])
    assert (n, key.made_with) == (2, None)
    assert AttentionStore(tmp_path, QUESTION, made_with=NEW, take=True).is_of_other_versions


def test_versions_that_somebody_edited_are_not_believed(tmp_path: Path, old: AttentionStore) -> None:
    path = old.folder / "key.json"
    path.write_text(path.read_text().replace('"1"', '"2"'))
    assert AttentionStore(tmp_path, QUESTION, made_with={"torch": "3"}).other_versions() == []


def test_an_image_that_changed_is_named(tmp_path: Path, attention: Make, group: Group) -> None:
    groups = [replace(group(name, 1), path=tmp_path / f"{name}.jpg") for name in "ab"]
    for g in groups:
        g.path.write_bytes(b"one image")
    store = AttentionStore(tmp_path, QUESTION)
    store.write([replace(attention(g.image_id, 1), image=store.image(g)) for g in groups])
    assert AttentionStore(tmp_path, QUESTION).changed(groups) == []
    groups[1].path.write_bytes(b"two image")
    assert AttentionStore(tmp_path, QUESTION).changed([*groups, group("c")]) == [groups[1].path]


@pytest.mark.parametrize("there", ["nothing", "a file", "a folder"])
def test_a_folder_that_can_be_written_keeps_nothing_of_the_trial(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if there == "a file":
        folder.write_text("in the way")
        with pytest.raises(StoreError, match=r"Cannot write .*folder"):
            atomic.check_writable(folder)
        return
    if there == "a folder":
        folder.mkdir()
    atomic.check_writable(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        atomic.check_writable(tmp_path)


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        atomic.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_store_says_what_could_be_taken(
    tmp_path: Path, old: AttentionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(atomic.tempfile, "mkstemp", refuse)
    with pytest.raises(StoreError, match=r"Read-only .*torch 1 \(here 2\)\): engine\.other_versions=take"):
        AttentionStore(tmp_path, QUESTION, made_with=NEW)
    assert AttentionStore(tmp_path, QUESTION, made_with=NEW, take=True).is_of_other_versions
    shutil.rmtree(old.folder)
    with pytest.raises(StoreError, match=r"kept\.$"):
        AttentionStore(tmp_path, QUESTION, made_with=NEW)
