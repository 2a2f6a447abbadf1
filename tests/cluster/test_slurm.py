"""The pocket study on a real SLURM: the same files as from one process, whatever dies in between."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import Slurm, until

from locheads.workers.shard_progress import ShardProgress, ShardState, read_progress

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("metrics.json", "heads.json", "predictions.parquet", "baselines.parquet", "scores.parquet")
SETTINGS = (
    "discovery.n_samples=40", "discovery.trials=3", "dataset.limit=80", "evaluation.resamples=50",
    "evaluation.random_draws=2", "evaluation.gallery=0", "engine.threads=1", "engine.device=cpu",
)  # fmt: skip
PAPER = ("criterion=s_img_entropy", "selection=fixed")
PAPER_RUN = 4
"""Its number in the sweep."""
NODE = ("cpus_per_task=1", "gpus_per_node=null", "mem_gb=null")
"""What the nodes of the test have."""
PATIENCE_S = 400
SHARDS = 4


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Table 5 sweep by one process -> its folder."""
    outputs = tmp_path_factory.mktemp("alone")
    python("run.py", "-m", "experiment=table5_criteria", f"paths.outputs={outputs}", *SETTINGS)
    (sweep,) = (outputs / "table5_criteria").glob("sweep_*")
    return sweep


def test_an_array_and_a_sweep_with_dependencies(slurm: Slurm, alone: Path, tmp_path: Path) -> None:
    ids, run, text = submit(slurm, tmp_path, 10)
    assert "0 of " in text and "estimate" in text
    assert list(ids) == [f"pocket-pocket/{name}" for name in ("attend", "discover", "evaluate", "report")]
    launcher = [f"hydra.launcher.{each}" for each in NODE]
    python(
        "run.py", "-m", "hydra/launcher=slurm", "experiment=table5_criteria", f"paths.outputs={tmp_path}", *SETTINGS,
        *launcher, f"+hydra.launcher.additional_parameters.dependency=afterok:{ids['pocket-pocket/attend']}",
        environment=slurm.environment,
    )  # fmt: skip
    slurm.wait(list(ids.values()), PATIENCE_S)
    assert {slurm.state(job) for job in ids.values()} == {"COMPLETED"}
    same(run, numbered(alone, PAPER_RUN))
    assert (run / "report.html").exists()
    (sweep,) = (tmp_path / "table5_criteria").glob("sweep_*")
    for number in range(6):
        same(numbered(sweep, number), numbered(alone, number))
        # The sweep's jobs read the store and never loaded the model.
        assert "Loading" not in (numbered(sweep, number) / "run.log").read_text()
    # Each shard was one task's, and nothing was asked twice.
    array = ids["pocket-pocket/attend"]
    said = [progress(tmp_path, shard) for shard in range(SHARDS)]
    assert [each.content["worker"]["job"] for each in said] == [f"{array}_{shard}" for shard in range(SHARDS)]
    assert {each.state for each in said} == {ShardState.done}
    listings = [json.loads(path.read_text()) for path in (tmp_path / "cache").rglob("*.shard.json")]
    stored = [one["image_id"] for each in listings for one in each["pictures"]]
    assert len(stored) == len(set(stored)) == sum(each.content["images"] for each in said)


