"""Two ways to run the pipeline on the tiny files: by `execute`, and by the command line in this process."""

import io
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from locheads.config import Config, PathsConfig, Stage
from locheads.data.config import DatasetConfig
from locheads.discovery.config import DiscoveryConfig
from locheads.evaluation.config import EvaluationConfig
from locheads.models.config import ModelConfig
from locheads.models.engine import EngineConfig
from locheads.pipeline import cli
from locheads.pipeline.run_life import run_life

ROOT = Path(__file__).resolve().parents[2]


def execute(config: Config, folder: Path) -> None:
    """A run from its first to its last moment."""
    with run_life(folder) as status:
        cli.dispatch(config, folder, status)


@dataclass(frozen=True)
class TinyFiles:
    """Where the tiny data set and checkpoint lie."""

    folder: Path
    images: Path
    model: Path

    def config(self, outputs: Path, cache: Path | None = None, **changes: Any) -> Config:
        """The tiny run without figures; `changes` are whole groups or top-level settings."""
        groups: dict[str, Any] = {
            "model": ModelConfig(id=str(self.model)),
            "dataset": DatasetConfig(reader="refer", folder=str(self.folder), images=str(self.images)),
            "discovery": DiscoveryConfig(n_samples=20, trials=2),
            "evaluation": EvaluationConfig(random_draws=2, resamples=50, gallery=3),
            "engine": EngineConfig(device="cpu", threads=1),
            "paths": PathsConfig(outputs=str(outputs), cache=str(cache or outputs / "cache")),
            "stage": Stage.evaluate,
        }
        return Config(**(groups | changes))

    def arguments(self, outputs: Path, cache: Path) -> list[str]:
        """The same as overrides of the command line, all stages."""
        return [
            f"model.id={self.model}", "dataset.reader=refer", f"dataset.folder={self.folder}",
            f"dataset.images={self.images}", "discovery.n_samples=20", "discovery.trials=2",
            "evaluation.resamples=50", "evaluation.random_draws=2", "evaluation.gallery=3",
            f"paths.outputs={outputs}", f"paths.cache={cache}", "engine.threads=1", "engine.device=cpu",
        ]  # fmt: skip

    def copy(self, root: Path) -> "TinyFiles":
        """A copy of the data set, to be damaged."""
        shutil.copytree(self.folder, root / "tiny")
        shutil.copytree(self.images, root / "images")
        return replace(self, folder=root / "tiny", images=root / "images")


@dataclass(frozen=True)
class Finished:
    """A run of the command line that went through all stages."""

    folder: Path
    cache: Path
    arguments: list[str]
    out: str
    err: str


@dataclass(frozen=True)
class Result:
    """What a user sees of the command line."""

    code: int
    out: str
    err: str


def call(patch: pytest.MonkeyPatch, arguments: list[str]) -> Result:
    """Own streams instead of capsys, because Hydra's log handlers keep the one they find."""
    out, err = io.StringIO(), io.StringIO()
    patch.setattr(sys, "argv", ["run.py", *arguments])
    patch.setattr(sys, "stdout", out)
    patch.setattr(sys, "stderr", err)
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    code: Any = 0
    try:
        cli.run(ROOT / "conf")
    except SystemExit as stop:
        code = stop.code
    finally:
        logging.raiseExceptions = True
        added = [handler for handler in root.handlers if handler not in handlers]
        root.handlers[:] = handlers
        root.setLevel(level)
        for handler in added:
            with suppress(OSError):  # a full disk
                handler.close()
        patch.setattr(sys, "stdout", sys.__stdout__)
        patch.setattr(sys, "stderr", sys.__stderr__)
    return Result(int(code or 0), out.getvalue(), err.getvalue())


@contextmanager
def small_disk_at(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; skips where mounting one is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("no right to mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
