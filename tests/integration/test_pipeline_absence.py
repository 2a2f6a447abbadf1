"""absence.score in whole runs: the answers, scores and figures are those that follow from the stored maps by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from pycocotools import mask as coco
from running import Result, TinyFiles, execute

from locheads.absence.config import AbsenceConfig
from locheads.config import Config
from locheads.data.config import DatasetConfig
from locheads.models.engine import EngineConfig
from locheads.pipeline import stages
from locheads.pipeline.setup import Setup
from locheads.records.explorer_file import ExplorerFile
from locheads.records.gallery_file import GalleryFile
from locheads.records.metrics_file import MetricsRecord


@pytest.fixture(scope="module")
def two_categories(files: TinyFiles, tmp_path_factory: pytest.TempPathFactory) -> TinyFiles:
    found = files.copy(tmp_path_factory.mktemp("two"))
    tiny.name_two_categories(found.folder)
    return found


def config(files: TinyFiles, outputs: Path, cache: Path, absence: AbsenceConfig, **changes: object) -> Config:
    dataset = DatasetConfig(reader="refer", folder=str(files.folder), images=str(files.images), absent="swapped")
    return files.config(outputs, cache, dataset=dataset, absence=absence, **changes)


class Ran:
    """A run folder, and what the run was fixed to."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self.folder, self.setup = folder, setup
        self.rows = pd.read_parquet(folder / "predictions.parquet").set_index("sample_id")
        self.scores = pd.read_parquet(folder / "scores.parquet").query("method == 'localization_heads'")
        self.metrics = MetricsRecord.read(folder)
        self.absent = {s.sample_id for g in setup.inputs.evaluated for s in g.samples if s.absent}


def ran(folder: Path, settings: Config) -> Ran:
    seen, prepare = [], stages.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "prepare", lambda *a: seen.append(prepare(*a)) or seen[-1])
        execute(settings, folder)
    return Ran(folder, seen[0])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("absence_cache")


