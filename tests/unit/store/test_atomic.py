"""Files appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from locheads.errors import StoreError
from locheads.store.atomic import replacing, write_arrays, write_bytes, write_json, write_text


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "käse\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"k\xc3\xa4se\n"
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c.txt").stat().st_mode) == 0o644


def test_an_existing_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    write_text(target, "old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
    assert content(tmp_path) == {"x.txt": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, BrokenPipeError])  # of a worker: not the disk's
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(error), replacing(tmp_path / "x.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert content(tmp_path) == {"x.txt": "old"}


@pytest.mark.parametrize("name", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_of_the_system_is_a_store_error_that_names_file_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    write_text(tmp_path / "x.txt", "old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(StoreError) as caught:
        write_bytes(tmp_path / "x.txt", b"new")
    assert f"Cannot write {tmp_path / 'x.txt'}: {os.strerror(code)}." in str(caught.value)
    assert content(tmp_path) == {"x.txt": "old"}


def test_a_file_in_the_way_of_a_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        write_text(tmp_path / "a" / "b.txt", "")


def test_a_folder_in_the_way_of_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StoreError, match="Cannot write"):
        write_text(tmp_path / "a", "")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_json_keeps_the_order_of_keys_and_ends_in_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": [1, None], "a": 0.1})
    assert (tmp_path / "x.json").read_text() == '{\n "b": [\n  1,\n  null\n ],\n "a": 0.1\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_refuses_what_is_no_json_number_and_leaves_the_old_file(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "x.json", {"deep": [value]})
    assert content(tmp_path) == {"x.json": "1\n"}


def test_arrays_may_have_any_name(tmp_path: Path) -> None:
    arrays = {name: np.full((2, 3), i, dtype=np.float32) for i, name in enumerate(("file", "allow_pickle", "a/b", "é"))}
    write_arrays(tmp_path / "some.npz", arrays)
    with np.load(tmp_path / "some.npz", allow_pickle=False) as found:
        assert {name: found[name].tolist() for name in found.files} == {k: v.tolist() for k, v in arrays.items()}