def test_whatever_ends_a_worker_the_same_command_goes_on(slurm: Slurm, alone: Path, tmp_path: Path) -> None:
    ids, _, _ = submit(slurm, tmp_path, 1)
    array = ids["pocket-pocket/attend"]
    workers = frozen_after_an_image(tmp_path)
    tasks = [worker.content["worker"]["job"] for worker in workers]
    assert tasks == [f"{array}_{task}" for task in range(SHARDS)]
    cancelled, killed, requeued, _ = workers

    slurm.command("scancel", tasks[0])
    os.kill(pid(killed), signal.SIGKILL)
    slurm.command("scontrol", "requeue", tasks[2])
    # Frozen processes answer a signal once they go on.
    for worker in (cancelled, requeued):
        wake(worker)
    # Near its time limit SLURM wakes it with SIGUSR2: the worker stores what it has and queues itself again.
    for task in tasks[2:]:
        until(lambda task=task: restarted(slurm, task), f"the second life of {task}", PATIENCE_S)
    (log,) = tmp_path.rglob(f"{tasks[3]}_0_log.err")
    assert "this job is timed-out" in log.read_text()
    # The scheduler's second lives finish their own shards; nobody takes those of the dead.
    until(
        lambda: all(progress(tmp_path, shard).state is ShardState.done for shard in (2, 3)),
        "shards 2 and 3",
        PATIENCE_S,
    )
    assert progress(tmp_path, 0).state is ShardState.stopped
    slurm.wait(list(ids.values()), PATIENCE_S)
    states = {name: slurm.state(job) for name, job in ids.items()}
    assert {states[f"pocket-pocket/{stage}"] for stage in ("discover", "evaluate", "report")} == {"CANCELLED"}

    ids, run, text = submit(slurm, tmp_path, 10)
    assert re.search(r"\b0 of ", text) is None  # nothing is asked twice
    slurm.wait(list(ids.values()), PATIENCE_S)
    assert {slurm.state(job) for job in ids.values()} == {"COMPLETED"}
    tasks = [progress(tmp_path, shard).content["worker"]["job"] for shard in range(SHARDS)]
    again = ids["pocket-pocket/attend"]
    assert tasks == [f"{again}_0", f"{again}_1", f"{array}_2", f"{array}_3"]
    same(run, numbered(alone, PAPER_RUN))


def submit(slurm: Slurm, outputs: Path, minutes: int) -> tuple[dict[str, str], Path, str]:
    """-> (name -> job id, run folder, what was printed)."""
    launcher = [f"hydra.launcher.{each}" for each in (*NODE, f"timeout_min={minutes}", "signal_delay_s=1")]
    text = python(
        "-m", "locheads.workers", "submit", "--models", "pocket", "--datasets", "pocket", "--shards", str(SHARDS),
        f"paths.outputs={outputs}", *SETTINGS, *PAPER, "engine.shard_images=1", *launcher,
        environment=slurm.environment,
    )  # fmt: skip
    chain = max((outputs / "default").glob("cluster_*/chain.json"), key=lambda path: path.stat().st_mtime)
    jobs = json.loads(chain.read_text())["jobs"]
    return {job["name"]: job["id"] for job in jobs}, Path(jobs[-1]["folder"]), text


def python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Standard output of a process that must end well."""
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=os.environ | (environment or {})
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def same(run: Path, reference: Path) -> None:
    for name in RESULTS:
        assert (run / name).read_bytes() == (reference / name).read_bytes(), name


def numbered(sweep: Path, number: int) -> Path:
    """The run folder of a sweep's job."""
    (folder,) = sweep.glob(f"{number}_*")
    return folder


def progress(outputs: Path, shard: int) -> ShardProgress:
    """What the shard's worker says; not begun where there is none yet."""
    files = list((outputs / "cache").glob(f"attention/*/work/*/{shard:04d}.json"))
    return read_progress(files[0]) if files else ShardProgress(ShardState.not_begun, {})


def frozen_after_an_image(outputs: Path) -> list[ShardProgress]:
    """Stops every shard's worker once it has stored something, with the rest still to do."""
    frozen: dict[int, ShardProgress] = {}

    def freeze() -> bool:
        for shard in set(range(SHARDS)) - set(frozen):
            said = progress(outputs, shard)
            if said.content.get("images_done", 0) > 0:
                os.kill(pid(said), signal.SIGSTOP)
                frozen[shard] = said
        return len(frozen) == SHARDS

    until(freeze, "an image of every shard", PATIENCE_S)
    for said in frozen.values():
        assert said.state is ShardState.running
        assert said.content["images_done"] < said.content["images"]
    return [frozen[shard] for shard in range(SHARDS)]


def restarted(slurm: Slurm, task: str) -> bool:
    fields = slurm.command("scontrol", "show", "job", "-o", task).split()
    return "Restarts=1" in fields and "JobState=RUNNING" in fields


def pid(worker: ShardProgress) -> int:
    return worker.content["worker"]["pid"]


def wake(worker: ShardProgress) -> None:
    os.kill(pid(worker), signal.SIGCONT)
