"""The LVLM is never asked the same thing twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import TinyFiles

from locheads.config import Config
from locheads.data.image_files import open_image
from locheads.discovery.config import CriterionConfig, HeadsConfig, SelectionConfig, SelectionKind
from locheads.grounding.config import GroundingConfig
from locheads.models.attend import attend
from locheads.models.engine import EngineConfig
from locheads.models.identity import identify
from locheads.models.load import load_lvlm
from locheads.pipeline import attention_pass as attention
from locheads.pipeline.inputs import load_inputs
from locheads.pipeline.open_store import open_store

SMALL_SHARDS = EngineConfig(device="cpu", threads=1, shard_images=2)
N_IMAGES = 14


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the images that the model saw, in order."""
    seen: list[str] = []
    real = attention.attend_groups

    def counting(lvlm: Any, batch: Any, *rest: Any) -> Any:
        seen.extend(group.image_id for group, _ in batch)
        return real(lvlm, batch, *rest)

    monkeypatch.setattr(attention, "attend_groups", counting)
    return seen


@pytest.mark.parametrize(
    "changes",
    [
        {"criterion": CriterionConfig(score="entropy")},
        {"heads": HeadsConfig(k=1)},
        {"grounding": GroundingConfig(sigma=0.0)},
        {"selection": SelectionConfig(SelectionKind.greedy)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_other_choice_after_the_attention_pass_loads_the_model(
    changes: dict[str, Any], files: TinyFiles, store: Path, run: Callable[[Config], Path], no_model: None
) -> None:
    folder = run(files.config(store.parent, store, **changes))
    assert (folder / "metrics.json").exists()


def test_a_checkpoint_that_was_moved_is_not_asked_again(
    files: TinyFiles, store: Path, tmp_path: Path, run: Callable[[Config], Path], no_model: None
) -> None:
    config = files.config(store.parent, store)
    moved = shutil.copytree(config.model.id, tmp_path / "elsewhere")
    assert (run(replace(config, model=replace(config.model, id=str(moved)))) / "metrics.json").exists()


def test_another_prompt_does_load_the_model(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], no_model: None
) -> None:
    config = files.config(store.parent, store)
    prompt = replace(config.prompt, template="<image>\n{expression}")
    with pytest.raises(AssertionError, match="the model was loaded"):
        run(replace(config, prompt=prompt))


def test_an_interrupted_attention_pass_goes_on_where_it_was(
    files: TinyFiles,
    tmp_path: Path,
    run: Callable[[Config], Path],
    monkeypatch: pytest.MonkeyPatch,
    attended: list[str],
) -> None:
    config = files.config(tmp_path, engine=SMALL_SHARDS)
    real, seen = attention.attend_groups, []

    def interrupted_at_the_fourth(lvlm: Any, batch: Any, *rest: Any) -> Any:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.extend(group.image_id for group, _ in batch)
        return real(lvlm, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(attention, "attend_groups", interrupted_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    attended.clear()
    folder = run(config)
    # The first file of two images was stored, and the third image on being told to stop.
    assert len(attended) == N_IMAGES - 3
    assert set(attended).isdisjoint(seen)
    uninterrupted = run(files.config(tmp_path / "fresh"))
    assert (folder / "predictions.parquet").read_bytes() == (uninterrupted / "predictions.parquet").read_bytes()
    assert (folder / "heads.json").read_bytes() == (uninterrupted / "heads.json").read_bytes()


@pytest.mark.parametrize("damage", [b"", None, b"flipped"], ids=["emptied", "deleted", "flipped"])
def test_a_damaged_shard_is_computed_again(
    damage: bytes | None,
    files: TinyFiles,
    tmp_path: Path,
    run: Callable[[Config], Path],
    attended: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = files.config(tmp_path, engine=SMALL_SHARDS)
    whole = run(config)
    assert len(attended) == N_IMAGES
    shard = sorted((tmp_path / "cache").rglob("*.safetensors"))[0]
    if damage is None:
        shard.unlink()
    elif damage:
        content = bytearray(shard.read_bytes())
        start = 8 + int.from_bytes(content[:8], "little")  # in every array: not all are read again
        content[start::97] = bytes(byte ^ 255 for byte in content[start::97])
        shard.write_bytes(content)
    else:
        shard.write_bytes(b"")
    attended.clear()
    mended = run(config)
    assert len(attended) == 2
    assert "is damaged" in caplog.text
    assert (mended / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    attended.clear()
    run(config)
    assert attended == []


def test_the_store_gives_back_what_the_model_said(files: TinyFiles, tmp_path: Path) -> None:
    # The pass returns permuted views: a store that writes memory as it lies mixes layers, heads and samples up.
    config = files.config(tmp_path)
    inputs = load_inputs(config)
    lvlm, group = load_lvlm(config.model, config.engine), inputs.evaluated[0]
    said = attend(lvlm, group, open_image(group), config.prompt)
    written = open_store(config, identify(config.model), inputs.annotations)
    written.write([said])
    (read,) = open_store(config, identify(config.model), inputs.annotations).read([group])
    assert read.sample_ids == said.sample_ids
    np.testing.assert_array_equal(read.sums, said.sums)
    peaks = said.maps.max(axis=(-2, -1), keepdims=True)
    assert (abs(read.maps - said.maps) <= peaks * 2**-10).all()
