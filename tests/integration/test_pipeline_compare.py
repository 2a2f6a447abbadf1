"""stage=compare: two finished runs -> a table and compare.json; what cannot be compared is one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import Finished, Result

from locheads.errors import ConfigError
from locheads.evaluation.metric_table import Place, shown
from locheads.pipeline.compare_runs import refuse_the_same
from locheads.records.receipt_file import ReceiptFile


@pytest.fixture
def compare(tmp_path: Path, command: Callable[..., Result], no_model: None) -> Callable[..., Result]:
    """Of these folders."""

    def start(*runs: Path, **more: Any) -> Result:
        paths = f"paths.outputs={tmp_path / 'out'}"
        return command("stage=compare", f"runs=[{','.join(map(str, runs))}]", paths, "evaluation.resamples=99")

    return start


@pytest.fixture
def other(finished: Finished, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the run folder whose scores went through `change`."""

    def make(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        folder = tmp_path / "other"
        folder.mkdir()
        shutil.copy(finished.folder / "status.json", folder)
        change(pd.read_parquet(finished.folder / "scores.parquet")).to_parquet(folder / "scores.parquet")
        return folder

    return make


def _record(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "out" / "default").glob("*/compare.json")
    return json.loads(path.read_text())


def _own(scores: pd.DataFrame) -> pd.Series:
    return scores["method"] == "localization_heads"


def test_every_metric_of_both_runs(
    finished: Finished, other: Callable[..., Path], compare: Callable[..., Result], tmp_path: Path
) -> None:
    def perfect(scores: pd.DataFrame) -> pd.DataFrame:
        # In another order, so that rows must be paired by their ids.
        better = {"box_iou": 1.0, "intersection": scores["union"], "pointed": True}
        return scores.assign(**{k: np.where(_own(scores), v, scores[k]) for k, v in better.items()}).iloc[::-1]

    result = compare(finished.folder, folder := other(perfect))
    assert result.code == 0, result.err
    record = _record(tmp_path)
    assert (record["n_expressions"], record["n_images"], record["left_out"]) == (30, 6, {"a": 0, "b": 0})
    assert [record[run]["run"] for run in "ab"] == [str(finished.folder), str(folder)]
    metrics = json.loads((finished.folder / "metrics.json").read_text())["methods"]["localization_heads"]
    assert list(record["metrics"]) == [key for key in shown(Place.COMPARE) if key in metrics]
    for name, found in record["metrics"].items():
        assert found["a"] == pytest.approx(metrics[name]["value"])
        assert found["b"] == 1
        assert found["difference"] == pytest.approx(1 - metrics[name]["value"])
        assert found["low"] <= found["difference"] <= found["high"]
        assert found["p"] == pytest.approx(2 / 64)  # all of the 6 images favour b: the least of the 2 ** 6 ways
        assert found["need"]["images"] >= 2
        assert f"{100 * found['difference']:+.1f}†" in result.out
    assert "REC Acc@0.5" in result.out and "† on fewer than 30 images" in " ".join(result.out.split())
    assert "…" not in result.out
    (run,) = (tmp_path / "out" / "default").iterdir()
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], list(status["stages"])) == ("done", ["compare"])


def test_a_run_is_not_compared_with_itself(
    finished: Finished, other: Callable[..., Path], compare: Callable[..., Result], tmp_path: Path
) -> None:
    run = finished.folder
    (link := tmp_path / "link").symlink_to(run)
    shutil.copytree(run, copy := tmp_path / "copy")
    (taken := tmp_path / "taken").mkdir()
    for name in ("status.json", "scores.parquet"):
        (taken / name).hardlink_to(run / name)
    for same in (run, run / ".." / run.name, link, copy, taken):
        assert "differ from itself" in _fail(compare(run, same)), same
    # Another run that happens to answer alike is another run.
    assert compare(run, other(lambda scores: scores)).code == 0
    for found in _record(tmp_path)["metrics"].values():
        assert (found["difference"], found["p"], found["need"]) == (0, 1, None)
        assert found["low"] == -found["high"] < 0


