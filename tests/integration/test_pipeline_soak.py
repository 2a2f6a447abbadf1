"""Random kills, and a disk that fills: what was finished stays, and the end is the same to the byte."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from running import Result, TinyFiles, execute, small_disk_at

from locheads.config import Config, PathsConfig, Stage
from locheads.data.config import DatasetConfig
from locheads.discovery.config import DiscoveryConfig
from locheads.evaluation.config import EvaluationConfig
from locheads.models.engine import EngineConfig
from locheads.models.identity import identify
from locheads.pipeline import attend_stage
from locheads.pipeline.attend_stage import attend_shards, passes
from locheads.pipeline.inputs import load_inputs
from locheads.pipeline.loader import Loader
from locheads.pipeline.open_store import open_store
from locheads.pipeline.prepare import prepare
from locheads.pipeline.setup import Setup
from locheads.workers.config import ShardConfig
from locheads.workers.shard_progress import ShardState, read_progress

KILLS, SEED = 50, 20_250_611
SHARDS = 2
SAME = ("heads.json", "metrics.json", "predictions.parquet", "baselines.parquet", "scores.parquet")
ENGINE = EngineConfig(device="cpu", threads=1, shard_images=2, workers=0)


def pocket(outputs: Path, **changes: object) -> Config:
    """The shipped model on 44 images."""
    config = Config(
        dataset=DatasetConfig(limit=40),
        discovery=DiscoveryConfig(n_samples=20, trials=2),
        evaluation=EvaluationConfig(random_draws=2, resamples=50, gallery=0),
        engine=ENGINE,
        paths=PathsConfig(outputs=str(outputs), cache=str(outputs / "cache")),
        stage=Stage.evaluate,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def content_of(config: Config) -> dict[str, bytes]:
    """Sample id -> what the store holds of it; the same however the pass was cut up and interrupted."""
    inputs = load_inputs(config)
    store = open_store(config, identify(config.model), inputs.annotations)
    found = {}
    for one in store.read([*inputs.discovery, *inputs.evaluated]):
        for i, sample_id in enumerate(one.sample_ids):
            found[sample_id] = one.maps[i].tobytes()
    return found


def fork(action: Callable[[], object]) -> int:
    """A process of its own, without the seconds that importing torch takes. -> its id."""
    if process := os.fork():
        return process
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        action()
        code = 0
    finally:
        os._exit(code)


def drive(run: Setup, note: Path) -> None:
    """A driver with a worker for each of the two shards: ends when they do."""

    def worker(index: int) -> int:
        config = replace(run.config, shard=ShardConfig(count=SHARDS, index=index))
        return fork(lambda: attend_shards(replace(run, config=config)))

    workers = [worker(index) for index in range(SHARDS)]
    note.write_text(" ".join(map(str, workers)))
    for worker in workers:
        os.waitpid(worker, 0)


def shot(run: Setup, note: Path, rng: random.Random) -> str:
    """Starts a driver and kills one of the three processes at a random moment, and soon the rest. -> whom."""
    note.write_text("")
    driver = fork(lambda: drive(run, note))
    while len(workers := note.read_text().split()) < 2:
        time.sleep(0.001)
    victims = {"driver": driver, "first worker": int(workers[0]), "second worker": int(workers[1])}
    time.sleep(rng.uniform(0, 0.3))
    victim = rng.choice(list(victims))
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(victims[victim], signal.SIGKILL)
    # The others go on for a moment: a worker outlives another, or its driver.
    time.sleep(rng.choice([0.0, 0.1]))
    for process in victims.values():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    os.waitpid(driver, 0)
    while any(is_alive(int(worker)) for worker in workers):
        time.sleep(0.001)
    return victim


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_50_random_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, kills, hits = random.Random(SEED), Counter[str](), 0
    alone = tmp_path / "alone"
    execute(pocket(alone), alone / "run")
    expected = content_of(pocket(alone))
    loader = Loader(pocket(alone))
    loader.get(None)
    # Forked workers share the loaded weights.
    monkeypatch.setattr(attend_stage, "Loader", lambda _: loader)
    while kills.total() < KILLS:
        # As many kills as one pass takes to end, then the next pass from an empty store.
        outputs = tmp_path / f"pass_{kills.total()}"
        config = pocket(outputs, stage=Stage.attend, shard=ShardConfig(count=SHARDS))
        while kills.total() < KILLS:
            run = prepare(config, outputs / "run", {})
            if not run.store.missing(passes(run)[0].groups):
                break
            kills[shot(run, outputs / "workers.txt", rng)] += 1
            files = passes(run)[0].progress_files(run.store, SHARDS)
            hits += any(read_progress(file).state is ShardState.running for file in files)
        for index in range(SHARDS):
            execute(replace(config, shard=ShardConfig(count=SHARDS, index=index)), outputs / "last")
        assert content_of(pocket(outputs)) == expected
    assert min(kills.values()) > 5 and len(kills) == 3
    assert hits > 0, "no kill hit a worker with a shard"
    execute(pocket(outputs), outputs / "run")
    for name in SAME:
        assert (outputs / "run" / name).read_bytes() == (alone / "run" / name).read_bytes(), name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; skips where mounting one is not allowed."""
    with small_disk_at(tmp_path / "disk", "64k") as folder:
        yield folder


def test_a_disk_that_fills_at_any_write_goes_on_when_there_is_room(
    files: TinyFiles, small_disk: Path, tmp_path: Path, command: Callable[..., Result]
) -> None:
    def start(cache: Path, *more: str) -> Result:
        return command(*files.arguments(tmp_path / "out", cache), "engine.shard_images=1", *more)

    def all_shards() -> Result:
        for index in range(3):
            result = start(small_disk / "cache", "stage=attend", "shard.count=3", f"shard.index={index}")
            if result.code != 0:
                break
        return result

    kept: set[str] = set()
    rng, size = random.Random(SEED), 64
    while (result := all_shards()).code != 0:
        assert result.err.startswith("error: Cannot write ")
        assert "No space left on device" in result.err
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.out + result.err
        there = {path.name for path in small_disk.rglob("*.shard.json")}
        assert kept <= there, "something that was finished is lost"
        kept = there
        size += rng.randint(60, 250)
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
    assert size > 64, "it never was full"
    places = {small_disk / "cache": tmp_path / "runs" / "small", tmp_path / "cache": tmp_path / "runs" / "large"}
    for cache, folder in places.items():
        assert start(cache, "stage=evaluate", f"hydra.run.dir={folder}").code == 0
    folders = sorted(places.values())
    one, other = [folder for folder in folders if (folder / "metrics.json").exists()]
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert json.loads((one / "metrics.json").read_text())["n_failed"] == 0
