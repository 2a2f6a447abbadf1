"""Several runs in one command: one table, one sweep.parquet, and a failed run is a row with its reason."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from running import Result, TinyFiles

from locheads.errors import LocHeadsError
from locheads.pipeline import stages
from locheads.pipeline.setup import Setup


@pytest.fixture
def sweep(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], no_model: None
) -> Callable[..., tuple[Result, pd.DataFrame]]:
    """`-m` with these overrides, up to the metrics -> what was printed, sweep.parquet."""

    def start(*overrides: str) -> tuple[Result, pd.DataFrame]:
        result = command("-m", *files.arguments(tmp_path / "out", store), "stage=evaluate", *overrides)
        (folder,) = (tmp_path / "out").glob("*/sweep_*")
        assert f"Sweep: {folder}" in result.out
        return result, pd.read_parquet(folder / "sweep.parquet")

    return start


def test_table_5(sweep: Callable[..., tuple[Result, pd.DataFrame]]) -> None:
    result, rows = sweep("criterion=s_img,entropy,s_img_entropy", "selection=fixed,greedy")
    assert result.code == 0, result.err
    assert "Criterion and selection (Table 5)" in result.out
    assert sorted(zip(rows["criterion"], rows["selection"], strict=True)) == sorted(
        (criterion, selection)
        for criterion in ("s_img", "entropy", "s_img_entropy")
        for selection in ("fixed", "greedy")
    )
    assert rows["error"].isna().all()
    assert rows["res_ciou"].notna().all()
    assert rows["res_ciou"].nunique() > 1


def test_table_4(sweep: Callable[..., tuple[Result, pd.DataFrame]]) -> None:
    result, rows = sweep("heads.k=1,2,3")
    assert result.code == 0, result.err
    assert "Head count k (Table 4)" in result.out
    assert list(rows["heads.k"]) == ["1", "2", "3"]
    assert list(rows["heads"].str.split().map(len)) == [1, 2, 3]
    for folder in map(Path, rows["folder"]):
        assert (folder / "metrics.json").is_file()


@pytest.mark.parametrize(("experiment", "n_runs"), [("table4_head_count", 5), ("table5_criteria", 6)])
def test_an_experiment_file_sweeps_as_it_says(
    experiment: str, n_runs: int, sweep: Callable[..., tuple[Result, pd.DataFrame]]
) -> None:
    # tau=0: of the few heads of a model with random weights, the elbow may leave fewer than five
    result, rows = sweep(f"experiment={experiment}", "criterion.tau=0")
    assert result.code == 0, result.err
    assert len(rows) == n_runs
    assert rows["error"].isna().all()
    assert all(Path(folder).parents[1].name == experiment for folder in rows["folder"])
    assert f"(Table {experiment[5]})" in result.out


def test_a_failed_run_is_a_row_and_the_others_finish(sweep: Callable[..., tuple[Result, pd.DataFrame]]) -> None:
    result, rows = sweep("heads.k=1,99,2")
    assert result.code == 1
    assert result.err == "error: 1 of the sweep's runs failed; the table above says why.\n"
    assert "Traceback" not in result.out
    failed = rows[rows["error"].notna()]
    assert list(failed["heads.k"]) == ["99"]
    assert "heads.k=99 is more than the 12 heads" in failed["error"].item()
    assert rows.loc[rows["error"].isna(), "res_ciou"].notna().all()
    assert "heads.k=99 is more than the" in (Path(failed["folder"].item()) / "run.log").read_text()


@pytest.mark.parametrize("error", [LocHeadsError("This one is a mistake."), ZeroDivisionError("this one is a bug")])
def test_a_run_that_breaks_off_is_a_row_too(
    error: Exception, sweep: Callable[..., tuple[Result, pd.DataFrame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stages.plan_heads

    def break_at_two(setup: Setup, *rest: object) -> object:
        if setup.config.heads.k == 2:
            raise error
        return real(setup, *rest)

    monkeypatch.setattr(stages, "plan_heads", break_at_two)
    result, rows = sweep("heads.k=1,2,3")
    assert result.code == 1
    assert list(rows["error"].fillna("")) == ["", str(error), ""]


def test_a_wrong_value_in_a_sweep_stops_it_before_the_first_run(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    result = command("-m", *files.arguments(tmp_path / "out", tmp_path / "cache"), "heads.k=1,three")
    assert result.code == 1
    assert result.err == "error: heads.k needs a whole number, not 'three'.\n"
    assert not list(tmp_path.rglob("heads.json"))


def test_long_overrides_do_not_make_a_folder_name_too_long(
    sweep: Callable[..., tuple[Result, pd.DataFrame]],
) -> None:
    result, rows = sweep("heads.k=1,2", "tracker.group=" + "x" * 300)
    assert result.code == 0, result.err
    assert len(rows) == 2


def test_a_setting_with_slashes_and_a_deletion_keep_their_rows(
    sweep: Callable[..., tuple[Result, pd.DataFrame]],
) -> None:
    result, rows = sweep("tracker.group=a/b,c/d", "~engine")
    assert result.code == 0, result.err
    assert list(rows["tracker.group"]) == ["a/b", "c/d"]
