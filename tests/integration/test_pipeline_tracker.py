"""W&B: what it is told, read back from what it writes offline, and that a run needs neither it nor its server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import wandb
from PIL import Image
from pycocotools import mask as coco
from running import ROOT, Result, TinyFiles
from wandb_files import Told, told
from wandb_server import free_port, server

from locheads.discovery.headset import read_headset
from locheads.tracking import wandb_run

SECRET = "0123456789abcdef0123456789abcdef01234567"
LOG = "out/default/*/wandb/*/*.wandb"
Start = Callable[..., Result]


@pytest.fixture
def tracked(files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result]) -> Start:
    """The tiny run with tracker=wandb, up to the metrics."""

    def start(*overrides: str, multirun: bool = False) -> Result:
        arguments = [*files.arguments(tmp_path / "out", store), "stage=evaluate", "tracker=wandb", *overrides]
        return command(*(["-m"] if multirun else []), *arguments)

    return start


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """The newest run folder."""
    return lambda: max((p.parent for p in (tmp_path / "out").rglob("status.json")), key=lambda p: p.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def whole(files: TinyFiles, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told, Result]:
    """One tracked run through all stages: its folder, what W&B has of it, and what a user sees."""
    from running import call

    outputs = tmp_path_factory.mktemp("tracked")
    arguments = files.arguments(outputs, finished.cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.setattr(wandb_run, "INTERVAL", 0.0)
        result = call(patch, [*arguments, "tracker=wandb", "tracker.mode=offline", "tracker.tags=[mine]", "study=s"])
    assert result.code == 0, result.err
    (run,) = (outputs / "s").iterdir()
    return run, told(run), result


def test_an_offline_run_needs_no_account_and_says_how_to_upload(whole: tuple[Path, Told, Result]) -> None:
    run, _, result = whole
    (offline,) = (run / "wandb").glob("offline-run-*")
    assert f"W&B: offline; upload with: wandb sync {offline}" in (run / "run.log").read_text()
    assert "WARNING" not in (run / "run.log").read_text() and result.err == ""
    record = json.loads((run / "tracker.json").read_text())
    assert (record["folder"], record["mode"], record["complete"]) == (str(offline), "offline", True)


def test_project_group_job_type_tags_and_settings(whole: tuple[Path, Told, Result]) -> None:
    run, told_, _ = whole
    record = told_.run
    assert (record.project, record.run_group, record.job_type) == ("locheads", "s", "report")
    assert list(record.tags) == ["pocket", "mine"]
    assert record.display_name == run.name
    assert told_.config["heads"]["k"] == 3
    provenance = json.loads((run / "provenance.json").read_text())
    assert told_.config["provenance"]["digest"] == provenance["digest"]
    assert told_.config["provenance"]["model"]["weights"] == provenance["model"]["weights"]
    assert told_.exit_code == 0


def test_every_number_is_in_the_summary(whole: tuple[Path, Told, Result]) -> None:
    run, told_, _ = whole
    methods = json.loads((run / "metrics.json").read_text())["methods"]
    for method, metrics in methods.items():
        for metric, estimate in metrics.items():
            assert told_.summary[f"{method}/{metric}"] == estimate["value"]
            assert told_.summary[f"{method}/{metric}/high"] == estimate["high"]
    own = methods["localization_heads"]
    assert told_.summary["rec_acc50"] == own["rec_acc@0.5"]["value"]
    assert told_.summary["res_ciou"] == own["res_ciou"]["value"]


def test_the_history_holds_the_progress_of_every_stage(whole: tuple[Path, Told, Result]) -> None:
    history = whole[1].history
    done = [point["progress/ground/images"] for point in history if "progress/ground/images" in point]
    assert done == [1, 2, 3, 4, 5, 6]
    assert all(p["progress/ground/images_per_second"] > 0 for p in history if "progress/ground/images" in p)
    assert max(point.get("progress/discover/images", 0) for point in history) == 8


def test_samples_are_a_table_with_boxes_and_masks(whole: tuple[Path, Told, Result]) -> None:
    run, told_, _ = whole
    files = told_.artifacts["run_table"]
    table = json.loads(files["samples.table.json"].read_text())
    items = json.loads((run / "gallery.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["sample"] for row in rows] == [item["sample_id"] for item in items]
    assert [row["expression"] for row in rows] == [item["expression"] for item in items]
    predictions = pd.read_parquet(run / "predictions.parquet").set_index("sample_id")
    for row, item in zip(rows, items, strict=True):
        shown = row["boxes and mask"]
        for name, key in (("true", "true_box"), ("predicted", "box")):
            p = shown["boxes"][name][0]["position"]
            across, down = item["width"], item["height"]
            pixels = [p["minX"] * across, p["minY"] * down, p["maxX"] * across, p["maxY"] * down]
            assert pixels == pytest.approx(item[key])
        predicted = predictions.loc[item["sample_id"]]
        code = {"size": [predicted["mask_height"], predicted["mask_width"]], "counts": predicted["mask_counts"]}
        with Image.open(files[shown["masks"]["predicted"]["path"]]) as mask:
            np.testing.assert_array_equal(np.asarray(mask), coco.decode(code))
        with Image.open(files[row["heat map"]["path"]]) as panel:
            assert panel.width > 300
    assert {"figures/frequency", "figures/attention_sum", "figures/figure6"} <= {
        key.removesuffix("/_type") for key in told_.logged()
    }


def test_the_result_is_an_artifact_with_the_head_set(whole: tuple[Path, Told, Result]) -> None:
    run, told_, _ = whole
    files = told_.artifacts["result"]
    assert {"heads.json", "predictions.parquet", "metrics.json", "config.yaml", "provenance.json"} <= set(files)
    assert all(path == run / name and path.is_file() for name, path in files.items())
    assert read_headset(files["heads.json"]).layers == tiny.LAYERS


def test_no_file_of_a_run_holds_the_key(whole: tuple[Path, Told, Result]) -> None:
    run, _, result = whole
    assert SECRET not in result.out + result.err
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


class Run:
    """What of a W&B run is called, by itself and offline; it keeps what it is told."""

    offline, url, dir = True, None, "somewhere/files"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.id = options, options.get("id", "")
        self.summary: dict[str, Any] = {}
        self.config = SimpleNamespace(update=lambda *_, **__: None)
        self.exit_code: int | None = None

    def log(self, _: dict[str, Any]) -> None: ...

    def log_artifact(self, _: Any) -> None: ...

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that W&B was asked for, none of which it gets."""
    runs: list[Run] = []

    def init(**options: Any) -> Run:
        runs.append(Run(options))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    return runs


