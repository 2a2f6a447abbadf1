"""A run folder of someone else cannot pull other files of this machine into a page."""

from pathlib import Path

import pytest

from locheads.records.record_base import own_file
from locheads.report.run_record import read_run


def test_names_and_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    folder, secret = tmp_path / "run", tmp_path / "secret"
    (folder / "explorer").mkdir(parents=True)
    secret.write_text("x")
    (folder / "explorer" / "0.webp").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    for name in ("explorer/0.webp", "up/secret", "../secret", str(secret)):
        with pytest.raises(OSError, match="leads out of the run folder"):
            own_file(folder, name)


def test_links_within_a_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").write_text("x")
    (tmp_path / "run" / "b").symlink_to("a")
    (tmp_path / "latest").symlink_to("run")
    assert own_file(tmp_path / "latest", "b").read_text() == "x"


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "metrics.json"])
def test_records_that_are_links_are_no_records(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text('{"a": "secret-of-this-machine"}')
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "secret")
    record = read_run(tmp_path / "run")
    assert "secret-of-this-machine" not in repr(record)
    assert any(problem.startswith(f"{name} cannot be read (") for problem in record.problems)
