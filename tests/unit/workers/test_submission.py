"""What a submission would do, without a queue."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import MissingMandatoryValue

from locheads.config import Config
from locheads.errors import ConfigError
from locheads.models.engine import EngineConfig
from locheads.pipeline import cli
from locheads.pipeline.cli import CONF, composed
from locheads.store.atomic import write_json
from locheads.store.derived import write_derived_json
from locheads.workers import slurm, submission
from locheads.workers.__main__ import main
from locheads.workers.config import ShardConfig
from locheads.workers.shard_progress import ShardProgress, ShardState
from locheads.workers.shard_table import ShardRow
from locheads.workers.submission import (
    CPU,
    GPU,
    WHOLE_PASS,
    chain,
    decoder_parameters,
    estimated_rate,
    from_benchmark,
    to_queue,
)

SHAPE: dict[str, Any] = {
    "name": "small",
    "hidden": 10,
    "layers": 2,
    "intermediate": 20,
    "prefix": 90,
    "suffixes": 3,
    "suffix_length": 10,
}


def config(maps: str = "all") -> Config:
    return Config(engine=EngineConfig(maps=maps), shard=ShardConfig(count=4))


def benchmark(folder: Path, **changes: object) -> Path:
    path = folder / "attention.json"
    step = {"name": WHOLE_PASS, "time": {"median": 20.0}}
    path.write_text(json.dumps({"shape": SHAPE, "machine": {"device": "cpu"}, "steps": [step]} | changes))
    return path


def row(shard: int, state: ShardState, left: float = 1.0, **content: object) -> ShardRow:
    return ShardRow(shard, ShardProgress(state, content), 1, 0, left)


def test_every_job_waits_for_the_one_before(tmp_path: Path) -> None:
    jobs = chain(config(), "m-d", ["model=m"], tmp_path, CONF, [0, 2, 3])
    assert [(job.name, job.launcher, len(job.tasks), job.after) for job in jobs] == [
        ("m-d/attend", GPU, 3, None),
        ("m-d/discover", CPU, 1, "m-d/attend"),
        ("m-d/evaluate", CPU, 1, "m-d/discover"),
        ("m-d/report", CPU, 1, "m-d/evaluate"),
    ]
    assert jobs[0].tasks[0].overrides == ("model=m", "stage=attend", "shard.count=4")
    assert jobs[3].tasks[0].overrides == ("model=m", "stage=report")


def test_a_shard_belongs_to_one_process_of_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = chain(config(), "m-d", [], tmp_path, CONF, [0, 2, 3], ranks=2)[0].tasks
    assert [task.shards for task in array] == [(0, 2), (3,)]
    started: list[list[str]] = []
    monkeypatch.setattr(cli, "run", lambda _: started.append(sys.argv[-2:]))
    monkeypatch.setattr(sys, "argv", [])
    for task, rank in ((0, 0), (0, 1), (1, 0), (1, 1)):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        array[task]()
    folder = tmp_path / "m-d" / "attend"
    assert started == [
        ["shard.index=0", f"hydra.run.dir='{folder}/0.0'"],
        ["shard.index=2", f"hydra.run.dir='{folder}/0.1'"],
        ["shard.index=3", f"hydra.run.dir='{folder}/1.0'"],
    ]


def test_a_full_store_needs_no_gpu_and_a_compact_one_two_passes(tmp_path: Path) -> None:
    assert [job.launcher for job in chain(config(), "m-d", [], tmp_path, CONF, [])] == [CPU] * 3
    compact = chain(config("top 20"), "m-d", [], tmp_path, CONF, range(4))
    assert [job.name for job in compact if job.launcher == GPU] == ["m-d/attend1", "m-d/attend2"]
    assert compact[1].after == "m-d/attend1"


def test_what_is_missing_is_queued_unless_its_job_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        row(0, ShardState.done, 0.0),
        row(1, ShardState.failed),
        row(2, ShardState.silent, worker={"job": "7_2"}),
        row(3, ShardState.running, worker={"job": "7_3"}),
        row(4, ShardState.running, worker={"job": "7_4"}),
        row(5, ShardState.running, worker={"job": None}),
        row(6, ShardState.not_begun),
        row(6, ShardState.done, 0.0),
    ]
    monkeypatch.setattr(submission.shutil, "which", lambda _: "squeue")
    monkeypatch.setattr(submission, "in_queue", lambda ids: [("7_3", "RUNNING")] if ids == {"7_3", "7_4"} else [])
    assert to_queue(rows) == [1, 2, 4, 6]
    monkeypatch.setattr(submission.shutil, "which", lambda _: None)
    assert to_queue(rows) == [1, 2, 6]


def test_the_benchmarks_rate_is_scaled_by_parameters(tmp_path: Path) -> None:
    own = decoder_parameters(SHAPE)
    assert own == 2 * (4 * 100 + 3 * 200)
    rate = from_benchmark(benchmark(tmp_path), 10 * own)
    # 90 / 3 + 10 tokens per expression in 20 ms, on a decoder a tenth of the size.
    assert rate is not None and rate[0] == pytest.approx(2000 / 10)
    assert from_benchmark(tmp_path / "absent.json", own) is None
    with pytest.raises(ConfigError, match="is no record of"):
        from_benchmark(benchmark(tmp_path, steps=[]), own)


def test_earlier_workers_tell_the_rate_before_the_benchmark(tmp_path: Path) -> None:
    rows = [
        row(0, ShardState.done, tokens_done=100.0, seconds=2.0),
        row(1, ShardState.done, tokens_done=300.0, seconds=2.0),
        row(2, ShardState.running, tokens_done=0.0, seconds=0.0),
    ]
    path = benchmark(tmp_path)
    assert estimated_rate(rows, path, SHAPE) == (100, "measured by 2 earlier workers of this store")
    assert estimated_rate(rows[2:], path, SHAPE) == from_benchmark(path, decoder_parameters(SHAPE))
    assert estimated_rate(rows[2:], tmp_path / "absent.json", SHAPE) is None


def test_the_sites_keys_and_the_command_lines_reach_the_launcher() -> None:
    launcher = composed(CONF, ["hydra/launcher=slurm", "hydra.launcher.partition=spot"])[1]
    assert launcher["partition"] == "spot"
    assert launcher["max_num_timeout"] > 0
    assert "submitit_folder" not in launcher


def test_a_dry_run_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["submit", "--models", "pocket", "--datasets", "pocket", "--shards", "3", "--dry-run"]
    arguments += ["--benchmark", str(benchmark(tmp_path)), f"paths.outputs={tmp_path}", "dataset.limit=20"]
    assert main([*arguments, "discovery.n_samples=5"]) == 0
    out = capsys.readouterr().out
    assert "pocket-pocket/attend" in out
    assert "0 of " in out
    assert "GPU hours (estimate)" in out and "benchmark of shape small on cpu" in out
    assert "discovery.draw=expression: 25 expressions of " in out and "discovery.draw=image: " in out
    assert "Nothing was submitted" in out
    assert not list(tmp_path.rglob("chain.json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--models", "pocke", "--datasets", "pocket"], "There is no model=pocke. Did you mean pocket?"),
        (["--models", "pocket", "--datasets", "pocket", "heads.kk=1"], "There is no setting heads.kk."),
        (["--models", "pocket", "--datasets", "pocket", "--shards", "0"], "shard.count must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--dry-run", *arguments, f"paths.outputs={tmp_path}"]) == 1
    assert says in capsys.readouterr().err


def test_a_folder_that_is_no_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 1
    assert "holds no chain.json: give the folder that the submission printed" in capsys.readouterr().err


def test_the_jobs_of_a_submission_and_why_any_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = chain(config(), "m-d", [], tmp_path, CONF, [0, 1])
    ids = {job.name: str(number) for number, job in enumerate(jobs)}
    write_derived_json(tmp_path / "chain.json", {"jobs": [job.record(ids[job.name]) for job in jobs]})
    queue = [("0_0", "COMPLETED"), ("0_1", "FAILED"), ("1", "PENDING (DependencyNeverSatisfied)")]
    monkeypatch.setattr(slurm, "in_queue", lambda *_: queue)

    def ended(run: Path, error: str | None) -> None:
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "status.json", {"state": "failed" if error else "done", "error": error})

    run = tmp_path / "m-d"
    ended(run / "attend" / "0.0", None)
    ended(run, None)
    assert main(["status", str(tmp_path)]) == 0
    ended(run / "attend" / "1.0", "The disk is full.")
    ended(run, "No heads.")
    assert main(["status", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "0  m-d/attend: 1 COMPLETED, 1 FAILED\n" in out
    assert "1  m-d/discover: 1 PENDING (DependencyNeverSatisfied)\n" in out
    assert "3  m-d/report: gone\n" in out
    assert f"m-d/attend/1.0: The disk is full. (log: {run}/attend/1.0/run.log)\n" in out
    # The stages after attend share a folder: what it tells is the newest one's.
    assert out.count("No heads.") == 1 and f"m-d: No heads. (log: {run}/run.log)\n" in out


def test_a_value_that_is_missing_is_not_the_default() -> None:
    with pytest.raises(MissingMandatoryValue, match=r"heads\.k"):
        composed(CONF, ["heads.k=???"])
    assert composed(CONF, ["heads.k=2"])[0].heads.k == 2


def test_the_old_name_of_the_command_names_the_new_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locheads.cluster", "status", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "is now called python -m locheads.workers" in result.stderr
    assert "holds no chain.json: give the folder that the submission printed" in result.stderr
