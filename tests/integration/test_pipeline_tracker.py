"""W&B: what it is told, read back from what it writes offline, and that a run needs neither it nor its server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image
from pycocotools import mask as coco
from running import ROOT, Result, TinyFiles
from wandb_files import Told, told
from wandb_server import free_port, server

from locheads.config import Config
from locheads.discovery.headset import read_headset
from locheads.pipeline.tracking import client, worker
from locheads.pipeline.tracking.config import TrackerConfig
from locheads.pipeline.tracking.names import artifact_name, init_options, sweep_record

SECRET = "0123456789abcdef0123456789abcdef01234567"
SAID = json.dumps({"said": {"complete": True}})
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
        patch.setattr(client, "INTERVAL", 0.0)
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


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[list[dict[str, Any]]]]:
    """Instead of W&B a program that writes down what it is told. -> the messages of every run so far."""
    numbers = iter(range(100))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def launch() -> subprocess.Popen[bytes]:
        path = tmp_path / f"heard_{next(numbers):02}"
        program = f"import sys; open({str(path)!r}, 'w').write(sys.stdin.read()); print({SAID!r})"
        return subprocess.Popen([sys.executable, "-c", program], **pipes)

    monkeypatch.setattr(client, "_launch", launch)
    return lambda: [[json.loads(line) for line in p.read_text().splitlines()] for p in sorted(tmp_path.glob("heard_*"))]


def test_the_same_run_has_the_same_id_and_another_has_another(tracked: Start, heard: Callable, tmp_path: Path) -> None:
    for number, override in enumerate(("tracker.timeout=30", "tracker.mode=offline", "seed=1")):
        assert tracked("stage=attend", f"hydra.run.dir={tmp_path}/{number}", override).code == 0
    first, again, other = (messages[0]["init"] for messages in heard())
    assert first["id"] == again["id"] != other["id"]
    assert first["resume"] == "allow"


def test_the_runs_of_a_sweep_are_one_group_and_again_they_are_the_same_runs(
    tracked: Start, heard: Callable, tmp_path: Path
) -> None:
    def runs(number: int, *overrides: str) -> list[tuple[str, str]]:
        sweep, before = tmp_path / "out" / "mine" / f"sweep_{number}", len(heard())
        arguments = ("stage=discover", "heads.k=1,2", "study=mine", f"hydra.sweep.dir={sweep}", *overrides)
        assert tracked(*arguments, multirun=True).code == 0
        return [(messages[0]["init"]["group"], messages[0]["init"]["id"]) for messages in heard()[before:]]

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
    ((first, last),) = heard()
    assert first["init"]["job_type"] == "evaluate"
    assert "heads.k=99 is more than the 12 heads" in last["error"]


@pytest.mark.parametrize("behaviour", ["error", "hang", "refused"])
def test_a_server_that_cannot_be_reached_means_offline(
    behaviour: str, tracked: Start, folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    with server(behaviour) as (url, asked):
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}" if behaviour == "refused" else url)
        result = tracked("tracker.mode=online", "tracker.timeout=9", "evaluation.gallery=1")
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


@pytest.mark.parametrize("program", ["import sys; sys.exit(3)", "import time; time.sleep(60)"])
def test_a_worker_that_dies_or_sleeps_is_a_warning(
    program: str, tracked: Start, folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    monkeypatch.setattr(client, "_launch", lambda: subprocess.Popen([sys.executable, "-c", program], **pipes))
    monkeypatch.setattr(client, "GRACE", 0.5)
    result = tracked("tracker.timeout=0.5")
    assert result.code == 0 and result.err == "", result.err
    assert "WARNING W&B" in result.out
    assert (folder() / "metrics.json").exists()


def test_no_worker_at_all_is_a_warning(tracked: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(client, "_launch", broken)
    result = tracked()
    assert result.code == 0
    assert "WARNING W&B cannot start (no more processes)" in result.out


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


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_worker_of_a_killed_run_closes_it_and_ends(files: TinyFiles, tmp_path: Path) -> None:
    arguments = [*files.arguments(tmp_path / "out", tmp_path / "cache"), "tracker=wandb", "tracker.mode=offline"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for(lambda: list(tmp_path.glob("out/default/*/wandb/*/*.wandb")) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    (run,) = (tmp_path / "out" / "default").iterdir()
    _wait_for(lambda: told(run).exit_code is not None)
    assert told(run).exit_code == 1
    assert told(run).summary["error"] == "the run was killed"


def test_auto_obeys_the_environment_and_the_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert worker.choose_mode("online") == "online"
    assert worker.choose_mode("auto") == "offline"  # WANDB_MODE, for all tests
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert worker.choose_mode("auto") == "online"


def test_below_a_sweep_agent_the_agent_names_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"id": "a", "resume": "allow", "project": "p", "entity": None, "group": "g"}
    assert worker.allowed(options) == options
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert worker.allowed(options) == {"group": "g"}


def test_several_runs_below_one_agents_run_are_refused(
    tracked: Start, heard: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    result = tracked("stage=discover", "heads.k=1,2", multirun=True)
    assert result.code == 1 and heard() == []
    assert "its run abc123, and -m makes 2 runs of it" in " ".join(result.out.split())
    # The negative controls: one run, as the agent expects it, and several without an agent.
    assert tracked("stage=attend", "heads.k=1", multirun=True).code == 0
    assert tracked("stage=attend").code == 0
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert tracked("stage=attend", "seed=0,1", multirun=True).code == 0
    assert len({messages[0]["init"]["id"] for messages in heard()[-2:]}) == 2


@pytest.mark.parametrize(
    ("overrides", "params", "jobs"),
    [
        (["heads.k=1,2", "seed=range(3)"], None, 6),
        (["heads.k=1", "runs=[a,b]", "~tracker", "study='a,b'"], None, 1),
        (["seed=1,2"], {"heads.k": "1,2,3"}, 6),
        (["heads.k=4"], {"heads.k": "1,2,3"}, 1),
    ],
)
def test_a_sweeps_record_says_how_many_runs_it_has(overrides: list[str], params: Any, jobs: int) -> None:
    assert sweep_record(overrides, params)["jobs"] == jobs


def test_names_that_wandb_would_refuse_are_made_to_fit() -> None:
    config = Config(study="a\nb" * 99, tracker=TrackerConfig(tags=["t" * 99, ""]))
    options = init_options(config, {}, Path("outputs") / ("r" * 200), "identity")
    assert [len(options[key]) for key in ("group", "name")] == [128, 128] and "\n" not in options["group"]
    assert options["tags"] == ["pocket", "t" * 64]
    assert len(artifact_name("größe" * 99, "0af")) == 128 and artifact_name("größe" * 99, "0af").isascii()


def test_the_same_sweep_has_the_same_id_wherever_it_is_tracked() -> None:
    def sweep_id(*overrides: str, params: Any = None) -> str:
        return sweep_record(list(overrides), params)["id"]

    assert sweep_id("heads.k=1,2", "seed=1") == sweep_id("seed=1", "tracker=wandb", "+tracker.tags=[a]", "heads.k=1,2")
    assert len({sweep_id("heads.k=1"), sweep_id("heads.k=2"), sweep_id("heads.k=1", params={"seed": "1,2"})}) == 3


def test_artifact_names_hold_what_wandb_allows() -> None:
    assert artifact_name("my study/a:1", "0af") == "my-study-a-1-0af"


def test_tracker_none_starts_nothing(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[SimpleNamespace] = []
    monkeypatch.setattr(client, "_launch", lambda: started.append(SimpleNamespace()))
    assert command(*files.arguments(tmp_path / "out", store), "stage=discover").code == 0
    assert started == []
    assert not list((tmp_path / "out").rglob("wandb"))


def test_a_timeout_that_makes_no_sense_is_refused(tracked: Start) -> None:
    result = tracked("tracker.timeout=0", "tracker.kind=none")
    assert (result.code, result.err) == (
        1,
        "error: tracker.timeout must be a positive number of seconds, at most 86,400, not 0.0.\n",
    )


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