def test_the_same_run_has_the_same_id_and_another_has_another(tracked: Start, heard: list[Run], tmp_path: Path) -> None:
    for number, override in enumerate(("tracker.timeout=30", "tracker.mode=offline", "seed=1")):
        assert tracked("stage=attend", f"hydra.run.dir={tmp_path}/{number}", override).code == 0
    first, again, other = (run.options for run in heard)
    assert first["id"] == again["id"] != other["id"]
    assert first["resume"] == "allow"


def test_the_runs_of_a_sweep_are_one_group_and_again_they_are_the_same_runs(
    tracked: Start, heard: list[Run], tmp_path: Path
) -> None:
    def runs(number: int, *overrides: str) -> list[tuple[str, str]]:
        sweep, before = tmp_path / "out" / "mine" / f"sweep_{number}", len(heard)
        arguments = ("stage=discover", "heads.k=1,2", "study=mine", f"hydra.sweep.dir={sweep}", *overrides)
        assert tracked(*arguments, multirun=True).code == 0
        return [(run.options["group"], run.options["id"]) for run in heard[before:]]

    first = runs(0)
    assert len({run_id for _, run_id in first}) == 2
    sweep_id = json.loads((tmp_path / "out" / "mine" / "sweep_0" / "sweep.json").read_text())["id"]
    assert {group for group, _ in first} == {f"mine/{sweep_id}"}
    assert runs(1) == []  # all done before, and W&B has them
    assert runs(2, "tracker.project=other") == first  # which does not
    assert runs(3, "fresh=true") == first


