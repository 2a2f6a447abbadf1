"""What a run keeps for the head explorer: the right maps of the right samples, within its budget."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from running import Finished, TinyFiles

from locheads.config import Config, ExplorerConfig, Stage
from locheads.discovery.config import SelectionConfig, SelectionKind
from locheads.grounding.config import GroundingConfig, Sinks
from locheads.models.engine import EngineConfig
from locheads.pipeline import stages
from locheads.pipeline.write_explorer import decode
from locheads.records.explorer_file import ExplorerFile
from locheads.report.html import write_report
from locheads.types import HeadIndex

Run = Callable[[Config], Path]
ALL_HEADS = tiny.LAYERS * tiny.HEADS


def explorer_of(folder: Path) -> ExplorerFile:
    record = ExplorerFile.read(folder)
    assert record is not None
    return record


def test_maps_are_those_of_the_store(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []
    prepare = stages.prepare
    monkeypatch.setattr(stages, "prepare", lambda *a: runs.append(prepare(*a)) or runs[-1])
    record = explorer_of(run(files.config(tmp_path, store)))
    stored = {
        sample_id: attention.maps[row]
        for attention in runs[0].store.read(runs[0].inputs.evaluated)
        for row, sample_id in enumerate(attention.sample_ids)
    }
    assert [sample.sample_id for sample in record.samples] == list(stored)
    for sample in record.samples:
        assert len(set(sample.heads)) == len(sample.heads) == ALL_HEADS
        maps = decode(record.maps(sample), list(sample.scales))
        for name, found in zip(sample.heads, maps, strict=True):
            layer, head = (int(part) for part in name[1:].split("H"))
            truth = stored[sample.sample_id][layer, head].astype(np.float64)
            # Half a step of the root, at a weight that is at most the largest.
            assert np.abs(np.sqrt(found) - np.sqrt(truth)).max() <= 0.6 / 255 * np.sqrt(truth.max())
        assert not np.allclose(maps[0], maps[-1])


def test_answers_and_presets_are_the_runs(finished: Finished) -> None:
    record = explorer_of(finished.folder)
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert (list(record.localization), list(record.best_iou)) == (metrics["heads"], metrics["best_iou_heads"])
    rows = pd.read_parquet(finished.folder / "predictions.parquet").set_index("sample_id")
    for sample in record.samples:
        row = rows.loc[sample.sample_id]
        assert sample.expression == row["expression"]
        assert " ".join(sample.own) == row["heads"]
        assert sample.box == pytest.approx(row[["x0", "y0", "x1", "y1"]].tolist())
        assert sample.heads[:3] == sample.own
    assert sum(bool(sample.same_box) for sample in record.samples) > 0.9 * len(record.samples)
    assert record.entropy is not None and np.nanmin(record.entropy) >= 0


def test_pages_rebuild_to_the_byte_without_model_data_and_store(finished: Finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    for name in ("report.html", "explorer.html"):
        (copy / name).unlink()
    write_report(copy)
    for name in ("report.html", "explorer.html"):
        assert (copy / name).read_bytes() == (finished.folder / name).read_bytes()


def test_budget_keeps_the_most_wanted_heads(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    cells = (tiny.SIDE // tiny.PATCH) ** 2
    small = ExplorerConfig(samples=10, megabytes=10 * 7 * cells / 1e6)
    folder = run(files.config(tmp_path, store, explorer=small))
    record = explorer_of(folder)
    assert len(record.samples) == 10
    assert (folder / "explorer/maps.bin").stat().st_size == 10 * 7 * cells
    frequency = np.array(json.loads((folder / "heads.json").read_text())["frequency_mean"])
    ranked = [str(HeadIndex(*divmod(int(i), tiny.HEADS))) for i in np.argsort(-frequency, axis=None, kind="stable")]
    wanted = list(dict.fromkeys([*record.localization, *record.best_rec, *record.best_iou, *ranked]))[:7]
    assert all(list(sample.heads) == wanted for sample in record.samples)


def test_a_compact_store_gives_what_it_has(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    engine = EngineConfig(device="cpu", threads=1, maps="top 4")
    for kind in SelectionKind:
        config = files.config(tmp_path / kind.value, engine=engine, selection=SelectionConfig(kind))
        record = explorer_of(run(config))
        for sample in record.samples:
            assert 4 <= len(sample.heads) < ALL_HEADS
            assert set(sample.own) <= set(sample.heads)
            assert sample.same_box is not None


def test_a_sample_that_failed_is_there_with_its_reason(files: TinyFiles, tmp_path: Path, run: Run) -> None:
    broken = files.copy(tmp_path)
    (next(iter(sorted(broken.images.glob("*_000000000200.jpg"))))).write_bytes(b"no image")
    folder = run(broken.config(tmp_path / "out"))
    failed = [sample for sample in explorer_of(folder).samples if sample.error]
    assert len(failed) == 5
    assert all(s.heads == () and s.box is None and s.same_box is None and s.image is None for s in failed)
    assert (folder / "heads.json").exists()
    write_report(folder)
    assert "cannot be read" in (folder / "explorer.html").read_text()


def test_no_explorer_on_request(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    none = files.config(tmp_path, store, explorer=ExplorerConfig(samples=0), stage=Stage.report)
    folder = run(none)
    assert not list(folder.glob("explorer*"))
    with_explorer = run(files.config(tmp_path, store))
    digests = [json.loads((f / "heads.json").read_text())["digest"] for f in (folder, with_explorer)]
    assert digests[0] == digests[1]


def test_without_sinks_the_kept_maps_still_give_the_runs_own_boxes(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run
) -> None:
    config = files.config(tmp_path, store, grounding=GroundingConfig(sinks=Sinks.mean_map, sink_factor=1.05))
    same = [sample.same_box for sample in explorer_of(run(config)).samples]
    assert np.mean(same) > 0.9  # 8 bits may move a cell over the threshold
