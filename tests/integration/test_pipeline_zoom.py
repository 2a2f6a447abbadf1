"""A second look in whole runs: the answers are those that the model gives to the cropped images by other means."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import Finished, Result, TinyFiles, execute

from locheads.api import Grounder
from locheads.config import Config
from locheads.data.image_files import open_image
from locheads.errors import DataError
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.contrast import PROBES
from locheads.grounding.ground_maps import ground_maps
from locheads.grounding.zoom_config import Centre, Combine, Window, ZoomConfig
from locheads.models import load
from locheads.models.attend import attend_image
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.loaded import load_model
from locheads.pipeline import attention_pass
from locheads.pipeline.image_preparation import prepare_image
from locheads.records.explorer_file import ExplorerFile
from locheads.records.gallery_file import GalleryFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.zoom_file import ZoomFile
from locheads.types import HeadIndex, ImageGroup

Run = Callable[[Config], Path]
ZOOM = ZoomConfig(name="test", looks=1, window=Window.share, share=[0.6, 0.5], centre=Centre.peak, least=8,
                  combine=Combine.second)  # fmt: skip
ANSWER = ["x0", "y0", "x1", "y1", "peak_x", "peak_y", "mask_counts"]


def rows(folder: Path, file: str = "predictions.parquet") -> pd.DataFrame:
    return pd.read_parquet(folder / file).set_index("sample_id")


def heads_of(folder: Path) -> list[HeadIndex]:
    return [
        HeadIndex(int(name[1]), int(name[3])) for name in json.loads((folder / "metrics.json").read_text())["heads"]
    ]


@pytest.fixture(scope="module")
def zoomed(files: TinyFiles, finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Config]:
    """(run folder, cache, configuration) of a run with a second look, whose store held the first look."""
    root = tmp_path_factory.mktemp("zoomed")
    cache = Path(shutil.copytree(finished.cache, root / "cache"))
    config = files.config(root, cache, zoom=ZOOM)
    execute(config, root / "run")
    return root / "run", cache, config


def test_first_answers_and_baselines_are_those_of_a_run_that_looks_once(finished: Finished, zoomed) -> None:
    folder, _, _ = zoomed
    before, first = rows(finished.folder), rows(folder, "first_look.parquet")
    pd.testing.assert_frame_equal(first.drop(columns="method"), before.drop(columns="method"))
    pd.testing.assert_frame_equal(rows(folder, "baselines.parquet"), rows(finished.folder, "baselines.parquet"))
    assert not (finished.folder / "zoom.json").exists() and not (finished.folder / "first_look.parquet").exists()
    assert "first_look" not in MetricsRecord.read(finished.folder).methods
    once, twice = MetricsRecord.read(finished.folder), MetricsRecord.read(folder)
    assert twice.methods["first_look"] == once.methods["localization_heads"]
    assert (rows(folder)[ANSWER[:4]] != before[ANSWER[:4]]).any(axis=1).sum() > 15, (
        "a look that changes nothing is none"
    )


def test_the_second_answers_are_those_of_the_model_about_the_crops(files: TinyFiles, zoomed) -> None:
    folder, _, _ = zoomed
    lvlm, heads, record = load_model(ModelConfig(id=str(files.model))), heads_of(folder), ZoomFile.read(folder)
    seen = 0
    for sample_id, row in rows(folder).iterrows():
        windows = record.windows.get(sample_id, ())
        if not windows:
            continue
        (window,) = windows
        image = Image.open(files.images / f"COCO_train2014_{int(row['image_id']):012d}.jpg").convert("RGB")
        maps, geometry = attend_image(lvlm, image.crop(window), [row["expression"]], PromptConfig(), heads)
        own = ground_maps(maps[0], geometry, GroundingConfig())
        if own.box is None:
            continue
        expected = np.array(own.box) + np.tile(window[:2], 2)
        # The store packs maps into 16 bits: a cell at the threshold may change sides.
        seen += bool(np.allclose(row[ANSWER[:4]].to_numpy(dtype=float), expected, atol=1e-6))
        x0, y0, x1, y1 = window
        assert x0 <= row["x0"] < row["x1"] <= x1 and y0 <= row["y0"] < row["y1"] <= y1
    assert seen >= 0.9 * len(record.windows) > 20


def test_the_record_counts_what_was_asked(zoomed) -> None:
    folder, _, _ = zoomed
    record = ZoomFile.read(folder)
    assert record.n_asked == (len(record.windows),) and record.n_failed == 0
    images = rows(folder)["image_id"]
    assert record.n_parts == (len({(images[key], *windows[0]) for key, windows in record.windows.items()}),)
    (timed,) = [one for one in json.loads((folder / "timing.json").read_text())["passes"] if one["of"] == "second look"]
    assert timed["expressions"] == record.n_asked[0] and timed["seconds"] > 0
    methods = MetricsRecord.read(folder).methods
    (everything, *_) = record.gains
    for key, change in everything.metrics.items():
        assert change.a == pytest.approx(methods["first_look"][key].value)
        assert change.b == pytest.approx(methods["localization_heads"][key].value)
        assert change.low <= change.difference <= change.high
    assert sum(gain.n_expressions for gain in record.gains[1:]) == everything.n_expressions == 30


def test_the_samples_that_are_shown_have_the_parts_that_were_seen(finished: Finished, zoomed) -> None:
    folder, _, _ = zoomed
    windows = ZoomFile.read(folder).windows
    for kind, name in ((GalleryFile, "items"), (ExplorerFile, "samples")):
        shown, before = (getattr(kind.read(run), name) for run in (folder, finished.folder))
        assert [sample.views for sample in shown] == [windows.get(sample.sample_id, ()) for sample in shown]
        assert sum(bool(sample.views) for sample in shown) > 2
        assert not any(sample.views for sample in before), "a run that looks once"
        assert '"views"' not in (finished.folder / kind.FILE).read_text()
    # The explorer grounds the first look's maps: that they give another box than the run's is no fault of theirs.
    assert all(sample.same_box is None for sample in shown if sample.views)
    assert all(sample.same_box is not None for sample in before if sample.heads)


@pytest.mark.usefixtures("no_model")
def test_nothing_is_asked_twice(zoomed, run: Run) -> None:
    """The same run again, and other rules on the same looks, need no model."""
    folder, _, config = zoomed
    pd.testing.assert_frame_equal(rows(run(config)), rows(folder))
    different = 0
    for rule in (Combine.mean, Combine.product, Combine.attention):
        found = rows(run(replace(config, zoom=replace(ZOOM, combine=rule, keep=1.0))))
        different += not found[ANSWER[:4]].equals(rows(folder)[ANSWER[:4]])
    assert different >= 2


def test_a_look_that_fails_is_a_miss_and_counted(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def prepare(group, *arguments):
        if group.crop is not None and not refused:
            refused.append(group.samples)
        if group.crop is not None and group.samples == refused[0]:
            group = replace(group, path=group.path.with_name("gone.jpg"))
        return prepare_image(group, *arguments)

    monkeypatch.setattr(attention_pass, "prepare_image", prepare)
    folder = run(files.config(tmp_path, store, zoom=ZOOM))
    ids, found = {sample.sample_id.split("@")[0] for sample in refused[0]}, rows(folder)
    assert ids == set(found.index[found["error"].notna()])
    assert (
        found.loc[sorted(ids), "error"].str.contains("a further look failed: The image .*gone.jpg is not there").all()
    )
    assert found.loc[sorted(ids), "x0"].isna().all()
    assert rows(folder, "first_look.parquet")["error"].isna().all()
    assert ZoomFile.read(folder).n_failed == len(ids) == MetricsRecord.read(folder).n_failed
    assert (
        json.loads((folder / "receipt.json").read_text())["n_failed"] == len(ids)
        if (folder / "receipt.json").exists()
        else True
    )
    monkeypatch.setattr(attention_pass, "prepare_image", prepare_image)
    mended = run(files.config(tmp_path, store, zoom=ZOOM))
    assert rows(mended)["error"].isna().all(), "the next run asks again what failed"


def test_several_looks_narrow_and_probes_are_asked_about_the_parts(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run
) -> None:
    zoom = ZoomConfig(looks=2, window=Window.share, share=[0.7, 0.6], least=8, combine=Combine.second)
    config = files.config(tmp_path, store, zoom=zoom, grounding=GroundingConfig(contrast=Contrast.probes))
    folder = run(config)
    record = ZoomFile.read(folder)
    first, second = record.n_asked
    assert first >= second > 10
    for windows in record.windows.values():
        for (a0, b0, a1, b1), (c0, d0, c1, d1) in pairwise(windows):
            assert a0 <= c0 < c1 <= a1 and b0 <= d0 < d1 <= b1
            assert (c1 - c0, d1 - d0) != (a1 - a0, b1 - b0)
    # The last look of one sample, with its probes, by other means.
    lvlm, heads, found = load_model(ModelConfig(id=str(files.model))), heads_of(folder), rows(folder)
    agree = 0
    twice = [(key, windows[1]) for key, windows in record.windows.items() if len(windows) == 2][:8]
    for key, window in twice:
        row = found.loc[key]
        image = Image.open(files.images / f"COCO_train2014_{int(row['image_id']):012d}.jpg").convert("RGB").crop(window)
        maps, geometry = attend_image(lvlm, image, [row["expression"], *PROBES], PromptConfig(), heads)
        own = (maps[0].astype(np.float64) - maps[1:].mean(axis=0)).clip(0).astype(np.float32)
        box = ground_maps(own, geometry, GroundingConfig()).box
        if box is not None:
            agree += np.allclose(
                np.array(box) + np.tile(window[:2], 2), row[ANSWER[:4]].to_numpy(dtype=float), atol=1e-6
            )
    assert agree >= 6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_lvlm", None)  # all is stored
        pd.testing.assert_frame_equal(rows(run(config)), found)


def test_from_python_the_answers_are_those_of_the_run(files: TinyFiles, zoomed) -> None:
    folder, _, _ = zoomed
    grounder = Grounder(ModelConfig(id=str(files.model)), heads_of(folder), zoom=ZOOM)
    once = Grounder(ModelConfig(id=str(files.model)), heads_of(folder))
    agree, differ = 0, 0
    for _, row in list(rows(folder).iterrows())[:10]:
        path = files.images / f"COCO_train2014_{int(row['image_id']):012d}.jpg"
        found = grounder(path, row["expression"])
        width, height = Image.open(path).size
        assert found.mask.shape == (height, width)
        agree += np.allclose(found.box, row[ANSWER[:4]].to_numpy(dtype=float), atol=1e-6)
        differ += found.box != once(path, row["expression"]).box
        inside = found.geometry.to_cells(np.array(found.box))
        assert (inside > -1e-6).all() and (inside < max(found.heatmap.shape) + 1e-6).all()
    assert agree >= 9 and differ >= 5


def test_a_part_that_the_image_does_not_hold_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    fits = ImageGroup("1", tmp_path / "a.png", 10, 10, (), (20, 10, 30, 20))
    assert open_image(fits).size == (10, 10)
    with pytest.raises(DataError, match=r"a.png is smaller than its part 1"):
        open_image(replace(fits, crop=(21, 10, 31, 20)))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("zoom.looks=11", "zoom.looks must be a number of looks, from 0 to 10, not 11."),
        ("zoom.share=[0.5]", "zoom.share=[0.5] must be two numbers"),
        ("zoom.combine=third", "zoom.combine"),
        ("grounding.contrast=others", "set grounding.contrast=probes or none, or zoom=none."),
        ("stage=audit", "stage=audit compares first looks: set zoom=none, not box."),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_mistakes_are_a_sentence(
    files: TinyFiles, store: Path, tmp_path: Path, command: Callable[..., Result], override: str, sentence: str
) -> None:
    result = command(*files.arguments(tmp_path / "out", store), "zoom=box", override)
    assert result.code == 1 and sentence in result.err, result.err
    assert "Traceback" not in result.err
