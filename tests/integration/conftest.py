"""The tiny files and one finished run of them, made once; the pipeline as a function."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from running import Finished, Result, TinyFiles, call, execute

from locheads.config import Config
from locheads.models import load


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> TinyFiles:
    root = tmp_path_factory.mktemp("tiny")
    return TinyFiles(*tiny.write_refer(root), tiny.write_checkpoint(root / "model"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(files: TinyFiles, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Its store is the one that tests read which need no model of their own."""
    outputs = tmp_path_factory.mktemp("finished")
    arguments = files.arguments(outputs, outputs / "cache")
    with pytest.MonkeyPatch.context() as patch:
        result = call(patch, arguments)
    assert result.code == 0, result.err
    (folder,) = (outputs / "default").iterdir()
    return Finished(folder, outputs / "cache", arguments, result.out, result.err)


@pytest.fixture
def store(finished: Finished, tmp_path: Path) -> Path:
    """A copy of a filled cache: no test has to run the model, or can harm the next one."""
    return Path(shutil.copytree(finished.cache, tmp_path / "store"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Config], Path]:
    """Runs a configuration -> the run folder."""
    runs = iter(range(100))

    def start(config: Config) -> Path:
        folder = tmp_path / f"run_{next(runs)}"
        execute(config, folder)
        return folder

    return start


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`python run.py ARGUMENTS` in this process."""
    return lambda *arguments: call(monkeypatch, list(arguments))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights is an error."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(load, "load_lvlm", refuse)
