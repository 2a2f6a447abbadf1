"""Every study by the commands of its README, on the tiny files; its tables come back from the records alone."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny
from running import ROOT, Finished, Result, TinyFiles

from locheads.pipeline import inputs
from locheads.pocket.task_files import write_all
from locheads.report.studies.layouts import LAYOUTS
from locheads.store.atomic import read_json, write_json

SPEC = importlib.util.spec_from_file_location("pocket_size", ROOT / "experiments" / "pocket_size.py")
assert SPEC is not None and SPEC.loader is not None
pocket_size = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pocket_size)

SMALL = {
    "dataset.limit": "6",
    "discovery.n_samples": "8",
    "evaluation.gallery": "1",
    # Of the few heads of a model with random weights, the elbow may leave none.
    "criterion.tau": "0",
    "heads.k": "1",
}
OF_STUDY = {
    "table1_rec": {"dataset.split": "val"},  # the only one there is
    "table2_res": {"dataset.split": "val"},
    "transfer": {"dataset.split": "val"},
    "grefcoco": {"dataset.reader": "pocket_counts", "dataset.split": "val", "dataset.limit": "20"},
    "table4_head_count": {"heads.k": "1,2,3,4,5"},
    "fig13_threshold": {"criterion.tau": "null,0.1,0.9"},
    "fig14_candidates": {"criterion.candidates": "1,10,14"},
    "absence": {"heads.k": "2"},  # which can agree, or not
    "sample_count": {"discovery.sizes": "[2,4,8,9]"},
}
MAKE_DATA = ("agd20k", "screenspot")
"""Studies whose data are made first, for the pocket model and its heads."""
NAME_DATA = {"flickr30k_entities", "table9_png"}
"""Studies whose commands name data that only they are about."""
STUDIES = pocket_size.studies()

Study = Callable[[str], tuple[Path, list[Result]]]


def small(name: str, words: list[str]) -> list[str]:
    """What makes a command of the README quick."""
    few = {"dataset.limit": "3", "evaluation.gallery": "1"} if name in MAKE_DATA else SMALL
    more = [f"{key}={value}" for key, value in (few | OF_STUDY.get(name, {})).items()]
    return more if any("stage=" in word for word in words) else [*more, "stage=evaluate"]


@pytest.fixture
def study(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> Study:
    """The README's commands of a study -> (its folder with the results, what was printed)."""
    splits = {"train": (6, (3, 4)), "val": (4, (3, 4))}
    monkeypatch.setattr(inputs, "COUNTS", replace(inputs.COUNTS, splits=splits, digest=""))
    outputs, studies = tmp_path / "out", tmp_path / "experiments"
    shutil.copytree(ROOT / "experiments", studies, ignore=shutil.ignore_patterns("result*"))
    own = files.copy(tmp_path / "data")

    def start(name: str) -> tuple[Path, list[Result]]:
        results = []
        given = [*(own if name == "absence" else files).arguments(outputs, store), f"paths.studies={studies}"]
        if name == "absence":
            tiny.name_two_categories(own.folder)
        if name in NAME_DATA:
            given = [word for word in given if not word.startswith("dataset.")]
        if name in MAKE_DATA:
            write_all(outputs / "task_files")
            given = [word for word in given if word.startswith(("paths.", "engine.", "evaluation."))]
        for number, words in enumerate(pocket_size.commands(name)):
            said = [word.replace("outputs/", f"{outputs}/") for word in words]
            if "-m" not in words and not any("hydra.run.dir" in word for word in words):
                # Two runs within a second would share a folder.
                said.append(f"hydra.run.dir={outputs}/{name}/{number}")
            results.append(command(*said, *given, *(() if "stage=report" in words else small(name, words))))
        return studies / name, results

    return start


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_at_pocket_size(name: str, study: Study) -> None:
    folder, results = study(name)
    for result in results[:-1]:
        # Too high a threshold fails one run of the sweep, and so do the answers of random weights, which lack words:
        # each is a row with its reason.
        assert result.code == 0 or (name in ("fig13_threshold", "rows") and "runs failed" in result.err), result.err
    assert results[-1].code == 0, results[-1].err
    assert LAYOUTS[name].title in " ".join(results[-1].out.split())
    cells = pd.read_csv(folder / "result.csv", dtype={"ours": str})
    measured = cells[cells["status"] == "measured"]
    assert len(measured) and measured["digest"].notna().all()
    assert set(measured["quantity"]) == {quantity.key for quantity in LAYOUTS[name].quantities}
    text = (folder / "result.md").read_text()
    assert "pocket" in text and "Where our figures come from" in text
    assert (folder / "result.tex").read_text().count("\\toprule") == 1


def test_tables_and_pages_come_back_without_model_and_data(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result]
) -> None:
    own = files.copy(tmp_path / "data")
    model = Path(shutil.copytree(files.model, tmp_path / "model"))
    studies = Path(shutil.copytree(ROOT / "experiments", tmp_path / "experiments"))
    outputs = tmp_path / "out"
    given = [*replace(own, model=model).arguments(outputs, store), f"paths.studies={studies}"]
    sweep = [f"{key}={value}" for key, value in SMALL.items()]
    assert command("-m", "experiment=table4_head_count", *given, *sweep).code == 0
    report = ["stage=report", "experiment=table4_head_count", f"runs=[{outputs}/table4_head_count]", *given]
    assert command(*report, f"hydra.run.dir={tmp_path}/first").code == 0
    made = [*(studies / "table4_head_count").glob("result.*"), *outputs.rglob("report.html")]
    before = {path: path.read_bytes() for path in made}
    assert len(before) == 3 + 1
    for folder in (tmp_path / "data", model, store):
        shutil.rmtree(folder)
    for path in made:
        path.unlink()
    assert command(*report, f"hydra.run.dir={tmp_path}/second").code == 0
    assert {path: path.read_bytes() for path in made} == before
    # The comparison can fail: another figure in the records is another table.
    metrics = next(outputs.rglob("metrics.json"))
    content = read_json(metrics)
    content["methods"]["localization_heads"]["res_ciou"]["value"] = 0.123456
    write_json(metrics, content)
    refused = command(*report, f"hydra.run.dir={tmp_path}/refused")
    assert refused.code == 1 and f"metrics.json of {metrics.parent} is not what the run wrote" in refused.err
    (metrics.parent / "receipt.json").unlink()
    assert command(*report, f"hydra.run.dir={tmp_path}/third").code == 0
    assert (studies / "table4_head_count" / "result.csv").read_bytes() != before[
        studies / "table4_head_count/result.csv"
    ]
    assert "12.3456" in (studies / "table4_head_count" / "result.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs=[nowhere]", "experiment=prompts"], "runs: nowhere is not a folder"),
        (["runs=[conf]", "experiment=prompts"], "runs: there is no run in conf"),
        (["runs=[conf]"], "study=default has no table: choose one with experiment=NAME"),
        (
            ["runs=[RUN]", "experiment=table1_rec", "paths.studies=conf"],
            "paths.studies must be the folder experiments/",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, finished: Finished, tmp_path: Path, command: Callable[..., Result]
) -> None:
    said = [argument.replace("RUN", str(finished.folder)) for argument in arguments]
    result = command("stage=report", *said, f"paths.outputs={tmp_path}")
    assert result.code == 1
    assert sentence in result.err and result.err.count("\n") == 1
