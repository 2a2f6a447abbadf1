"""W&B: what it is told, that it needs no account, and that a run does not need it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from running import Result, TinyFiles

SECRET = "0123456789abcdef0123456789abcdef01234567"


class FakeRun:
    """Remembers what a run is told."""

    def __init__(self) -> None:
        self.summary: dict[str, float] = {}
        self.logged: dict[str, Any] = {}
        self.exit_codes: list[int | None] = []
        self.url = None
        self.dir = "files"

    def log(self, content: dict[str, Any]) -> None:
        self.logged |= content

    def finish(self, exit_code: int | None = None) -> None:
        self.exit_codes.append(exit_code)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`inits`: the options of every wandb.init; `run`: what it returned."""
    fake = SimpleNamespace(inits=[], run=FakeRun())

    def init(**options: Any) -> FakeRun:
        fake.inits.append(options)
        return fake.run

    monkeypatch.setattr(wandb, "init", init)
    return fake


@pytest.fixture
def tracked(files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result]) -> Callable[..., Result]:
    """The tiny run with tracker=wandb, up to the metrics."""

    def start(*overrides: str, multirun: bool = False) -> Result:
        mode = ["-m"] if multirun else []
        arguments = files.arguments(tmp_path / "out", store)
        return command(*mode, *arguments, "stage=evaluate", "tracker=wandb", *overrides)

    return start


def test_a_real_offline_run_needs_no_account(tracked: Callable[..., Result], tmp_path: Path) -> None:
    result = tracked("tracker.mode=offline")
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out" / "default").iterdir()
    (offline,) = (folder / "wandb").glob("offline-run-*")
    (record,) = offline.glob("*.wandb")
    assert record.stat().st_size > 1000
    images = offline / "files" / "media" / "images"
    assert len(list((images / "figures").glob("*.png"))) == 3
    assert len(list((images / "samples").glob("*.png"))) == 3
    assert f"wandb sync {offline}" in (folder / "run.log").read_text()
    assert "WARNING" not in (folder / "run.log").read_text()


def test_metrics_figures_pictures_and_tables_are_logged(
    tracked: Callable[..., Result], fake: SimpleNamespace, tmp_path: Path
) -> None:
    assert tracked("tracker.mode=offline").code == 0
    (folder,) = (tmp_path / "out" / "default").iterdir()
    methods = json.loads((folder / "metrics.json").read_text())["methods"]
    for method, metrics in methods.items():
        for metric, estimate in metrics.items():
            assert fake.run.summary[f"{method}/{metric}"] == estimate["value"]
            assert fake.run.summary[f"{method}/{metric}/high"] == estimate["high"]
    figures = {"figures/frequency", "figures/attention_sum", "figures/figure6"}
    assert figures < set(fake.run.logged)
    assert all(isinstance(fake.run.logged[name], wandb.Image) for name in figures)
    items = json.loads((folder / "gallery.json").read_text())
    captions = {name: image._caption for name, image in fake.run.logged.items() if name.startswith("samples/")}
    assert captions == {f"samples/{item['sample_id']}": item["expression"] for item in items}
    assert len(fake.run.logged["predictions"].data) == 30
    assert fake.run.exit_codes == [None]
    (options,) = fake.inits
    assert options["config"]["heads"]["k"] == 3
    assert options["mode"] == "offline"
    assert options["dir"] == str(folder)


def test_the_runs_of_a_sweep_are_one_group(tracked: Callable[..., Result], fake: SimpleNamespace) -> None:
    assert tracked("stage=attend", "heads.k=1,2", "study=mine", multirun=True).code == 0
    assert len(fake.inits) == 2
    assert len({options["group"] for options in fake.inits}) == 1
    assert fake.inits[0]["group"].startswith("mine")
    assert len({options["name"] for options in fake.inits}) == 2


def test_a_failed_run_is_closed_as_failed(tracked: Callable[..., Result], fake: SimpleNamespace) -> None:
    assert tracked("criterion.tau=5").code == 1
    assert fake.run.exit_codes == [1]


def test_a_wandb_that_does_not_start_is_a_warning(
    tracked: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    modes: list[str] = []

    def unreachable(mode: str, **_: Any) -> None:
        modes.append(mode)
        raise wandb.errors.CommError("the server cannot be reached")

    monkeypatch.setattr(wandb, "init", unreachable)
    result = tracked("tracker.mode=online")
    assert result.code == 0, result.err
    assert modes == ["online", "offline"]
    assert "WARNING W&B cannot start online (the server cannot be reached)." in result.out
    assert list((tmp_path / "out" / "default").glob("*/metrics.json"))


@pytest.mark.parametrize("method", ["log", "finish"])
def test_a_wandb_that_breaks_off_is_a_warning(
    method: str, tracked: Callable[..., Result], fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("broken pipe")

    monkeypatch.setattr(fake.run, method, broken)
    result = tracked("tracker.mode=offline")
    assert result.code == 0, result.err
    assert "WARNING W&B could not" in result.out
    assert "Traceback" not in result.out + result.err
    assert list((tmp_path / "out" / "default").glob("*/metrics.json"))


def test_auto_obeys_the_environment(
    tracked: Callable[..., Result], fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert tracked("stage=attend").code == 0
    assert fake.inits[0]["mode"] == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert tracked("stage=attend").code == 0
    assert fake.inits[1]["mode"] == "online"


def test_no_file_of_a_run_holds_the_key(
    tracked: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    result = tracked("tracker.mode=offline")
    assert result.code == 0, result.err
    assert SECRET not in result.out + result.err
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_tracker_none_does_not_touch_wandb(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], fake: SimpleNamespace
) -> None:
    assert command(*files.arguments(tmp_path / "out", store), "stage=discover").code == 0
    assert fake.inits == []
    assert not list((tmp_path / "out").rglob("wandb"))
