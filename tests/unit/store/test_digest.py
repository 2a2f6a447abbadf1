"""Digests: equal for equal content, different for anything else."""

import hashlib
from pathlib import Path

import pytest

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