def test_a_failed_run_is_closed_as_failed_with_its_reason(tracked: Start, folder: Callable[[], Path]) -> None:
    assert tracked("criterion.tau=5", "tracker.mode=offline").code == 1
    found = told(folder())
    assert found.exit_code == 1
    assert "criterion.tau=5.0 is above every mean attention sum" in found.summary["error"]


def test_a_run_that_cannot_even_begin_is_there_too(tracked: Start, heard: Callable) -> None:
    assert tracked("heads.k=99").code == 1
    (run,) = heard
    assert (run.options["job_type"], run.exit_code) == ("evaluate", 1)
    assert "heads.k=99 is more than the 12 heads" in run.summary["error"]


@pytest.mark.parametrize("behaviour", ["error", "hang", "refused"])
def test_a_server_that_cannot_be_reached_means_offline(
    behaviour: str, tracked: Start, folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setattr(wandb_run, "SHARE", 0.05)
    with server(behaviour) as (url, asked):
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}" if behaviour == "refused" else url)
        result = tracked("tracker.mode=online", "tracker.timeout=60", "evaluation.gallery=1")
    assert result.code == 0 and result.err == "", result.err
    assert "WARNING W&B cannot start online (" in result.out
    assert "W&B: offline; upload with: wandb sync" in result.out
    assert bool(asked) == (behaviour != "refused")
    (offline,) = (folder() / "wandb").glob("offline-run-*/*.wandb")
    assert offline.stat().st_size > 1000
    assert json.loads((folder() / "tracker.json").read_text())["complete"]


