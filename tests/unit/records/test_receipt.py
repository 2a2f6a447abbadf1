"""What of a run folder is not what the run wrote is named; a folder without a receipt is not judged."""

import json
from pathlib import Path

import pytest

from locheads.errors import StoreError
from locheads.records.receipt_file import (
    RECEIPT,
    ReceiptFile,
    changed_files,
    read_receipt,
    refuse_changed,
    renew_pages,
)
from locheads.store.digest import file_digest

NAMES = ("metrics.json", "heads.json", "report.html", "explorer.html")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text(name)
    files = {name: file_digest(tmp_path / name) for name in NAMES}
    ReceiptFile(key={}, n_failed=0, files=files).write(tmp_path)
    return tmp_path


def test_an_untouched_folder_is_in_order(folder: Path) -> None:
    assert changed_files(folder) == [] and refuse_changed(folder, NAMES)
    (folder / "metrics.json").unlink()  # its reader says what is missing
    assert changed_files(folder) == []


def test_what_was_edited_is_named(folder: Path) -> None:
    (folder / "metrics.json").write_text("better")
    assert changed_files(folder) == ["metrics.json"]
    with pytest.raises(StoreError, match=r"metrics\.json of .* is not what the run wrote .*: run it again, or delete"):
        refuse_changed(folder, ["heads.json", "metrics.json"])
    assert refuse_changed(folder, ["heads.json"])


def test_a_file_that_the_run_did_not_write_is_named(folder: Path) -> None:
    (folder / "audit.json").write_text("of another run")
    assert changed_files(folder, ["audit.json", "stability.json"]) == ["audit.json"]


def test_pages_may_be_made_again(folder: Path) -> None:
    for name in ("report.html", "explorer.html"):
        (folder / name).write_text("anew")
    assert changed_files(folder) == []
    assert changed_files(folder, NAMES) == ["report.html", "explorer.html"]
    renew_pages(folder)
    assert changed_files(folder, NAMES) == []


def test_without_a_receipt_nothing_is_judged(folder: Path) -> None:
    (folder / RECEIPT).unlink()
    (folder / "metrics.json").write_text("better")
    assert changed_files(folder) == [] and not refuse_changed(folder, NAMES)
    renew_pages(folder)
    assert read_receipt(folder) is None


def test_a_receipt_of_an_earlier_version_is_believed(folder: Path) -> None:
    content = json.loads((folder / RECEIPT).read_text())
    del content["checksum"]
    (folder / RECEIPT).write_text(json.dumps(content))
    assert changed_files(folder) == []
    (folder / "heads.json").write_text("others")
    assert changed_files(folder) == ["heads.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"files": 3}', '{"files": {"../x": "0"}}', '{"files": {"/x": "0"}}', '{"checksum": ""}']
)
def test_a_damaged_receipt_is_one_sentence(folder: Path, content: str) -> None:
    (folder / RECEIPT).write_text(content)
    with pytest.raises(StoreError, match=r"receipt\.json is damaged .*: run it again, or delete receipt\.json"):
        refuse_changed(folder, NAMES)
