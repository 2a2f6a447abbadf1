"""The explorer's records, its self-contained page, and what is left out when it would be too large."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from explorer_files import EXPRESSIONS, GEOMETRIES, HEADS, LAYERS, build_explorer
from locheads.errors import StoreError
from locheads.grounding.config import Border, Component, GroundingConfig, Padding, Rounding, SmoothingScale
from locheads.grounding.ground_maps import ground_maps
from locheads.pipeline.write_explorer import decode, encode
from locheads.records.explorer_file import ExplorerFile, ExplorerSample
from locheads.report.__main__ import main
from locheads.report.explorer.page import FOLDER, LIMIT, contents, fit, self_contained
from locheads.report.html import write_report
from locheads.report.run_record import read_run


@pytest.fixture
def folder(run_folder):
    return build_explorer(run_folder)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_eight_bits_keep_a_map_to_half_a_step_of_its_root():
    maps = np.random.default_rng(0).gamma(0.3, 0.01, (5, 24, 24)).astype(np.float32)
    codes, scales = encode(maps)
    assert codes.dtype == np.uint8
    shares = np.sqrt(maps / maps.max(axis=(1, 2), keepdims=True))
    again = np.sqrt(decode(codes, scales) / np.array(scales)[:, None, None])
    assert np.abs(again - shares).max() <= 0.5 / 255 + 1e-5
    # Equal steps of the weight itself would be coarser where the threshold lies.
    mean = maps.mean(axis=(1, 2), keepdims=True)
    near = np.abs(maps / mean - 1) < 0.2
    linear = np.rint(255 * maps / maps.max(axis=(1, 2), keepdims=True)) / 255 * maps.max(axis=(1, 2), keepdims=True)
    assert np.abs(decode(codes, scales) - maps)[near].mean() < 0.7 * np.abs(linear - maps)[near].mean()


def test_a_map_of_zeros_stays_one():
    codes, scales = encode(np.zeros((2, 3, 3)))
    assert scales == [0.0, 0.0]
    assert not decode(codes, scales).any()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize("padding", Padding)
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scale", SmoothingScale)
def test_the_pages_boxes_are_pythons_however_cells_become_pixels(padding, rounding, scale):
    config = GroundingConfig(
        kernel=9, border=Border.reflect, smoothing_scale=scale, component=Component.all_cells, padding=padding,
        rounding=rounding,
    )  # fmt: skip
    plain = {key: getattr(value, "value", value) for key, value in vars(config).items()} | {"level": 1.3}
    rng, cases = np.random.default_rng(3), []
    for geometry in (*GEOMETRIES, replace(GEOMETRIES[0], width=427, height=333)):
        maps = rng.gamma(0.3, 0.01, (2, geometry.rows, geometry.cols))
        maps[:, 3:6, 2:5] += 0.1
        truth = ground_maps(maps, geometry, replace(config, level=1.3)).box
        cases.append({"maps": maps.reshape(2, -1).tolist(), "g": geometry.as_dict(), "truth": truth})
    script = (FOLDER / "ground.js").read_text() + (
        "const [cases, settings] = JSON.parse(require('fs').readFileSync(0));"
        "const run = (c) => Ground.run(c.maps.map((m) => Float64Array.from(m)), c.g, settings).box;"
        "console.log(JSON.stringify(cases.map(run)));"
    )
    answer = subprocess.run(["node", "-e", script], input=json.dumps([cases, plain]), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    for found, case in zip(json.loads(answer.stdout), cases, strict=True):
        assert found == pytest.approx(case["truth"], abs=1e-9)


def in_run(here, same, threshold=None, **changes):
    """What the page says of the run's answer to a sample."""
    sample = {"true_box": [0, 0, 9, 9], "true_boxes": None, "box": [0, 0, 9, 8], "boxes": None, "iou": 0.612,
              "own": ["L3H1", "L4H6"], "error": None, "views": [], "absence": None} | changes  # fmt: skip
    script = (FOLDER / "words.js").read_text() + (
        "const given = JSON.parse(require('fs').readFileSync(0)); console.log(Words.inRun(...given));"
    )
    given = json.dumps([sample, threshold, here, same])
    answer = subprocess.run(["node", "-e", script], input=given, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"here": None, "same": False}, "In the run: IoU 0.61 with L3H1 + L4H6."),
        ({"here": {"box": [1, 1, 2, 2]}, "same": False}, "In the run: IoU 0.61 with L3H1 + L4H6; here another box."),
        (
            {"here": {"box": [1, 1, 2, 2]}, "same": False, "views": [[0, 0, 5, 5]]},
            "In the run, after a further look at the framed part: IoU 0.61 with L3H1 + L4H6; "
            "here, by the first look, another box.",
        ),
        (
            {"here": None, "same": False, "views": [[0, 0, 5, 5], [1, 1, 4, 4]], "box": None},
            "In the run, after 2 further looks at the framed parts: no box.",
        ),
        (
            {"here": {"box": [1, 1, 2, 2]}, "same": False, "box": None, "absence": 0.62, "threshold": 0.55},
            "In the run: none (score of absence 0.62, threshold 0.55); here, without that score, a box.",
        ),
        (
            {"here": None, "same": False, "boxes": [], "true_boxes": [], "absence": 0.000256, "threshold": 0.000256},
            "In the run: none (score of absence 0.000256, threshold 0.000256).",
        ),
        # Below the threshold, after a failure, and without one, it is no "none".
        ({"here": None, "same": True, "box": None, "absence": 0.54, "threshold": 0.55}, "In the run: no box."),
        (
            {"here": None, "same": True, "box": None, "absence": 0.6, "threshold": 0.5, "error": "x"},
            "In the run: no box.",
        ),
        ({"here": None, "same": True, "absence": 0.6}, "In the run: IoU 0.61 with L3H1 + L4H6."),
        ({"here": None, "same": False, "true_box": None}, "The truth is a heat map: no box was asked for."),
    ],
)
def test_the_page_says_what_the_run_answered(arguments, said):
    assert in_run(**arguments) == said


