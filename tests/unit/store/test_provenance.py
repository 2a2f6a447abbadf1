"""Where a number comes from."""

import json
import subprocess
from pathlib import Path

import pytest

from locheads.store import provenance as module
from locheads.store.provenance import git_state, provenance


def test_provenance_is_plain_json_without_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "do-not-tell-anybody")
    text = json.dumps(provenance(), allow_nan=False)
    assert "do-not-tell-anybody" not in text
    assert {"commit", "dirty", "argv", "versions", "hardware"} <= set(json.loads(text))


def test_versions_name_what_is_installed_and_null_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package-here"))
    versions = provenance()["versions"]
    assert versions["numpy"] == __import__("numpy").__version__
    assert versions["no-such-package-here"] is None


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, laid out so that the module seems to lie in it."""
    (tmp_path / "src/locheads/store").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("one\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "src/locheads/store/provenance.py"))
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "1"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_a_clean_tree_has_its_commit_and_no_difference(repository: Path) -> None:
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert git_state() == {"commit": head.stdout.strip(), "dirty": False, "diff_sha256": None}


def test_every_edit_has_a_difference_of_its_own(repository: Path) -> None:
    found = []
    for text in ("two\n", "three\n"):
        (repository / "pyproject.toml").write_text(text)
        found.append(git_state())
    assert [state["dirty"] for state in found] == [True, True]
    assert len({state["diff_sha256"] for state in found}) == 2


def test_outside_of_git_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a/b/c/d.py"))
    assert git_state() == {"commit": None, "dirty": None, "diff_sha256": None}
