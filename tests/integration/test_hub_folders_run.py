"""The whole pipeline on real images, with scaled-down models below the real files of hub repositories."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from running import ROOT, Result

from locheads.models import load

sys.path.append(str(ROOT / "tests" / "unit" / "models"))
from hub_folders import HEADS, HUB, LAYERS, processor, scaled

SLICE = HUB.parent / "data" / "refcoco_slice"
NAMES = ("llava_1_5_7b_hf", "llava_next_mistral", "qwen2_5_vl_7b", "smolvlm_256m", "internvl3_8b_composed")


@pytest.mark.parametrize("name", NAMES)
def test_real_files_find_heads_and_ground_real_images(
    name: str, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SLICE.is_dir():
        pytest.skip(f"{SLICE} is not there: the shared test data is needed")
    monkeypatch.setattr(load, "load_processor", lambda source, *_: processor(Path(source)))
    folder, out = scaled(name, tmp_path / "model"), tmp_path / "out"
    result = command(
        f"model.id={folder}", "model.preprocess=native", "dataset=refcoco", f"paths.data={SLICE}", "dataset.limit=2",
        "prompt.chat=true", "prompt.template='{expression}'", "discovery.n_samples=2", "discovery.trials=1",
        "evaluation.resamples=20", "evaluation.random_draws=2", "evaluation.gallery=0", f"paths.outputs={out}",
        f"hydra.run.dir={out / 'run'}", "engine.threads=1", "engine.device=cpu", "stage=evaluate",
        "criterion.skip_layers=0", "heads.k=1",
    )  # fmt: skip
    assert result.code == 0, result.err
    heads = json.loads((out / "run" / "heads.json").read_text())
    assert (heads["layers"], heads["heads_per_layer"]) == (LAYERS, HEADS)
    scores = pd.read_parquet(out / "run" / "scores.parquet")
    own = scores[scores["method"] == "localization_heads"]
    assert len(own) >= 2 and own["error"].isna().all()
    assert own["box_iou"].between(0, 1).all()
