"""RES with a segmenter, from the attention store alone: no LVLM is loaded."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import ROOT, Finished, Result, TinyFiles

from locheads.config import Config, Stage
from locheads.evaluation.config import EvaluationConfig
from locheads.pipeline.inputs import load_inputs
from locheads.report.figure_files import FigureKind, write_figures
from locheads.segmenters import __main__ as check
from locheads.segmenters.config import Negatives, PointRule, PromptKind, SegmenterConfig, SegmenterKind
from locheads.segmenters.sam import Sam
from locheads.segmenters.segmenter import Prompt
from locheads.store.atomic import read_json

sys.path.append(str(ROOT / "tests" / "unit" / "segmenters"))
from sam_parts import tiny_sam, tiny_sam2

Run = Callable[[Config], Path]
FEW = EvaluationConfig(random_draws=1, resamples=50, gallery=2)
BOX = ["x0", "y0", "x1", "y1"]
pytestmark = pytest.mark.usefixtures("no_model")


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet")


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam(tmp_path_factory.mktemp("sam"))


def test_grounding_from_the_store_loads_no_model(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    folder = run(files.config(tmp_path, store, stage=Stage.ground, segmenter=SegmenterConfig(kind=SegmenterKind.box)))
    assert len(predictions(folder)) == 30
    assert not (folder / "metrics.json").exists()


def test_a_segmenter_outside_the_package_gives_the_masks(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_boxes.py").write_text(
        "from locheads.segmenters.segmenter import BoxSegmenter\n"
        "class Own(BoxSegmenter):\n    def __init__(self, config, device): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    kinds = ("own_boxes:Own", "box")
    settings = (SegmenterConfig(kind=kind) for kind in kinds)
    own, box = (predictions(run(files.config(tmp_path, store, stage=Stage.ground, segmenter=s))) for s in settings)
    pd.testing.assert_frame_equal(own, box)


def test_sam_fills_the_masks_and_embeds_each_image_once(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, run: Run, sam: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    calls: list[tuple[Image.Image, int]] = []
    real = Sam.segment

    def counting(self: Sam, image: Image.Image, prompts: list[Prompt]) -> list:
        calls.append((image, len(prompts)))
        return real(self, image, prompts)

    monkeypatch.setattr(Sam, "segment", counting)
    segmenter = SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(sam))
    found = predictions(run(files.config(tmp_path, store, segmenter=segmenter, evaluation=FEW)))
    plain = predictions(finished.folder)
    assert len(calls) == 6
    # Five expressions, by the localization heads, the best by REC and by IoU, the mean, a random draw and the centre.
    assert {n for _, n in calls} == {5 * 6}
    pd.testing.assert_frame_equal(found[BOX], plain[BOX])
    assert found["mask_score"].notna().all() and "mask_score" not in plain
    assert (found["mask_counts"] != plain["mask_counts"]).mean() > 0.9
    assert found["error"].isna().all()


@pytest.mark.parametrize(("kind", "prompt"), [("sam_hf", PromptKind.mask), ("sam2", PromptKind.box_point)])
def test_other_prompts_and_sam2_run_through(
    kind: str, prompt: PromptKind, files: TinyFiles, store: Path, tmp_path: Path, run: Run, sam: Path
) -> None:
    checkpoint = tiny_sam2(tmp_path / "sam2") if kind == "sam2" else sam
    segmenter = SegmenterConfig(kind=SegmenterKind(kind), checkpoint=str(checkpoint), prompt=prompt, multimask=True)
    folder = run(files.config(tmp_path, store, segmenter=segmenter, evaluation=FEW))
    assert predictions(folder)["mask_score"].notna().all()


def test_the_box_segmenter_makes_the_mask_the_box(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    segmenter = SegmenterConfig(kind=SegmenterKind.box, box=True)
    rows = predictions(run(files.config(tmp_path, store, segmenter=segmenter, evaluation=FEW)))
    scores = pd.read_parquet(next(tmp_path.glob("run_*")) / "scores.parquet")
    assert (rows[BOX] == rows[BOX].round()).all(axis=None)  # pixels, because the box is now the mask's
    own = scores[scores["method"] == "localization_heads"]
    np.testing.assert_allclose(own["intersection"] / own["union"], own["box_iou"], atol=1e-12)


def test_the_points_of_a_prompt_are_measured_without_sam(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, run: Run
) -> None:
    segmenter = SegmenterConfig(
        kind=SegmenterKind.box, prompt=PromptKind.points, points=PointRule.high, negatives=Negatives.lowest
    )
    folder = run(files.config(tmp_path, store, segmenter=segmenter, evaluation=FEW))
    scores, methods = pd.read_parquet(folder / "scores.parquet"), read_json(folder / "metrics.json")["methods"]
    for method, rows in scores.groupby("method"):
        assert methods[method]["points_inside"]["value"] == pytest.approx(rows["points_inside"].mean())
        if method == "centre_box":  # no map says what lies beside it
            assert "points_beside" not in methods[method] and rows["points_beside"].isna().all()
        else:
            assert methods[method]["points_beside"]["value"] == pytest.approx(rows["points_beside"].mean())
    centre = scores[scores["method"] == "centre_box"]
    assert set(centre["points_inside"]) <= {0.0, 1.0}  # the box's centre
    assert 0 < scores["points_inside"].mean() < 1
    plain = pd.read_parquet(finished.folder / "scores.parquet")
    assert not [name for name in plain.columns if name.startswith("points_")]
    assert not [name for name in predictions(folder).columns if name in ("fused", "asked")]


def test_a_segmenter_changes_the_digest_and_its_batch_does_not(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run
) -> None:
    digests = []
    for segmenter in (SegmenterConfig(), SegmenterConfig(batch=2), SegmenterConfig(kind=SegmenterKind.box)):
        folder = run(files.config(tmp_path, store, stage=Stage.discover, segmenter=segmenter))
        digests.append(json.loads((folder / "provenance.json").read_text())["digest"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["segmenter=sam_hf", "segmenter.checkpoint=null"], "segmenter=sam_hf needs segmenter.checkpoint"),
        (["segmenter=sam_hf", "segmenter.checkpoint=/no/sam.pth"], "There is no /no/sam.pth"),
        (["segmenter=sam2", "segmenter.checkpoint=/no/sam.pth"], "is a .pth file; segmenter=sam2 reads"),
        (["segmenter=segment_anything", "segmenter.checkpoint=facebook/sam"], "is no .pth file"),
        (["segmenter.batch=0"], "segmenter.batch must be at least 1"),
        (["segmenter=samm"], "There is no segmenter=samm."),
        (["grounding.sinks=mean_map", "engine.maps='top 3'"], "grounding.sinks=mean_map needs the maps of all heads"),
        (["grounding.threshold=quantile", "grounding.level=1.0"], "grounding.level=1.0 leaves no or all cells"),
        (["grounding.mass=0"], "grounding.mass must lie above 0"),
        (["evaluation.show=[nobody]"], "evaluation.show names the sample nobody"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_loads(
    overrides: list[str], sentence: str, files: TinyFiles, tmp_path: Path, command: Callable[..., Result]
) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), *overrides)
    assert result.code == 1
    assert sentence in result.err
    assert result.err.count("\n") == 1 and "Traceback" not in result.err


def test_the_check_of_weights_tells_good_from_bad(sam: Path, capsys: pytest.CaptureFixture) -> None:
    assert check.main(["grabcut"]) == 0
    assert "as it should be" in capsys.readouterr().out
    # Random weights.
    assert check.main(["sam_hf", "--checkpoint", str(sam), "--device", "cpu"]) == 1
    assert "too low" in capsys.readouterr().out
    assert check.main(["sam_hf", "--checkpoint", "/no/sam.pth"]) == 1
    assert "error: There is no /no/sam.pth" in capsys.readouterr().err


def test_every_shown_sample_has_its_steps(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    evaluation = EvaluationConfig(random_draws=1, resamples=50, gallery=2)
    config = files.config(tmp_path, store, stage=Stage.report, evaluation=evaluation)
    ids = [sample.sample_id for group in load_inputs(config).evaluated for sample in group.samples]
    folder = run(replace(config, evaluation=replace(evaluation, show=[ids[7]])))
    written = write_figures(folder, tmp_path / "figures", FigureKind.png)
    panels = [path for path in written if path.name.startswith("steps_")]
    assert [panel.name for panel in panels] == ["steps_00.png", "steps_01.png", "steps_02.png"]
    with Image.open(panels[2]) as panel:
        assert panel.width > 400 and np.asarray(panel).std() > 10
    assert (folder / "report.html").read_text().count("Step by step") == 3
