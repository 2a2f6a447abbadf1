"""AGD20K and ScreenSpot through the whole pipeline: the pocket model on files of their form that are made here."""

import json
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import ROOT, Result, call

sys.path.append(str(ROOT / "tests" / "unit" / "data"))
from affordance_files import agd20k

from locheads.evaluation.heat_metrics import OF_NO_HEAT, heat_scores, on_square, truth_on_square
from locheads.evaluation.metric_table import ABSENT, METRIC, METRICS
from locheads.geometry import Geometry
from locheads.pocket.task_files import write_affordances, write_screens
from locheads.records.metrics_file import MetricsRecord
from locheads.report.run_record import read_run
from locheads.report.sweep_table import SweepRow, sweep_table
from locheads.store.atomic import read_json
from locheads.terminal import PlainConsole

HEAT = {"agd_kld", "agd_sim", "agd_nss"}
CLICKS = {"click_acc", "click_acc_centre"}
N_IMAGES = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    write_affordances(root / "AGD20K", N_IMAGES)
    write_affordances(root / "AGD20K", 2, "Unseen", first=20)
    # A truth of which there is no image is none of a sample; an image that cannot be read is a sample that fails.
    (broken,) = list((root / "AGD20K" / "Seen" / "testset" / "egocentric" / "hold").glob("*/*_000002.jpg"))
    broken.write_bytes(broken.read_bytes()[:2000])
    write_screens(root / "screenspot_v2", N_IMAGES)
    return root


def _run(root: Path, patch: pytest.MonkeyPatch, *arguments: str) -> Result:
    common = [f"paths.data={root}", f"paths.outputs={root / 'out'}", "engine.threads=1", "engine.device=cpu",
              "evaluation.random_draws=2", "evaluation.gallery=3", "explorer.samples=3"]  # fmt: skip
    return call(patch, [*common, *arguments])


def _finished(root: Path, name: str, *arguments: str) -> Path:
    folder = root / "out" / "runs" / name
    with pytest.MonkeyPatch.context() as patch:
        result = _run(root, patch, f"hydra.run.dir={folder}", *arguments)
    assert result.code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def of_heat(root: Path) -> Path:
    return _finished(root, "heat", "dataset=agd20k", "heads.set=pocket", "study=agd20k")


@pytest.fixture(scope="module")
def of_screens(root: Path) -> Path:
    return _finished(root, "screens", "dataset=screenspot_v2", "heads.set=pocket", "study=screenspot")


def test_a_sweep_over_them_shows_their_own_figures(of_heat: Path, of_screens: Path) -> None:
    for folder, key, heading in ((of_heat, "agd_kld", "KLD, 224"), (of_screens, "click_acc", "Click accuracy")):
        metrics = MetricsRecord.read(folder)
        figure = metrics.get("localization_heads", key).text(METRIC[key].unit, interval=False)
        console = PlainConsole(width=160, record=True, file=StringIO())
        console.print(sweep_table([SweepRow({"prompt": "a"}, folder, metrics, None)]))
        text = console.export_text()
        assert heading in text and figure in text and ABSENT not in text


