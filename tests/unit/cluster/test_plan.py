"""What a submission would do, without a queue."""

import json
from pathlib import Path

import pytest
from omegaconf.errors import MissingMandatoryValue

from locheads.cluster.__main__ import CONF, main
from locheads.cluster.chain import CPU, GPU, chain
from locheads.cluster.estimate import WHOLE_PASS, decoder_parameters, from_benchmark, measured
from locheads.config import Config
from locheads.errors import ConfigError
from locheads.models.engine import EngineConfig
from locheads.pipeline.compose import composed
from locheads.sharding.config import ShardConfig
from locheads.sharding.lease import Record, State

SHAPE = {
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


def test_every_job_waits_for_the_one_before(tmp_path: Path) -> None:
    jobs = chain(config(), "m-d", ["model=m"], tmp_path, CONF, 4)
    assert [(job.name, job.kind, job.workers, job.after) for job in jobs] == [
        ("m-d/attend", GPU, 4, None),
        ("m-d/discover", CPU, 1, "m-d/attend"),
        ("m-d/evaluate", CPU, 1, "m-d/discover"),
        ("m-d/report", CPU, 1, "m-d/evaluate"),
    ]
    assert jobs[0].command.overrides == ("model=m", "stage=attend", "shard.count=4", "shard.lease_s=90.0")
    assert jobs[3].command.overrides == ("model=m", "stage=report")


def test_a_full_store_needs_no_gpu_and_a_compact_one_two_passes(tmp_path: Path) -> None:
    assert [job.kind for job in chain(config(), "m-d", [], tmp_path, CONF, 0)] == [CPU] * 3
    compact = chain(config("top 20"), "m-d", [], tmp_path, CONF, 4)
    assert [job.name for job in compact if job.kind == GPU] == ["m-d/attend1", "m-d/attend2"]
    assert compact[1].after == "m-d/attend1"


def test_the_benchmarks_rate_is_scaled_by_parameters(tmp_path: Path) -> None:
    own = decoder_parameters(SHAPE)
    assert own == 2 * (4 * 100 + 3 * 200)
    rate = from_benchmark(benchmark(tmp_path), 10 * own)
    assert rate is not None
    # 90 / 3 + 10 tokens per expression in 20 ms, on a decoder a tenth of the size.
    assert rate.tokens_per_second == pytest.approx(2000 / 10)
    assert rate.hours(720_000) == pytest.approx(1.0)
    assert from_benchmark(tmp_path / "absent.json", own) is None
    with pytest.raises(ConfigError, match="is no record of"):
        from_benchmark(benchmark(tmp_path, steps=[]), own)


def test_earlier_workers_tell_the_rate() -> None:
    records = [
        Record(State.done, 0, {"tokens_done": 100.0, "seconds": 2.0}, 0.0),
        Record(State.done, 0, {"tokens_done": 300.0, "seconds": 2.0}, 0.0),
        Record(State.running, 0, {}, 0.0),
    ]
    rate = measured(records)
    assert rate is not None
    assert rate.tokens_per_second == 100
    assert measured(records[2:]) is None


def test_the_sites_keys_and_the_command_lines_reach_the_launcher() -> None:
    launcher = composed(CONF, ["hydra/launcher=slurm", "hydra.launcher.partition=spot"]).launcher
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
    assert "An estimate, without loading the model." in out
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
    assert "is no submission's folder" in capsys.readouterr().err


def test_a_value_that_is_missing_is_not_the_default() -> None:
    with pytest.raises(MissingMandatoryValue, match=r"heads\.k"):
        composed(CONF, ["heads.k=???"])
    assert composed(CONF, ["heads.k=2"]).config.heads.k == 2
