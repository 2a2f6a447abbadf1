"""Digests: equal for equal content, different for anything else."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from locheads.store import digest
from locheads.store.digest import file_digest, files_digest, json_digest

ONE = {"b": {"y": 1, "x": [1, 2]}, "a": None}


def test_the_order_of_keys_does_not_matter_at_any_depth() -> None:
    assert json_digest(ONE) == json_digest({"a": None, "b": {"x": [1, 2], "y": 1}})


@pytest.mark.parametrize(
    "other",
    [
        {"b": {"y": 1, "x": [2, 1]}, "a": None},
        {"b": {"y": 1, "x": [1, 2]}},
        {"b": {"y": True, "x": [1, 2]}, "a": None},
        {"b": {"y": "1", "x": [1, 2]}, "a": None},
    ],
)
def test_any_other_value_is_another_digest(other: dict) -> None:
    assert json_digest(ONE) != json_digest(other)


def test_json_digest_is_the_sha256_of_sorted_json() -> None:
    assert json_digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a": 2, "b": 1}').hexdigest()


def test_file_digest_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)) * 2000)
    assert file_digest(tmp_path / "x") == hashlib.sha256(bytes(range(256)) * 2000).hexdigest()


def test_files_digest_depends_on_names_contents_and_order(tmp_path: Path) -> None:
    paths = []
    for name, text in [("a", "1"), ("b", "2"), ("c", "1")]:
        (tmp_path / name).write_text(text)
        paths.append(tmp_path / name)
    a, b, c = paths
    digests = [files_digest(list_) for list_ in ([a, b], [b, a], [a], [c], [a, c], [])]
    assert len(set(digests)) == 6
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").write_text("1")
    assert files_digest([tmp_path / "other" / "a"]) == files_digest([a])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed, in order."""
    seen: list[str] = []
    real = digest.file_digest

    def counting(path: Path) -> str:
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(digest, "file_digest", counting)
    return seen


def old(path: Path, text: str, age: int = 100) -> Path:
    path.write_text(text)
    os.utime(path, ns=(START - age * 10**9,) * 2)
    return path


START = time.time_ns()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that changed just now are trusted, too: no test can set a ctime back."""
    monkeypatch.setattr(digest, "SETTLED_NS", -1)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_hashed_once(tmp_path: Path, reads: list[str]) -> None:
    paths = [old(tmp_path / "a", "1"), old(tmp_path / "b", "2")]
    first = files_digest(paths, tmp_path / "cache")
    assert reads == ["a", "b"]
    assert files_digest(paths, tmp_path / "cache") == first == files_digest(paths)
    assert reads == ["a", "b", "a", "b"]  # those of the call without a cache


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("age", [100, 50])
def test_a_changed_file_is_hashed_again(tmp_path: Path, reads: list[str], age: int) -> None:
    path = old(tmp_path / "a", "1")
    first = files_digest([path], tmp_path / "cache")
    old(path, "2" if age == 50 else "22", age)  # another time, or another size
    assert files_digest([path], tmp_path / "cache") == files_digest([path]) != first


@pytest.mark.usefixtures("settled")
def test_a_time_of_change_that_is_set_back_does_not_hide_a_change(tmp_path: Path) -> None:
    path = old(tmp_path / "a", "1")
    first = files_digest([path], tmp_path / "cache")
    before = path.stat()
    old(path, "2")
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert files_digest([path], tmp_path / "cache") == files_digest([path]) != first


@pytest.mark.usefixtures("settled")
def test_another_file_under_the_same_name_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a", "1")
    first = files_digest([path], tmp_path / "cache")
    kept = old(tmp_path / "kept", "2")
    monkeypatch.setattr(digest, "_stamp", lambda path, real=digest._stamp: [*real(path)[:2], 0, real(path)[3]])
    files_digest([path], tmp_path / "cache")
    os.replace(kept, path)
    assert files_digest([path], tmp_path / "cache") != first


def test_a_file_that_changed_just_now_is_not_trusted(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    files_digest([path], tmp_path / "cache")
    files_digest([path], tmp_path / "cache")
    assert reads == ["a", "a"]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_memory_of_digests_is_made_again(
    tmp_path: Path, reads: list[str], content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = old(tmp_path / "a", "1")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / digest.REMEMBERED).write_text(content)
    assert files_digest([path], tmp_path / "cache") == files_digest([path])
    assert "digests.json is damaged" in caplog.text
    assert files_digest([path], tmp_path / "cache") == files_digest([path])
    assert reads.count("a") == 3


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, reads: list[str]) -> None:
    path = old(tmp_path / "a", "1")
    (tmp_path / "file").write_text("")
    assert files_digest([path], tmp_path / "file" / "below") == files_digest([path])
