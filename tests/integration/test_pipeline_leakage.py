"""Discovery never sees an image of the evaluated split."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from running import TinyFiles

from locheads.config import Config
from locheads.errors import DataError
from locheads.pipeline.inputs import load_inputs


@pytest.fixture
def leaky(files: TinyFiles, tmp_path: Path) -> TinyFiles:
    """The last two images of val have refs in train, too."""
    copy = files.copy(tmp_path / "leaky")
    refs = tiny.read_refs(copy.folder)
    for ref in refs:
        if ref["image_id"] in (204, 205) and ref["ref_id"] % 2:
            ref["split"] = "train"
    tiny.write_refs(copy.folder, refs)
    return copy


def test_shared_images_are_left_out_of_discovery_and_counted(
    leaky: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    config = leaky.config(tmp_path / "out")
    inputs = load_inputs(config)
    assert {group.image_id for group in inputs.discovery}.isdisjoint(group.image_id for group in inputs.evaluated)
    record = json.loads((run(config) / "heads.json").read_text())
    assert record["n_excluded_images"] == 2


def test_without_shared_images_none_is_excluded(files: TinyFiles, tmp_path: Path) -> None:
    inputs = load_inputs(files.config(tmp_path))
    assert inputs.n_excluded_images == 0
    assert {group.image_id for group in inputs.discovery} == {str(i) for i in tiny.SPLITS["train"]}


def test_a_limit_does_not_let_the_rest_of_the_split_in(leaky: TinyFiles, tmp_path: Path) -> None:
    config = leaky.config(tmp_path)
    config.dataset.limit = 4
    inputs = load_inputs(config)
    assert sum(len(group.samples) for group in inputs.evaluated) == 4
    assert inputs.n_excluded_images == 2
    assert {group.image_id for group in inputs.discovery}.isdisjoint({"204", "205"})


def test_a_discovery_split_of_shared_images_only_is_refused(files: TinyFiles, tmp_path: Path) -> None:
    copy = files.copy(tmp_path / "all")
    refs = tiny.read_refs(copy.folder)
    for ref in refs:
        ref["split"] = ("val", "train")[ref["ref_id"] % 2]
    tiny.write_refs(copy.folder, refs)
    with pytest.raises(DataError, match="No expression of train is left for discovery"):
        load_inputs(copy.config(tmp_path))


def _beside(copy: TinyFiles, name: str, *image_ids: int, split: str = "testA") -> Path:
    """A refs file of another data set in a folder beside the tiny one."""
    folder = copy.folder.parent / name
    folder.mkdir()
    tiny.write_refs(folder, [{"image_id": image_id, "split": split} for image_id in image_ids])
    return folder / "refs(unc).p"


def test_test_splits_of_data_sets_beside_are_left_out(
    files: TinyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = files.copy(tmp_path / "both")
    other = _beside(copy, "refcoco+", 100, 101, 999)
    _beside(copy, "refcocog", 102, split="train")
    config = copy.config(tmp_path / "out")
    inputs = load_inputs(config)
    assert inputs.n_excluded_images == 2
    assert {group.image_id for group in inputs.discovery} == {str(i) for i in tiny.SPLITS["train"]} - {"100", "101"}
    assert inputs.guard[str(other)] == 2
    assert f"2 images of train are also in {other} (2): discovery leaves them out." in caplog.text


def test_the_guard_can_be_pointed_elsewhere(files: TinyFiles, tmp_path: Path) -> None:
    copy = files.copy(tmp_path / "both")
    _beside(copy, "refcoco+", 100, 101)
    config = copy.config(tmp_path / "out")
    config.dataset.guard = []
    assert load_inputs(config).n_excluded_images == 0
    named = tmp_path / "named.jsonl"
    named.write_text('{"image": "COCO_val2014_000000000103.jpg"}')
    config.dataset.guard = [str(named)]
    inputs = load_inputs(config)
    assert "103" not in {group.image_id for group in inputs.discovery}
    assert inputs.guard == {"val": 0, str(named): 1}


def test_the_used_ids_and_the_guard_are_in_the_run_folder(
    leaky: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    config = leaky.config(tmp_path / "out")
    config.dataset.limit, config.dataset.offset, config.dataset.shuffle = 4, 3, True
    folder, inputs = run(config), load_inputs(config)
    record = json.loads((folder / "samples.json").read_text())
    assert record["evaluated"] == [sample.sample_id for group in inputs.evaluated for sample in group.samples]
    assert len(record["evaluated"]) == 4
    assert [trial["samples"] for trial in record["trials"]] == [list(trial) for trial in inputs.trials]
    assert [trial["seed"] for trial in record["trials"]] == [[0, 0], [0, 1]]
    assert record["judged"] == [sample.sample_id for group in inputs.judged for sample in group.samples] != []
    assert record["n_excluded_images"] == 2
    assert json.loads((folder / "provenance.json").read_text())["dataset"]["guard"]["val"] == 2
