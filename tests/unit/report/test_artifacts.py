"""What a figure rests on: digests of the files as they are, and a word on every file that is not what the run wrote."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from locheads.records.receipt_file import ReceiptFile
from locheads.report.dossier.artifacts import Artifact, artifacts
from locheads.report.run_record import read_run

RESULTS = ("config.yaml", "heads.json", "metrics.json", "provenance.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def receipted(run_folder: Path) -> Path:
    """The run with answers, scores and a receipt of all of its files."""
    (run_folder / "predictions.parquet").write_bytes(b"answers")
    (run_folder / "scores.parquet").write_bytes(b"scores")
    files = {str(p.relative_to(run_folder)): sha256(p) for p in run_folder.rglob("*") if p.is_file()}
    ReceiptFile(key={}, files=files).write(run_folder)
    return run_folder


def found(folder: Path) -> dict[str, Artifact]:
    return {artifact.name: artifact for artifact in artifacts(read_run(folder))}


def test_digests_are_those_of_the_files(receipted: Path) -> None:
    files = found(receipted)
    for name in (*RESULTS, "predictions.parquet", "scores.parquet"):
        assert (files[name].sha256, files[name].problem) == (sha256(receipted / name), ""), name
    assert "receipt.json" not in files


def test_a_changed_file_is_said(receipted: Path) -> None:
    before = sha256(receipted / "scores.parquet")
    (receipted / "scores.parquet").write_bytes(b"better scores")
    changed = found(receipted)["scores.parquet"]
    assert changed.sha256 == sha256(receipted / "scores.parquet") != before
    assert "scores.parquet is not what the run wrote" in changed.problem


def test_a_damaged_record_and_a_link_that_leads_out_are_said(receipted: Path, tmp_path: Path) -> None:
    (receipted / "receipt.json").unlink()
    (receipted / "metrics.json").write_text("{")
    (tmp_path / "secret").write_text("secret")
    (receipted / "samples.json").symlink_to(tmp_path / "secret")
    files = found(receipted)
    assert "metrics.json cannot be read" in files["metrics.json"].problem
    assert files["samples.json"].sha256 is None and "leads out of the run folder" in files["samples.json"].problem


def test_model_data_store_and_code_are_as_recorded(receipted: Path, edit_json: Callable[..., None]) -> None:
    weights, annotations = "a" * 64, "b" * 64
    edit_json(
        receipted / "provenance.json",
        model={"id": "llava-hf/llava", "revision": "abc123", "weights": weights},
        dataset={"name": "refcoco", "annotations_sha256": annotations, "pictures_sha256": None},
        maps={"store": "1989befa", "made_with": {}, "other_versions": "torch 2.1 instead of 2.13"},
    )
    files = found(receipted)
    assert files["llava-hf/llava: weights"].sha256 == weights and files["llava-hf/llava: revision"].version == "abc123"
    assert files["refcoco: annotations"].sha256 == annotations
    assert files["refcoco: images"].identity == "not recorded"
    assert files["attention store"].version == "1989befa" and "other versions" in files["attention store"].problem
    code = files["code: commit"]
    assert (code.version, code.problem) == ("f00dfacecafe0123456789", "The code had uncommitted changes.")
    assert files["run"].sha256 == "feedbeef"
    edit_json(receipted / "provenance.json", dirty=False, model={"id": "m", "weights": "c" * 40})
    files = found(receipted)
    assert files["code: commit"].problem == ""
    # Of a model of the hub it is the snapshot's commit that is known, which is no sha256.
    assert (files["m: weights"].sha256, files["m: weights"].version) == (None, "c" * 40)
    assert files["m: revision"].version == "not pinned"