def test_heat_maps_have_their_own_metrics_and_no_others(of_heat: Path) -> None:
    metrics = read_json(of_heat / "metrics.json")
    assert {*metrics["methods"]} == {"localization_heads", "mean_of_all_heads", "random_heads"}
    assert all({*found} == HEAT for found in metrics["methods"].values())
    assert (metrics["n_expressions"], metrics["n_failed"]) == (N_IMAGES + N_IMAGES // 2, 1)
    by_kind = {part["slice"]: part["n_expressions"] for part in metrics["slices"] if part["by"] == "kind"}
    assert by_kind == {"hold": N_IMAGES, "cut_with": N_IMAGES // 2}
    assert "area" not in {part["by"] for part in metrics["slices"]}
    scores = pd.read_parquet(of_heat / "scores.parquet")
    assert not {"box_iou", "intersection", "pointed", "swapped", "chance", "true_x0", "map_kld"} & {*scores.columns}
    own = scores[scores["method"] == "localization_heads"].set_index("sample_id")
    (failed,) = own.index[own["error"].notna()]
    assert own.loc[failed, list(OF_NO_HEAT)].to_dict() == OF_NO_HEAT
    means = {key: own[key].mean() for key in HEAT}
    assert {k: v["value"] for k, v in metrics["methods"]["localization_heads"].items()} == pytest.approx(
        means, abs=1e-12
    )


def test_heads_are_found_without_boxes_and_no_baseline_asks_for_any(root: Path) -> None:
    folder = _finished(root, "found", "dataset=agd20k", "dataset.discovery_split=unseen", "discovery.n_samples=3",
                       "discovery.trials=1", "dataset.limit=2", "stage=evaluate")  # fmt: skip
    heads, metrics = read_json(folder / "heads.json"), read_json(folder / "metrics.json")
    assert len(heads["heads"]) == 3 and heads.get("head_iou") is None
    assert metrics["figure6"] is None and not {"best_rec_heads", "best_iou_heads"} & {*metrics["methods"]}


def test_the_figures_are_those_of_the_kept_maps(of_heat: Path, root: Path) -> None:
    """Worked out once more from the gallery's fused maps and the truths' files."""
    record, scores = read_run(of_heat), pd.read_parquet(of_heat / "scores.parquet")
    own = scores[scores["method"] == "localization_heads"].set_index("sample_id")
    heats = {s.sample_id: s.heat for g in agd20k(root / "AGD20K").read("seen") for s in g.samples}
    compared = 0
    for item in record.gallery:
        if item.error is None:
            (rows, cols), (x0, y0, x1, y1) = item.grid, item.cell_box
            scale = cols / (x1 - x0), rows / (y1 - y0)
            where = Geometry(item.width, item.height, rows, cols, scale, (-x0 * scale[0], -y0 * scale[1]))
            truth = np.asarray(Image.open(heats[item.sample_id])) / 255
            fused = record.maps[item.sample_id][0]
            scored = heat_scores(on_square(fused, where), truth_on_square(truth))
            found = {key: float(value) for key, value in scored.items()}
            assert own.loc[item.sample_id, list(found)].to_dict() == pytest.approx(found, abs=1e-5)
            compared += 1
    assert compared >= 2


def test_the_pages_show_the_truth_beside_the_map_and_no_box(of_heat: Path) -> None:
    page = (of_heat / "report.html").read_text()
    for metric in METRICS:
        assert (f'<th scope="col">{metric.label}</th>' in page) == (metric.key in HEAT), metric.key
    assert "beside it the true heat map" in page and "no box is drawn" in page and "IoU 0.00" not in page
    assert "on heat maps" in page
    for item in read_run(of_heat).gallery:
        assert item.box is None and item.true_box is None and item.heat is not None
        with Image.open(of_heat / item.heat) as truth:
            assert np.ptp(np.asarray(truth)) > 100
    explorer = read_json(of_heat / "explorer.json")["samples"]
    assert all(s["true_box"] is None and s["box"] is None for s in explorer)
    pictures = [s["heat"] for s in explorer]
    assert len({*pictures}) == len(explorer) and not {*pictures} & {s["picture"] for s in explorer}
    html = (of_heat / "explorer.html").read_text()
    assert all(f'id="image-{number}"' in html for number in pictures)


def test_screens_have_clicks_by_platform_beside_the_usual_metrics(of_screens: Path) -> None:
    metrics, scores = read_json(of_screens / "metrics.json"), pd.read_parquet(of_screens / "scores.parquet")
    found = metrics["methods"]["localization_heads"]
    assert {*found} >= CLICKS and {"rec_acc@0.5", "pointing"} <= {*found} and not HEAT & {*found}
    own = scores[scores["method"] == "localization_heads"].set_index("sample_id")
    answers = pd.read_parquet(of_screens / "predictions.parquet").set_index("sample_id")
    records = {}
    for path in sorted(Path(of_screens.parents[2] / "screenspot_v2").glob("*.json")):
        records |= {
            f"{path.stem}-{i}": (path.stem.split("_")[1], r) for i, r in enumerate(json.loads(path.read_text()))
        }
    assert {*own.index} == {*records}
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for sample_id, (platform, record) in records.items():
        x, y, width, height = record["bbox"]
        row = answers.loc[sample_id]
        points = (row["peak_x"], row["peak_y"]), ((row["x0"] + row["x1"]) / 2, (row["y0"] + row["y1"]) / 2)
        hit = [x <= at[0] <= x + width and y <= at[1] <= y + height for at in points]
        for key in ("all", record["data_type"], f"{platform} {record['data_type']}"):
            hits.setdefault(key, []).append((hit[0], hit[1]))
    expected = {key: np.mean(values, axis=0).tolist() for key, values in hits.items()}
    assert [found[key]["value"] for key in sorted(CLICKS)] == pytest.approx(expected.pop("all"), abs=1e-9)
    by_kind = {p["slice"]: p["metrics"] for p in metrics["slices"] if p["by"] == "kind"}
    assert {k: [v[key]["value"] for key in sorted(CLICKS)] for k, v in by_kind.items()} == {
        key: pytest.approx(values, abs=1e-9) for key, values in expected.items()
    }
    page = (of_screens / "report.html").read_text()
    assert "Click accuracy" in page and "Kind: mobile icon" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dataset=agd20k"], "has no split train with truths: heads must be found on other data"),
        (
            ["dataset=agd20k", "dataset.discovery_split=unseen", "dataset.test_splits=[]", "stage=audit"],
            "stage=audit measures boxes, but the truth of agd20k is",
        ),
        (["dataset=screenspot_v2"], "has one split, test, and no train"),
        (["dataset=screenspot_v2", "heads.set=pocket", "dataset.box_format=xyxy"], "dataset.box_format"),
        (
            ["dataset=agd20k", "heads.set=pocket", "dataset.affordances.hold=hold"],
            "dataset.affordances.hold=hold has no {object}",
        ),
        (
            ["dataset=agd20k", "stage=evaluate", "predictions=FILE", "predictions_format=xyxy"],
            "nothing of the file can be",
        ),
    ],
)
def test_mistakes_are_one_sentence_before_a_model_loads(
    root: Path, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, no_model: None, tmp_path: Path
) -> None:
    (tmp_path / "answers.jsonl").write_text('{"id": "a", "box": [1, 2, 3, 4]}\n')
    arguments = [argument.replace("FILE", str(tmp_path / "answers.jsonl")) for argument in arguments]
    result = _run(root, monkeypatch, *arguments)
    assert result.code == 1 and sentence in result.err.replace("\n", " "), result.err