def test_two_scored_files_are_two_runs(tmp_path: Path) -> None:
    """Runs of predictions= are taken over by no sweep, so their receipts have an empty key."""
    for name, key in (("a", {}), ("b", {}), ("done", {"digest": "1"}), ("again", {"digest": "1"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.parquet").write_text(name)
        ReceiptFile(key=key, n_failed=0, files={}).write(tmp_path / name)
    refuse_the_same(tmp_path / "a", tmp_path / "b")
    refuse_the_same(tmp_path / "a", tmp_path / "done")
    with pytest.raises(ConfigError, match="one run done twice"):
        refuse_the_same(tmp_path / "done", tmp_path / "again")


def test_only_common_samples_are_compared_and_the_others_counted(
    finished: Finished, other: Callable[..., Path], compare: Callable[..., Result], tmp_path: Path
) -> None:
    result = compare(finished.folder, other(lambda scores: scores[scores["image_id"] != "203"]))
    assert result.code == 0
    record = _record(tmp_path)
    assert (record["n_expressions"], record["n_images"], record["left_out"]) == (25, 5, {"a": 5, "b": 0})
    assert "Left out: 5 of a and 0 of b" in " ".join(result.out.split())
    (log,) = (tmp_path / "out" / "default").glob("*/run.log")
    assert "share 25 samples; 5 of a and 0 of b are left out" in log.read_text()


def _fail(result: Result) -> str:
    assert result.code == 1
    assert result.err.count("\n") == 1 and "Traceback" not in result.out + result.err
    return result.err


@pytest.mark.parametrize("n", [0, 1, 3])
def test_another_number_of_runs(n: int, finished: Finished, compare: Callable[..., Result]) -> None:
    assert f"stage=compare needs two run folders, not {n}" in _fail(compare(*[finished.folder] * n))


def test_folders_that_are_no_finished_run(finished: Finished, compare: Callable[..., Result], tmp_path: Path) -> None:
    def complaint(folder: Path) -> str:
        return _fail(compare(finished.folder, folder))

    assert f"{tmp_path / 'nothing'} is not a folder" in complaint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is no run folder" in complaint(tmp_path / "empty")
    (tmp_path / "empty" / "status.json").write_text("{}")
    assert "has no scores.parquet: finish the run with stage=evaluate" in complaint(tmp_path / "empty")
    (tmp_path / "empty" / "scores.parquet").write_bytes(b"PAR1 and no more")
    assert "scores.parquet cannot be read (ArrowInvalid)" in complaint(tmp_path / "empty")


CHANGES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "other samples": (lambda s: s.assign(sample_id="x" + s["sample_id"]), "share no sample"),
    "other boxes": (lambda s: s.assign(true_x0=s["true_x0"] + 1), "are about different data: sample 20000 has another"),
    "other images": (lambda s: s.assign(image_id="1"), "are about different data: sample 20000 has another"),
    "no own method": (lambda s: s[~_own(s)], "holds no row of localization_heads, predictions, points"),
    "samples twice": (lambda s: pd.concat([s, s]), "is damaged (a sample twice"),
    "a text as IoU": (lambda s: s.assign(box_iou="high"), "is damaged (a sample twice"),
    "a text as a hit": (lambda s: s.assign(pointed="yes"), "is damaged (a sample twice"),
    "an absent IoU": (lambda s: s.assign(box_iou=np.nan), "is damaged (a sample twice"),
    "no sample id": (lambda s: s.drop(columns="sample_id"), "scores.parquet cannot be read"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_runs_about_something_else(
    case: str, finished: Finished, other: Callable[..., Path], compare: Callable[..., Result]
) -> None:
    change, sentence = CHANGES[case]
    assert sentence in _fail(compare(finished.folder, other(change)))


def test_the_boxes_that_the_model_writes_are_compared_with_the_heads(
    finished: Finished, other: Callable[..., Path], compare: Callable[..., Result], tmp_path: Path
) -> None:
    direct = other(lambda s: s[_own(s)].assign(method="direct_output"))
    result = compare(finished.folder, direct)
    assert result.code == 0, result.err
    assert _record(tmp_path)["metrics"]["rec_mean_iou"]["difference"] == 0