def test_page_names_what_was_looked_at_again_and_only_then(folder, edit_json):
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert "looked at again in the run" not in page and "looked again" not in page
    assert all(sample["views"] == [] and sample["absence"] is None for sample in data_of(page)["samples"])
    assert data_of(page)["threshold"] is None
    samples = json.loads((folder / "explorer.json").read_text())["samples"]
    for sample in samples:
        sample.update(views=[[10, 10, 90, 90]], same_box=None)
    edit_json(folder / "explorer.json", samples=samples)
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert "looked at again in the run" in page
    assert "looked again at parts of the images of 6 samples (framed)" in page
    assert "give the run's own box in" not in page.replace("&#39;", "'"), "there is nothing to compare"
    assert [sample["views"] for sample in data_of(page)["samples"]] == [[[10, 10, 90, 90]]] * 6


def test_page_knows_how_the_run_turned_cells_into_pixels(folder, edit_json):
    settings = {"kernel": 9, "padding": "ignored", "rounding": "truncated"}
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert {"padding": "mapped", "rounding": "none"}.items() <= data_of(page)["settings"].items()
    assert "took the grid for the whole image" not in page
    edit_json(folder / "explorer.json", grounding=settings)
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert settings.items() <= data_of(page)["settings"].items()
    assert "took the grid for the whole image" in page and "truncated to whole pixels" in page


def test_page_is_written_beside_the_report_and_both_are_linked(folder):
    report = write_report(folder).read_text(encoding="utf-8")
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert report.count('href="explorer.html"') == 2
    assert 'href="report.html"' in page
    assert "This report is not complete" not in report


def test_no_explorer_without_its_records(run_folder):
    report = write_report(run_folder).read_text(encoding="utf-8")
    assert "explorer.html" not in report
    assert not (run_folder / "explorer.html").exists()


def test_same_records_give_the_same_bytes(folder):
    write_report(folder)
    first = (folder / "explorer.html").read_bytes()
    write_report(folder)
    assert (folder / "explorer.html").read_bytes() == first


def test_maps_and_images_are_in_the_file(folder):
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    record = ExplorerFile.read(folder)
    blocks = dict(re.findall(r'<script type="text/plain" id="([\w-]+)">([^<]*)</script>', page))
    assert len(blocks) == 12
    for i, sample in enumerate(record.samples):
        assert base64.b64decode(blocks[f"maps-{i}"]) == record.maps(sample).tobytes()
        assert base64.b64decode(blocks[f"image-{sample.image}"])[8:12] == b"WEBP"
    assert not re.search(r'(?:src|href)="(?!report\.html|#)', page)
    assert "http:" not in page and "https:" not in page


def test_only_the_pages_own_script_and_style_may_run(folder):
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_text_from_data_cannot_end_its_block(folder):
    write_report(folder)
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<!--" not in page
    assert page.count("</script>") == page.count("<script") == 1 + 12 + 1
    assert [sample["expression"] for sample in data_of(page)["samples"]] == list(EXPRESSIONS)


def test_the_grid_can_be_coloured_four_ways(folder):
    write_report(folder)
    metrics = data_of((folder / "explorer.html").read_text(encoding="utf-8"))["metrics"]
    assert [metric["key"] for metric in metrics] == ["frequency", "sum", "entropy", "iou"]
    assert all(np.shape(metric["values"]) == (LAYERS, HEADS) for metric in metrics)
    assert metrics[0]["values"][3][1] == 0.62
    assert metrics[2]["values"][0][0] is None


