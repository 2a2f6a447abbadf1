"""The parquet table is the data set, and is made anew when its files or itself change."""

import logging
import random
from pathlib import Path

import pytest
from refer_files import TinyRefer
from refer_files import refer as open_refer

from locheads.data import refer
from locheads.data.refer import ReferDataSet
from locheads.data.refer_files import read_samples
from locheads.data.tally import Tally
from locheads.errors import DataError


@pytest.fixture
def data(tiny: TinyRefer, tmp_path: Path) -> ReferDataSet:
    tiny.write()
    return open_refer(tiny.folder, tiny.images, tmp_path / "cache")


def _tables(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.parquet"))


def test_the_table_is_what_the_files_say(tiny: TinyRefer, data: ReferDataSet, tmp_path: Path) -> None:
    direct = tiny.read()
    assert data.read("val") == direct
    assert [path.name for path in _tables(tmp_path)] == ["val.parquet"]
    assert data.read("val") == direct


def test_later_runs_unpickle_nothing(
    tiny: TinyRefer, data: ReferDataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = data.read("val")
    monkeypatch.setattr(refer, "load_refs", lambda path: pytest.fail(f"{path} was unpickled"))
    monkeypatch.setattr(refer, "read_json", lambda path: pytest.fail(f"{path} was parsed"))
    again = open_refer(tiny.folder, tiny.images, tmp_path / "cache")
    assert again.read("val") == direct


def test_changed_files_are_read_anew(tiny: TinyRefer, data: ReferDataSet, tmp_path: Path) -> None:
    data.read("val")
    tiny.refs[0]["sentences"][0]["sent"] = "left one"
    tiny.write()
    groups = open_refer(tiny.folder, tiny.images, tmp_path / "cache").read("val")
    assert "left one" in [sample.expression for group in groups for sample in group.samples]
    assert len(_tables(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet"])
def test_a_damaged_table_is_made_again(
    data: ReferDataSet, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    direct = data.read("val")
    (table,) = _tables(tmp_path)
    whole = table.read_bytes()
    table.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert data.read("val") == direct
    assert "val.parquet is damaged" in caplog.text
    assert table.read_bytes() == whole


def test_no_flipped_bit_changes_a_sample(data: ReferDataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = data.read("val")
    (table,) = _tables(tmp_path)
    whole, rng = table.read_bytes(), random.Random(0)

    def silent() -> int:
        """Flips of 200 that come back as other samples."""
        other = 0
        for _ in range(200):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            table.write_bytes(damaged)
            other += read_samples(table, data._images) not in (None, direct)
        return other

    assert silent() == 0
    monkeypatch.setattr("locheads.store.derived.checked", lambda content: content)
    assert silent() > 0, "without its checksum a damaged table is read"


def test_images_may_move(tiny: TinyRefer, data: ReferDataSet, tmp_path: Path) -> None:
    data.read("val")
    moved = open_refer(tiny.folder, tmp_path / "elsewhere", tmp_path / "cache").read("val")
    assert {group.path.parent for group in moved} == {tmp_path / "elsewhere"}
    assert len(_tables(tmp_path)) == 1


def test_a_check_reads_the_files_themselves(tiny: TinyRefer, data: ReferDataSet, tmp_path: Path) -> None:
    tally = Tally(counting=True)
    data.read("val", tally)
    assert _tables(tmp_path) == []
    assert tally.seen["overlap"] == 1


def test_a_bad_data_set_leaves_no_table(tiny: TinyRefer, data: ReferDataSet, tmp_path: Path) -> None:
    tiny.refs[0]["ann_id"] = 99
    tiny.write()
    with pytest.raises(DataError, match="names annotation 99"):
        data.read("val")
    with pytest.raises(DataError, match=r"There is no split '\.\./val'"):
        data.read("../val")
    assert _tables(tmp_path) == []