@pytest.fixture(scope="module")
def calibrated(two_categories: TinyFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    outputs = tmp_path_factory.mktemp("calibrated")
    return ran(outputs / "run", config(two_categories, outputs, cache, AbsenceConfig(score="calibrated")))


@pytest.fixture(scope="module")
def off(calibrated: Ran, two_categories: TinyFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    outputs = tmp_path_factory.mktemp("off")
    return ran(outputs / "run", config(two_categories, outputs, cache, AbsenceConfig()))


def test_absent_samples_are_asked_and_take_no_part_in_discovery(calibrated: Ran) -> None:
    inputs, samples = calibrated.setup.inputs, json.loads((calibrated.folder / "samples.json").read_text())
    assert len(calibrated.absent) == 30  # each of 5 x 6 expressions once more
    assert not any(s.absent for g in [*inputs.discovery, *inputs.judged] for s in g.samples)
    assert any("~" in sample_id for sample_id in samples["calibration"])
    evaluated = {group.image_id for group in inputs.evaluated}
    assert evaluated.isdisjoint(group.image_id for group in inputs.calibration)


def test_the_scores_follow_from_the_stored_maps(calibrated: Ran) -> None:
    """The mass, and what is shared with the image's other refs and with the probes, worked out from the store alone."""
    from scipy.ndimage import gaussian_filter

    setup, seen = calibrated.setup, 0
    heads = [(int(name[1:].split("H")[0]), int(name.split("H")[1])) for name in calibrated.metrics.heads]
    scores = calibrated.scores.set_index("sample_id")
    for group, probed in zip(setup.inputs.evaluated, setup.inputs.probed, strict=False):
        assert probed.image_id == group.image_id
        maps = {
            sample_id: np.stack([found.maps[row][at] for at in heads]).astype(float)
            for one in (group, probed)
            for found in setup.store.read([one])
            for row, sample_id in enumerate(found.sample_ids)
        }
        fused = {
            key: sum(gaussian_filter(each, 1, mode="mirror", radius=3) for each in own) for key, own in maps.items()
        }
        for sample in group.samples:
            own, row = fused[sample.sample_id], scores.loc[sample.sample_id]
            others = [fused[s.sample_id] for s in group.samples if s.ref_id != sample.ref_id]
            probes = [fused[s.sample_id] for s in probed.samples]
            assert row["absence_mass"] == pytest.approx(1 - maps[sample.sample_id].sum() / len(heads), abs=1e-5)
            for name, references in (("others", others), ("probes", probes)):
                left = np.maximum(own - np.mean(references, axis=0), 0).sum() / own.sum()
                assert row[f"absence_{name}"] == pytest.approx(1 - left, abs=1e-4)
            seen += 1
    assert seen == 60


def test_from_the_threshold_on_the_answer_is_none(calibrated: Ran, off: Ran) -> None:
    """Below it, it is what it is without abstaining; the maps' peaks and the baselines stay."""
    threshold = calibrated.metrics.absence.threshold
    none = calibrated.rows["absence"] >= threshold
    assert 0 < none.sum() < 60
    assert calibrated.rows.loc[none, ["x0", "y0", "x1", "y1"]].isna().all().all()
    for _, row in calibrated.rows[none].iterrows():
        assert coco.area({"size": [row.mask_height, row.mask_width], "counts": row.mask_counts}) == 0
    columns = ["x0", "y0", "x1", "y1", "mask_counts", "error"]
    pd.testing.assert_frame_equal(calibrated.rows.loc[~none, columns], off.rows.loc[~none, columns])
    peaks = ["peak_x", "peak_y"]
    pd.testing.assert_frame_equal(calibrated.rows[peaks], off.rows[peaks])
    pd.testing.assert_frame_equal(*(pd.read_parquet(r.folder / "baselines.parquet") for r in (calibrated, off)))
    assert off.metrics.absence is None
    assert "absence" not in off.rows
    assert not {"absence_auroc", "absence_aurc"} & off.metrics.methods["localization_heads"].keys()


def test_the_samples_that_are_shown_have_their_score(calibrated: Ran, off: Ran) -> None:
    threshold, none = calibrated.metrics.absence.threshold, 0
    for kind, name in ((GalleryFile, "items"), (ExplorerFile, "samples")):
        for sample in getattr(kind.read(calibrated.folder), name):
            assert sample.absence == calibrated.rows["absence"][sample.sample_id]
            none += (sample.absence >= threshold) and sample.box is None
        assert '"absence"' not in (off.folder / kind.FILE).read_text()
    assert none > 2
    for sample in ExplorerFile.read(calibrated.folder).samples:  # the maps alone do not make the answer "none"
        assert (sample.same_box is None) == (sample.absence >= threshold)


def test_the_figures_follow_from_the_scores(calibrated: Ran) -> None:
    absence, own = calibrated.metrics.absence, calibrated.metrics.methods["localization_heads"]
    score = calibrated.rows["absence"]
    absent = calibrated.rows.index.isin(calibrated.absent)
    pairs = [(a > t) + (a == t) / 2 for a in score[absent] for t in score[~absent]]
    assert own["absence_auroc"].value == pytest.approx(np.mean(pairs), abs=1e-9)
    assert own["absence_auroc"].value == pytest.approx(absence.auroc[absence.score].value, abs=1e-9)
    none = (score >= absence.threshold).to_numpy()
    assert own["n_acc"].value == pytest.approx(none[absent].mean())
    assert own["t_acc"].value == pytest.approx((~none[~absent]).mean())
    assert absence.risk[-1] == pytest.approx(own["absence_aurc"].value, abs=1)
    assert (absence.n_targeted, absence.n_absent, absence.n_unscored) == (30, 30, 0)
    best = max(absence.calibration.auroc, key=absence.calibration.auroc.get)
    assert absence.score == best
    assert not {"absence_auroc", "absence_aurc"} & calibrated.metrics.methods["mean_of_all_heads"].keys()


def test_a_given_threshold_needs_no_calibration_and_few_maps_suffice(
    calibrated: Ran, two_categories: TinyFiles, tmp_path: Path
) -> None:
    """engine.maps="top 3" keeps the heads' maps of what is grounded: the scores are the same."""
    score = calibrated.metrics.absence.score
    absence = AbsenceConfig(score=score, threshold=calibrated.metrics.absence.threshold)
    engine = EngineConfig(device="cpu", threads=1, maps="top 3")
    found = ran(tmp_path / "run", config(two_categories, tmp_path, tmp_path / "cache", absence, engine=engine))
    assert found.setup.inputs.calibration == []
    assert found.metrics.absence.calibration is None
    np.testing.assert_allclose(found.rows["absence"], calibrated.rows["absence"], atol=2e-3)


@pytest.mark.usefixtures("no_model")
def test_what_cannot_be_scored_is_said_before_the_model_loads(
    two_categories: TinyFiles, tmp_path: Path, command: Callable[..., Result]
) -> None:
    given = [*two_categories.arguments(tmp_path, tmp_path / "cache"), "dataset.absent=swapped"]
    for overrides, sentence in {
        ("absence.score=mass", "selection=greedy"): "absence.score=mass compares the same heads' maps",
        ("absence.score=scatter", "heads.k=1"): "absence.score=scatter compares the maps of several heads",
        (
            "absence.score=mass",
            "dataset.test_splits=[train]",
        ): "absence.score=mass is calibrated on the test split",
    }.items():
        result = command(*given, *overrides)
        assert result.code == 1
        assert result.err.startswith(f"error: {sentence}")
