"""The benchmark of all stages: its data are of real size, its free model finds what it is made to find."""

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from locheads.bench import bench_pipeline as pipeline
from locheads.bench.__main__ import main
from locheads.bench.metered_run import FIRST_PLACE, Meters
from locheads.bench.real_size import PLACES, SPECIAL, _layer, place_boxes, write_dataset
from locheads.bench.shapes import SHAPES


def test_a_run_is_metered_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.json"
    arguments = ["pipeline", "--shape", "tiny", "--expressions", "12", "--only", "all maps", "--json", str(file)]
    assert main([*arguments, "--scratch", str(tmp_path)]) == 0
    (run,) = json.loads(file.read_text())["runs"]
    stages = run["stages"]
    assert list(stages) == ["start and end", "attend", "discover", "ground", "evaluate", "report", "total"]
    assert (
        stages["attend"]["expressions"]
        == run["evaluated"] + run["discovery"]
        == stages["discover"]["expressions"] + stages["ground"]["expressions"]
    )
    for clock in ("wall", "main", "cpu"):
        parts = sum(stage[clock] for name, stage in stages.items() if name != "total")
        assert parts == pytest.approx(stages["total"][clock])
        assert run["free_model"][clock] > 0
    assert stages["total"]["cpu"] > stages["total"]["main"] > stages["attend"]["main"] > 0
    assert run["store_mib"] > 0
    assert "driving thread" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_the_data_have_refcocos_counts(tmp_path: Path) -> None:
    counts = write_dataset(tmp_path, 3000)
    of_image: Counter[int] = Counter()
    for ref in pickle.loads((tmp_path / "refcoco" / "refs(unc).p").read_bytes()):
        of_image[ref["image_id"]] += len(ref["sentences"]) if ref["split"] == "val" else 0
    of_images = [n for n in of_image.values() if n]
    assert counts["images"] == len(of_images) and counts["expressions"] == sum(of_images)
    assert np.mean(of_images) == pytest.approx(7.22, abs=0.3)
    assert np.std(of_images) == pytest.approx(3.25, abs=0.4)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.jpg")]
    assert 140_000 < np.mean(sizes) < 190_000


def test_some_heads_look_where_the_place_is_and_most_do_not() -> None:
    shape, boxes = SHAPES["llava_1_5_7b"], place_boxes()
    rows = _layer(shape, 1)
    assert rows.shape == (32, PLACES, 24 * 24) and rows.sum(-1).max() < 1
    peaks = rows.argmax(-1)
    x, y = (peaks % 24 + 0.5) * 640 / 24, (peaks // 24 + 0.5) * 640 / 24 - 80
    inside = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
    assert inside[-1].all()
    assert inside.mean() < 0.5


def test_the_words_of_places_follow_the_special_ones() -> None:
    assert len(SPECIAL) == FIRST_PLACE


def test_what_is_off_counts_nowhere() -> None:
    meters = Meters()
    before = meters.now()
    with meters.off():
        sum(range(3_000_000))
    assert meters.free["main"] > 0.01
    assert meters.now()["main"] - before["main"] < 0.5 * meters.free["main"]


def test_the_exponent_is_the_slope_in_the_number_of_expressions() -> None:
    def run(n: int, seconds: float) -> dict:
        return {"checkout": "a", "name": "b", "evaluated": n, "stages": {"c": {"cpu": seconds}}}

    found = pipeline._exponents([run(100, 2.0), run(200, 8.0), run(400, 32.0)])
    assert found == {"a: b: c": pytest.approx(2.0)}


def test_a_baseline_without_the_package_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "--shape", "tiny", "--baseline", str(tmp_path)]) == 1
    assert "holds no src/locheads" in capsys.readouterr().err


def test_a_scratch_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "--shape", "tiny", "--scratch", str(tmp_path / "absent")]) == 1
    assert f"--scratch {tmp_path / 'absent'} is no folder" in " ".join(capsys.readouterr().err.split())
