"""Under which names W&B knows a run, and whether it is reached online."""

from pathlib import Path
from typing import Any

import pytest
import wandb

from locheads.config import Config
from locheads.tracking.config import TrackerConfig, TrackerMode
from locheads.tracking.wandb_names import artifact_name, init_options, sweep_record
from locheads.tracking.wandb_run import allowed, choose_mode, tracked

SECRET = "0123456789abcdef0123456789abcdef01234567"


def test_auto_obeys_the_environment_and_the_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert choose_mode(TrackerMode.online) == "online"
    assert choose_mode(TrackerMode.auto) == "offline"  # WANDB_MODE, for all tests
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert choose_mode(TrackerMode.auto) == "offline"
    wandb.teardown()  # which reads the environment when it is used again
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert choose_mode(TrackerMode.auto) == "online"
    wandb.teardown()


def test_online_without_an_account_asks_nobody_and_becomes_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    config = Config(tracker=TrackerConfig(kind="wandb", mode="online"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ended"), tracked(config, {}, tmp_path):
        raise ValueError("ended")
    assert "cannot start online (no account is set up on this machine: run wandb login)" in caplog.text
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_below_a_sweep_agent_the_agent_names_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"id": "a", "resume": "allow", "project": "p", "entity": None, "group": "g"}
    assert allowed(options) == options
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert allowed(options) == {"group": "g"}


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
    assert sweep_record(overrides, params).jobs == jobs


def test_names_that_wandb_would_refuse_are_made_to_fit() -> None:
    config = Config(study="a\nb" * 99, tracker=TrackerConfig(tags=["t" * 99, ""]))
    options = init_options(config, {}, Path("outputs") / ("r" * 200), "identity")
    assert [len(options[key]) for key in ("group", "name")] == [128, 128] and "\n" not in options["group"]
    assert options["tags"] == ["pocket", "t" * 64]
    assert len(artifact_name("größe" * 99, "0af")) == 128 and artifact_name("größe" * 99, "0af").isascii()


def test_the_same_sweep_has_the_same_id_wherever_it_is_tracked() -> None:
    def sweep_id(*overrides: str, params: Any = None) -> str:
        return sweep_record(list(overrides), params).id

    assert sweep_id("heads.k=1,2", "seed=1") == sweep_id("seed=1", "tracker=wandb", "+tracker.tags=[a]", "heads.k=1,2")
    assert len({sweep_id("heads.k=1"), sweep_id("heads.k=2"), sweep_id("heads.k=1", params={"seed": "1,2"})}) == 3


def test_artifact_names_hold_what_wandb_allows() -> None:
    assert artifact_name("my study/a:1", "0af") == "my-study-a-1-0af"
