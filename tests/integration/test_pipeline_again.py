"""The same sweep again does only what is missing, and notices whatever would make a result another one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny
from PIL import Image, ImageOps
from running import ROOT, Result, TinyFiles

from locheads.pipeline import receipt, stages
from locheads.pipeline.setup import Setup

TWELVE = ("heads.k=1,2,3", "criterion=s_img,entropy,s_img_entropy,released_c1")
QUICK = ("stage=evaluate", "evaluation.gallery=1", "evaluation.random_draws=1")
ORIGIN = ["folder", "done_before"]


@pytest.fixture
def grounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """heads.k of every run that got as far as grounding."""
    seen: list[int] = []
    real = stages.plan_heads

    def watching(setup: Setup, *rest: object) -> object:
        seen.append(setup.config.heads.k)
        return real(setup, *rest)

    monkeypatch.setattr(stages, "plan_heads", watching)
    return seen


@pytest.fixture
def sweep(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result]
) -> Callable[..., tuple[Result, pd.DataFrame]]:
    """`-m` with these overrides -> what was printed, the sweep.parquet of that sweep."""

    numbers = iter(range(100))

    def start(*overrides: str, data: TinyFiles = files) -> tuple[Result, pd.DataFrame]:
        # By default the folder's name holds the second, of which a test has few.
        folder = tmp_path / "out" / "default" / f"sweep_{next(numbers)}"
        arguments = data.arguments(tmp_path / "out", store)
        result = command("-m", *arguments, *QUICK, f"hydra.sweep.dir={folder}", *overrides)
        return result, pd.read_parquet(folder / "sweep.parquet")

    return start


def test_a_review_that_comes_later_makes_another_result_of_the_same_maps(
    sweep: Callable, grounded: list[int], files: TinyFiles, tmp_path: Path, no_model: None
) -> None:
    review = f"dataset.review='{tmp_path}/tiny_{{split}}_reviewed.json'"  # not there yet
    sweep("heads.k=1", review)
    assert tiny.write_review(files.folder, tmp_path, "larger") == review
    _, again = sweep("heads.k=1", review)
    assert grounded == [1, 1] and again["done_before"].isna().all()
    _, third = sweep("heads.k=1", review)
    assert grounded == [1, 1] and third["done_before"].notna().all()


def test_only_what_is_missing_runs(sweep: Callable, grounded: list[int]) -> None:
    _, first = sweep("heads.k=1,2")
    assert grounded == [1, 2] and first["done_before"].isna().all()
    result, second = sweep("heads.k=1,2,3")
    assert grounded == [1, 2, 3]
    assert list(second["done_before"][:2]) == list(first["folder"]) and pd.isna(second["done_before"][2])
    assert "2 of 3 runs were done before" in result.out
    pd.testing.assert_frame_equal(second[:2].drop(columns=ORIGIN), first.drop(columns=ORIGIN))
    # Complete by itself: the earlier sweep may go.
    for old, new in zip(first["folder"], second["folder"], strict=False):
        names = {path.name for path in Path(old).iterdir()} - {"run.log"}
        assert names < {path.name for path in Path(new).iterdir()}
        assert (Path(new) / "metrics.json").read_bytes() == (Path(old) / "metrics.json").read_bytes()
    _, third = sweep("heads.k=1")
    assert third["done_before"].item() == first["folder"][0]  # the run itself, not who took it over


def test_fresh_runs_all_of_it(sweep: Callable, grounded: list[int]) -> None:
    sweep("heads.k=1")
    _, again = sweep("heads.k=1", "fresh=true")
    assert grounded == [1, 1] and again["done_before"].isna().all()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_run_runs_again(damage: str, sweep: Callable, grounded: list[int]) -> None:
    _, first = sweep("heads.k=1,2")
    path = Path(first["folder"][0]) / "predictions.parquet"
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-1] + b" ")
    _, again = sweep("heads.k=1,2")
    assert grounded == [1, 2, 1]
    assert list(again["done_before"].notna()) == [False, True] and again["error"].isna().all()


def test_another_setting_runs_again(sweep: Callable, grounded: list[int]) -> None:
    sweep("heads.k=1")
    _, rows = sweep("heads.k=1", "seed=0,1", "engine.workers=2,1")
    assert grounded == [1] * 4
    assert rows["done_before"].notna().sum() == 1
    _, rows = sweep("heads.k=1", "stage=ground")
    assert grounded == [1] * 5


def test_other_code_runs_again_and_says_so(
    sweep: Callable, grounded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = sweep("heads.k=1")
    monkeypatch.setattr(receipt, "source_digest", lambda: "edited")
    result, _ = sweep("heads.k=1")
    assert grounded == [1, 1]
    assert f"{first['folder'].item()} has the same settings and data, but other code or packages" in result.out


def test_a_changed_image_runs_again(files: TinyFiles, tmp_path: Path, sweep: Callable, grounded: list[int]) -> None:
    copy = files.copy(tmp_path / "copy")
    sweep("heads.k=1", data=copy)
    path = copy.images / "COCO_train2014_000000000201.jpg"
    with Image.open(path) as image:
        ImageOps.mirror(image).save(path)
    sweep("heads.k=1", data=copy)
    assert grounded == [1, 1]


def test_a_run_with_failed_samples_is_tried_again(
    files: TinyFiles, tmp_path: Path, sweep: Callable, grounded: list[int]
) -> None:
    copy = files.copy(tmp_path / "copy")
    (copy.images / "COCO_train2014_000000000201.jpg").write_bytes(b"no image")
    for _ in range(2):
        sweep("heads.k=1", data=copy)
    assert grounded == [1, 1]


def test_a_failed_run_is_tried_again_and_the_finished_ones_are_not(sweep: Callable, grounded: list[int]) -> None:
    for _ in range(2):
        result, rows = sweep("heads.k=1,99,2")
        assert result.code == 1 and list(rows["error"].notna()) == [False, True, False]
    assert grounded == [1, 2]


def test_the_source_digest_tells_code_apart_and_leaves_weights_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from locheads.store import provenance

    provenance.source_digest.cache_clear()
    before = provenance.source_digest()
    read: list[Path] = []

    def other(path: Path) -> str:
        read.append(path)
        return "x" if path.name == "fuse.py" else file_digest(path)

    file_digest = provenance.file_digest
    monkeypatch.setattr(provenance, "file_digest", other)
    provenance.source_digest.cache_clear()
    assert provenance.source_digest() != before
    provenance.source_digest.cache_clear()
    assert not [path for path in read if path.suffix == ".safetensors"] and len(read) > 100


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_sweep_goes_on_and_its_table_is_the_uninterrupted_one(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], grounded: list[int]
) -> None:
    def arguments(outputs: Path) -> list[str]:
        return ["-m", *files.arguments(outputs, store), *QUICK, "criterion.tau=0", *TWELVE]

    def table(outputs: Path, result: Result) -> pd.DataFrame:
        folder = Path(result.out.split("Sweep: ")[1].split("\n")[0])
        assert folder.is_relative_to(outputs)
        return pd.read_parquet(folder / "sweep.parquet")

    whole = table(tmp_path / "whole", command(*arguments(tmp_path / "whole")))
    assert len(whole) == len(grounded) == 12 and whole["error"].isna().all()
    assert whole["digest"].nunique() == 12 and whole["res_ciou"].nunique() > 1
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments(tmp_path / "killed")],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until, deadline = random.randint(1, 10), time.monotonic() + 120
    while len(done := list((tmp_path / "killed").rglob("receipt.json"))) < until and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.random() / 2)  # anywhere in the job
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    done = list((tmp_path / "killed").rglob("receipt.json"))
    assert until <= len(done) <= 12
    assert not list((tmp_path / "killed").rglob("sweep.parquet"))
    grounded.clear()
    again = table(tmp_path / "killed", command(*arguments(tmp_path / "killed")))
    assert len(grounded) == 12 - len(done)
    assert set(again["done_before"].dropna()) == {str(path.parent) for path in done}
    where = [*ORIGIN, "paths.outputs"]
    pd.testing.assert_frame_equal(again.drop(columns=where), whole.drop(columns=where))


def test_a_receipt_names_every_file_of_the_result(sweep: Callable) -> None:
    _, rows = sweep("heads.k=1")
    folder = Path(rows["folder"].item())
    named = json.loads((folder / "receipt.json").read_text())["files"]
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - set(named) == {"receipt.json", "run.log"}
