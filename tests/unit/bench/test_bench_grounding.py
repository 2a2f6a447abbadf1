"""The grounding benchmark's ways give the same cells and boxes; how fast they are is for the command to say."""

import json
from pathlib import Path

import numpy as np
import pytest

from locheads.bench import bench_grounding as grounding
from locheads.bench.__main__ import main

MAPS = np.random.default_rng(2).dirichlet(np.full(576, 0.05), 60).reshape(20, 3, 24, 24).astype(np.float32)


def test_stacks_are_the_plain_loops() -> None:
    cells = grounding.stacked_cells(MAPS)
    np.testing.assert_array_equal(cells, grounding.single_cells(MAPS))
    np.testing.assert_array_equal(grounding.stacked_boxes(MAPS), grounding.single_boxes(MAPS))
    # The negative control: another sample, other cells.
    assert (cells[0] != cells[1]).mean() > 0.05


def test_the_command_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grounding, "EXPRESSIONS", 20)
    assert main(["grounding", "--rounds", "2", "--threads", "1", "--json", str(tmp_path / "g.json")]) == 0
    record = json.loads((tmp_path / "g.json").read_text())
    assert [step["name"] for step in record["steps"]][::2] == ["cells, one stack", "boxes, one stack"]
    for step in record["steps"]:
        assert step["expressions_per_second"] == pytest.approx(1e6 / step["time"]["median"])
    assert record["largest_difference"] == record["largest_difference_of_boxes"] == 0
