"""A sweep's runs make no pages of their own unless asked to; made later they are the same to the byte."""

from collections.abc import Callable
from pathlib import Path

import pytest
from running import Result, TinyFiles

from locheads.pipeline import ground_stage
from locheads.report.__main__ import main as make_pages

PAGES = ("report.html", "explorer.html", "dossier/dossier.html", "dossier/dossier.md", "dossier/methods.tex")


@pytest.fixture
def run(files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], no_model: None) -> Callable:
    """The command line with these arguments -> what was printed, the newest run folder."""

    def start(*arguments: str) -> tuple[Result, Path]:
        result = command(*arguments, *files.arguments(tmp_path / "out", store))
        assert result.code == 0, result.err
        return result, max((tmp_path / "out").rglob("overrides.yaml"), key=lambda path: path.stat().st_ctime_ns).parent

    return start


def pages(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PAGES if (folder / name).exists()}


def test_a_single_run_makes_its_pages_unless_told_not_to(run: Callable) -> None:
    assert len(pages(run()[1])) == len(PAGES)
    assert not pages(run("report.pages=never")[1])


def test_a_runs_pages_made_later_are_those_made_at_once(run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    result, folder = run("-m", "heads.k=2", "report.pages=always")
    at_once = pages(folder)
    assert len(at_once) == len(PAGES)
    assert "python -m locheads.report" not in result.out
    for name in PAGES:
        (folder / name).unlink()
    assert make_pages([str(folder)]) == 0
    assert pages(folder) == at_once


def test_a_sweep_makes_none_and_says_how(run: Callable) -> None:
    result, folder = run("-m", "heads.k=2")
    assert not pages(folder)
    assert "Page of one of its runs: python -m locheads.report RUN_FOLDER" in result.out
    assert make_pages([str(folder)]) == 0
    assert len(pages(folder)) == len(PAGES)


def test_a_run_that_was_done_without_pages_gets_them_and_nothing_else_anew(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = run("-m", "heads.k=2")
    monkeypatch.setattr(ground_stage, "predict", lambda *_: pytest.fail("it was grounded again"))
    _, second = run("-m", "heads.k=2", "report.pages=always")
    assert (second / "done_before.json").exists()
    assert len(pages(second)) == len(PAGES)
    assert not pages(first)  # whose files the second one's are links to
    _, third = run("-m", "heads.k=2")
    assert (third / "done_before.json").exists()


def test_a_wrong_value_is_one_sentence(files: TinyFiles, tmp_path: Path, command: Callable[..., Result]) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "report.pages=sometimes")
    assert result.code == 1
    assert "report.pages" in result.err
    assert "always" in result.err