def test_without_heads_json_the_explorer_still_opens(folder):
    (folder / "heads.json").unlink()
    write_report(folder)
    data = data_of((folder / "explorer.html").read_text(encoding="utf-8"))
    assert [metric["key"] for metric in data["metrics"]] == ["entropy"]


def test_page_says_what_it_holds(folder):
    record = ExplorerFile.read(folder)
    said = " ".join(contents(record, fit(record)))
    assert "6 of the 400 expressions" in said
    assert "The maps of all 48 heads." in said
    assert "the run's own box in 5 of 6 samples" in said
    assert "python -m" not in said


def test_what_does_not_fit_is_left_out_and_said(tmp_path, build):
    folder = build_explorer(build(tmp_path / "run"), n_samples=40)
    record, run = ExplorerFile.read(folder), read_run(folder)
    whole = self_contained(run, record)
    assert 200_000 < len(whole) < 400_000
    for limit in (300_000, 200_000, 150_000):
        shown = fit(record, limit)
        page = self_contained(run, record, limit)
        assert len(page) <= limit
        said = " ".join(contents(record, shown))
        assert f"{len(shown)} of the 400 expressions" in said
        assert f"Maps of {len(shown[0].heads)} of the model's 48 heads per sample" in said
        megabytes = int(re.search(r"python -m locheads\.report run --megabytes (\d+)", said)[1])
        assert {len(s.heads) for s in fit(record, int(1e6 * megabytes))} == {48}
        assert [s["heads"] for s in data_of(page)["samples"]] == [list(s.heads) for s in shown]
    assert len(fit(record, 300_000)) == 40 > len(fit(record, 150_000))
    assert fit(record, 80_000) == []


def test_a_real_models_records_fit_into_one_file():
    # LLaVA-1.5-7B, by calculation: 200 samples, 139 maps of 24 x 24 each, images of 40 KB.
    sample = ExplorerSample(
        sample_id="s", image_id="1", expression="the man in the blue shirt", width=640, height=480, rows=24, cols=24,
        scale=(0.04, 0.04), offset=(0, 0), true_box=(0, 0, 9, 9), box=None, iou=0.0, error=None, own=(),
        heads=tuple(f"L{i // 32}H{i % 32}" for i in range(139)), scales=(0.01234567,) * 139, at=0, same_box=None,
        image=0,
    )  # fmt: skip

    class Record:
        layers = heads_per_layer = 32
        samples = tuple(sample.model_copy(update={"image": i}) for i in range(200))

        def image(self, number):
            return bytes(40_000)

    shown = fit(Record(), LIMIT)
    assert len(shown) == 200
    # 200 x 40 KB x 4/3 = 10.7 MB of images leave 19 MB: 119 maps of 768 + 24 bytes each.
    assert len(shown[0].heads) == pytest.approx(119, abs=3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 99}, "its version is 99"),
        ({"samples": "no"}, "samples should be a valid list"),
        ({"entropy": [[1]]}, "entropy has the shape"),
    ],
)
def test_broken_records_are_named_on_the_report(folder, edit_json, change, said):
    edit_json(folder / "explorer.json", **change)
    with pytest.raises(StoreError, match=said):
        ExplorerFile.read(folder)
    report = write_report(folder).read_text(encoding="utf-8")
    assert "explorer.json cannot be read" in report
    assert 'href="explorer.html"' not in report


def test_a_missing_field_and_truncated_maps_are_named(folder):
    record = json.loads((folder / "explorer.json").read_text())
    del record["samples"][0]["rows"]
    (folder / "explorer.json").write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"explorer\.json cannot be read \(samples\[0\]\.rows is missing\)"):
        ExplorerFile.read(folder)
    build_explorer(folder)
    (folder / "explorer/maps.bin").write_bytes(b"short")
    assert "maps.bin is too short" in write_report(folder).read_text(encoding="utf-8")


def test_the_command_writes_a_page_of_the_size_that_is_asked_for(tmp_path, build, capsys):
    folder = build_explorer(build(tmp_path / "run"), n_samples=40)
    assert main([str(folder), "--megabytes", "0.2"]) == 0
    small = (folder / "explorer.html").stat().st_size
    assert main([str(folder)]) == 0
    assert small <= 200_000 < (folder / "explorer.html").stat().st_size
    capsys.readouterr()
    for wrong in ("0", "many", "nan"):
        with pytest.raises(SystemExit):
            main([str(folder), "--megabytes", wrong])
        assert "--megabytes" in capsys.readouterr().err
