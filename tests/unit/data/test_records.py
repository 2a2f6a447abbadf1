"""The text of files that other people's programs wrote."""

import json
from pathlib import Path

import pytest

from locheads.data.annotation_files import read_lines, read_text
from locheads.data.tally import Tally
from locheads.errors import DataError

TEXT = "café naïve 猫\r\nsecond\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_text_with_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_a_mark_of_either_byte_order(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("\ufeff" + TEXT).encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a\ncafé".encode("cp1252"), r"a\.csv, line 2 is not UTF-8 text \(byte 0xe9, number 5 of the file\)"),
        ("a\nb".encode("utf-16-le"), r"a\.csv holds a zero byte in line 1, as UTF-16 without a mark does"),
    ],
)
def test_any_other_text_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence + r": save it as UTF-8\.$"):
        read_text(path)


def test_the_publishers_own_encoding_is_tried_last(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes("café".encode("cp1252"))
    assert read_text(path, fallback="cp1252") == "café"
    path.write_bytes("café".encode())
    assert read_text(path, fallback="cp1252") == "café"


def test_lines_are_those_of_an_editor(tmp_path: Path) -> None:
    path = tmp_path / "val.jsonl"
    records = [{"t": "line\u2028separator\x85"}, {"t": "b"}]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_bytes(f"{lines[0]}\r\n   \r\n{lines[1]}".encode("utf-16"))
    assert read_lines(path, Tally()) == [(f"{path}, line 1", records[0]), (f"{path}, line 3", records[1])]
