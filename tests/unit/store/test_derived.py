"""A derived file that is not byte for byte what was written gives nothing, and a warning that names it."""

import json
from pathlib import Path

import pytest

from locheads.store.derived import (
    BLANK,
    KEY,
    checked,
    json_with_checksum,
    parse_json,
    parse_record,
    read_derived,
    read_derived_json,
    with_checksum,
    write_derived_json,
)

CONTENT = {"splits": {"val": ["1", "\N{SNOWMAN}"]}, "n": 2.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_derived_json(tmp_path / "kept.json", CONTENT)
    return tmp_path / "kept.json"


def test_what_was_written_comes_back(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_derived_json(path) == CONTENT
    assert set(json.loads(path.read_text())) == {*CONTENT, KEY}
    assert read_derived_json(path.with_name("absent")) is None
    assert read_derived_json(path / "below a file") is None
    assert caplog.text == ""


def test_every_flipped_bit_is_found(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        caplog.clear()
        assert read_derived_json(path) is None
        assert f"{path} is damaged" in caplog.text and "is made again" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"splits": {}}', b'{"checksum": "0"}', b"{" * 9999]
)
def test_other_content_is_found(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    assert read_derived_json(path, then="left out") is None
    assert f"{path} is damaged" in caplog.text and "is left out" in caplog.text


def test_a_folder_and_what_the_parser_refuses_are_damage_too(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_derived_json(path.parent) is None
    assert read_derived(path, lambda content: 1 / 0) is None
    assert caplog.text.count("is damaged") == 2


def test_data_may_hold_the_mark() -> None:
    """The last one is the file's own."""
    content = {"expression": BLANK.decode(), "other": f"{BLANK.decode()} x"}
    assert parse_json(checked(json_with_checksum(content))) == content
    with pytest.raises(ValueError, match="does not match"):
        checked(json_with_checksum(content).replace(b" x", b" y"))


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place() -> None:
    from hashlib import sha256

    assert (
        with_checksum(b"a" + BLANK + b"b")
        == b"a" + BLANK[:-64] + sha256(b"a" + BLANK + b"b").hexdigest().encode() + b"b"
    )


def test_records_of_before_there_were_checksums_are_read(path: Path) -> None:
    assert parse_record(json.dumps(CONTENT).encode()) == CONTENT == parse_record(path.read_bytes())
    with pytest.raises(ValueError, match="does not match"):
        parse_record(path.read_bytes().replace(b"2.5", b"3.5"))