def test_points_of_another_model_are_scored_as_clicks(root: Path, of_screens: Path) -> None:
    """The heads' own peaks, written to a file: the same figure."""
    answers = pd.read_parquet(of_screens / "predictions.parquet")
    path = root / "points.jsonl"
    lines = [{"id": i, "box": [x, y]} for i, x, y in answers[["sample_id", "peak_x", "peak_y"]].itertuples(index=False)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = _finished(root, "points", "dataset=screenspot_v2", "stage=evaluate", f"predictions={path}",
                       "predictions_format.point_format=xy", "study=screenspot")  # fmt: skip
    ours = read_json(of_screens / "metrics.json")["methods"]["localization_heads"]
    assert read_json(folder / "metrics.json")["methods"]["points"]["click_acc"] == ours["click_acc"]


def test_the_check_counts_kinds_and_the_truths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run(root, monkeypatch, "dataset=agd20k", "stage=check", f"hydra.run.dir={root / 'out' / 'check'}")
    assert result.code == 1  # six images are not 1,675
    verdicts = read_json(root / "out" / "check" / "check.json")
    points = {point["question"]: point for point in verdicts if point["split"] == "seen"}
    assert f"{N_IMAGES} hold instead of 297" in points["kinds"]["text"] and points["heat maps"]["state"] == "ok"