@pytest.mark.parametrize("behaviour", ["error late", "hang late"])
def test_a_server_that_breaks_off_is_a_warning_and_the_run_ends(
    behaviour: str, tracked: Start, folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    with server(behaviour) as (url, asked):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        result = tracked("tracker.mode=online", "tracker.timeout=6", "evaluation.gallery=1")
    assert result.code == 0 and result.err == "", result.err
    assert any("UpsertBucket" in request for request in asked)
    assert "WARNING W&B" in result.out and "the run folder has everything" in result.out
    assert "Traceback" not in result.out
    assert (folder() / "metrics.json").exists()
    assert not json.loads((folder() / "tracker.json").read_text()).get("complete")


@pytest.mark.parametrize("call", ["init", "log", "finish"])
@pytest.mark.parametrize("hangs", [True, False])
def test_a_call_that_hangs_or_fails_is_a_warning(
    call: str,
    hangs: bool,
    tracked: Start,
    folder: Callable[[], Path],
    heard: list[Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = Event()

    def broken(*_: Any, **__: Any) -> None:
        if hangs:
            over.wait()
        raise OSError("no more processes")

    monkeypatch.setattr(wandb if call == "init" else Run, call, broken)
    monkeypatch.setattr(wandb_run, "GRACE", 0.1)
    result = tracked("tracker.timeout=1" if hangs else "tracker.timeout=60")
    over.set()
    assert result.code == 0 and result.err == "", result.err
    why = "did not answer within 1 seconds" if hangs else "(no more processes)"
    (warning, *_) = [line for line in result.out.splitlines() if "WARNING W&B" in line]
    assert why in warning and "the run folder has everything" in result.out
    assert (folder() / "metrics.json").exists()
    whole = call == "log" and not hangs  # W&B has all but what it refused
    assert json.loads((folder() / "tracker.json").read_text()).get("complete", False) == whole


def test_what_fails_again_and_again_is_said_once(tracked: Start, heard: list[Run], monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(Run, "log", broken)
    monkeypatch.setattr(wandb_run, "INTERVAL", 0.0)
    assert tracked().out.count("could not log the progress (full)") == 1


def test_wandb_that_ends_the_process_is_a_warning(
    tracked: Start, heard: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "teardown", sys.exit)  # as it does where its service process failed
    result = tracked("stage=attend")
    assert result.code == 0
    assert "WARNING W&B could not stop (" in result.out


def test_no_wandb_is_a_warning(tracked: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    result = tracked("stage=attend")
    assert result.code == 0
    assert "WARNING W&B cannot start (" in result.out and "the run folder has everything" in result.out


def test_wandb_sync_reads_and_sends_an_offline_run(
    whole: tuple[Path, Told, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (offline,) = (whole[0] / "wandb").glob("offline-run-*")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    with server("error late") as (url, asked):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        process = subprocess.Popen(
            [sys.executable, "-m", "wandb", "sync", str(offline)],
            cwd=whole[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(lambda: any("mutation UpsertBucket" in request for request in asked))
        finally:
            process.kill()
            process.wait()
    (made, *_) = (request for request in asked if "mutation UpsertBucket" in request)
    sent = json.loads(made.split(" ", 1)[1])["variables"]
    record = json.loads((whole[0] / "tracker.json").read_text())
    assert (sent["name"], sent["project"], sent["groupName"]) == (record["id"], "locheads", "s")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_the_service_of_a_killed_run_ends(files: TinyFiles, tmp_path: Path) -> None:
    with _started(files, tmp_path) as process:
        _wait_for(lambda: _services(process.pid) and list(tmp_path.glob(LOG)))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        _wait_for(lambda: not _services(process.pid))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_a_service_that_hangs_does_not_hold_the_end_of_the_process(files: TinyFiles, tmp_path: Path) -> None:
    with _started(files, tmp_path, "tracker.timeout=3") as process:
        _wait_for(lambda: _services(process.pid) and list(tmp_path.glob(LOG)))
        for service in _services(process.pid):  # while one starts another, there may be two
            with suppress(ProcessLookupError):
                os.kill(service, signal.SIGSTOP)
        assert process.wait(timeout=300) == 0
        assert not _services(process.pid)
    (log,) = tmp_path.glob("out/default/*/run.log")
    assert "W&B did not answer within 3 seconds" in log.read_text()
    assert not json.loads((log.parent / "tracker.json").read_text()).get("complete")
    assert (log.parent / "report.html").exists()
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_several_runs_below_one_agents_run_are_refused(
    tracked: Start, heard: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    result = tracked("stage=discover", "heads.k=1,2", multirun=True)
    assert result.code == 1 and heard == []
    assert "its run abc123, and -m makes 2 runs of it" in " ".join(result.out.split())
    # The negative controls: one run, as the agent expects it, and several without an agent.
    assert tracked("stage=attend", "heads.k=1", multirun=True).code == 0
    assert tracked("stage=attend").code == 0
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert tracked("stage=attend", "seed=0,1", multirun=True).code == 0
    assert len({run.options["id"] for run in heard[-2:]}) == 2


def test_tracker_none_starts_nothing(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], heard: list[Run]
) -> None:
    assert command(*files.arguments(tmp_path / "out", store), "stage=discover").code == 0
    assert heard == []
    assert not list((tmp_path / "out").rglob("wandb"))


def test_a_run_leaves_the_process_as_it_was(tracked: Start) -> None:
    before = dict(os.environ), sys.exit, sys.excepthook
    assert tracked("stage=discover", "heads.k=1,2", multirun=True).code == 0
    assert (dict(os.environ), sys.exit, sys.excepthook) == before
    assert not Path("/proc/self").exists() or not _services(os.getpid())


def test_a_timeout_that_makes_no_sense_is_refused(tracked: Start) -> None:
    result = tracked("tracker.timeout=0", "tracker.kind=none")
    assert (result.code, result.err) == (
        1,
        "error: tracker.timeout must be a positive number of seconds, at most 86,400, not 0.0.\n",
    )


@contextmanager
def _started(files: TinyFiles, root: Path, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tracked run in a process of its own; whatever is left of it is killed at the end."""
    arguments = [*files.arguments(root / "out", root / "cache"), "tracker=wandb", "tracker.mode=offline", *overrides]
    with (root / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments], cwd=root, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for service in _services(process.pid):
            os.kill(service, signal.SIGKILL)


def _services(pid: int) -> list[int]:
    """Processes that wandb runs for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"wandb-core") and str(pid).encode() in words:
                found.append(int(path.parent.name))
    return found


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
