"""A run with model.adapter=probe: the maps of the hand-written adapter, and what was found in the record."""

import json
from pathlib import Path

import numpy as np
from running import TinyFiles, execute

from locheads.config import Stage
from locheads.data.config import DatasetConfig
from locheads.models.config import ModelConfig


def test_a_run_by_probe_says_what_it_found(files: TinyFiles, tmp_path: Path) -> None:
    geometries = {}
    for adapter in (None, "probe"):
        folder = tmp_path / str(adapter)
        dataset = DatasetConfig(reader="refer", folder=str(files.folder), images=str(files.images), limit=4)
        model = ModelConfig(adapter=adapter)  # the pocket model, whose images are padded to a square
        execute(files.config(tmp_path, folder / "cache", model=model, dataset=dataset, stage=Stage.ground), folder)
        record = json.loads((folder / "provenance.json").read_text())["model"]
        geometries[adapter] = record.get("probe")
        assert (folder / "predictions.parquet").is_file()
    assert geometries[None] is None
    found = geometries["probe"]
    assert found["sharing"] == "packed" and found["views"]
    for view in found["views"]:
        assert view["rows"] == view["cols"]
        # The longer side fills the grid, the shorter one is padded.
        longer = max(view["width"], view["height"])
        np.testing.assert_allclose(np.array(view["scale"]) * longer, view["cols"], rtol=0.05)
