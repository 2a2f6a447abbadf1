"""Discovery never sees a picture of the evaluated split."""

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
    """The last two pictures of val have refs in train, too."""
    copy = files.copy(tmp_path / "leaky")
    refs = tiny.read_refs(copy.folder)
    for ref in refs:
        if ref["image_id"] in (204, 205) and ref["ref_id"] % 2:
            ref["split"] = "train"
    tiny.write_refs(copy.folder, refs)
    return copy


def test_shared_pictures_are_left_out_of_discovery_and_counted(
    leaky: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]
) -> None:
    config = leaky.config(tmp_path / "out")
    inputs = load_inputs(config)
    assert {group.image_id for group in inputs.discovery}.isdisjoint(group.image_id for group in inputs.evaluated)
    record = json.loads((run(config) / "heads.json").read_text())
    assert record["n_excluded_images"] == 2


def test_without_shared_pictures_none_is_excluded(files: TinyFiles, tmp_path: Path) -> None:
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


def test_a_discovery_split_of_shared_pictures_only_is_refused(files: TinyFiles, tmp_path: Path) -> None:
    copy = files.copy(tmp_path / "all")
    refs = tiny.read_refs(copy.folder)
    for ref in refs:
        ref["split"] = ("val", "train")[ref["ref_id"] % 2]
    tiny.write_refs(copy.folder, refs)
    with pytest.raises(DataError, match="No expression of train is left for discovery"):
        load_inputs(copy.config(tmp_path))
