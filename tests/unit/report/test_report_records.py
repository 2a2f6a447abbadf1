"""Reading a run folder: typed values where it is whole, sentences where it is not."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import locheads.report
from locheads.errors import StoreError
from locheads.records.gallery_file import load_image
from locheads.report.run_record import read_run
from locheads.report.tables import results_table
from locheads.types import HeadIndex

FILES = (
    "config.yaml",
    "provenance.json",
    "heads.json",
    "metrics.json",
    "gallery.json",
    "gallery.npz",
    "status.json",
)


def test_whole_folder(run_folder):
    record = read_run(run_folder)
    assert record.problems == ()
    assert record.heads.heads == (HeadIndex(3, 1), HeadIndex(4, 6), HeadIndex(2, 5))
    assert record.heads.frequency_mean.shape == (6, 8)
    assert record.heads.frequency_mean[3, 1] == 0.62
    assert record.heads.skip_layers == 2
    estimate = record.metrics.get("random_heads", "rec_acc@0.5")
    assert (estimate.value, estimate.low, estimate.high) == (0.205, 0.181, 0.231)
    assert record.metrics.get("centre_box", "pointing") is None
    assert record.maps["s0"].shape == (4, 16, 16)
    assert record.gallery[2].box is None
    assert record.setting("model.preprocess") == "pad"
    assert record.setting("model.nothing.there") is None


def test_no_folder_and_no_run(tmp_path):
    with pytest.raises(StoreError, match="is not a folder"):
        read_run(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(StoreError, match="holds no record of a run"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(run_folder, name):
    (run_folder / name).unlink()
    assert read_run(run_folder).problems == (f"{name} is missing.",)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff[{", b"[1, 2]", b"{}", b"null"])
def test_broken_file_never_raises(run_folder, name, content):
    (run_folder / name).write_bytes(content)
    record = read_run(run_folder)
    # {} is a legal, if empty, table; an empty file has no configuration in it.
    if not (content == b"{}" and name in ("config.yaml", "provenance.json", "status.json")):
        assert any(p.startswith(name) for p in record.problems) or record.config_text == ""


@pytest.mark.parametrize("name", ["heads.json", "metrics.json", "gallery.json", "gallery.npz"])
def test_file_that_was_cut_off(run_folder, name):
    whole = (run_folder / name).read_bytes()
    (run_folder / name).write_bytes(whole[: len(whole) // 2])
    assert [p.split(" (")[0] for p in read_run(run_folder).problems] == [f"{name} cannot be read"]


def test_overwritten_array_bytes(run_folder):
    np.savez_compressed(run_folder / "gallery.npz", s0=np.random.default_rng(0).random((3, 32, 32)))
    content = bytearray((run_folder / "gallery.npz").read_bytes())
    content[400:600] = bytes(200)
    (run_folder / "gallery.npz").write_bytes(content)
    assert read_run(run_folder).problems[0].startswith("gallery.npz cannot be read")


def test_arrays_of_another_shape_are_refused(run_folder, edit_json):
    edit_json(run_folder / "heads.json", frequency_mean=[[0.5, 0.5]])
    record = read_run(run_folder)
    assert record.heads is None
    assert record.problems == ("heads.json cannot be read (frequency_mean has the shape (1, 2), not (6, 8)).",)


def test_head_outside_the_model_is_refused(run_folder, edit_json):
    edit_json(run_folder / "heads.json", heads=[{"layer": 3, "head": 8}])
    assert "head L3H8 does not exist" in read_run(run_folder).problems[0]


def test_nulls_that_are_allowed(run_folder, edit_json):
    edit_json(run_folder / "heads.json", tau=None, tau_per_trial=[None, None], head_iou=None)
    figure6 = {"spearman": None, "p_value": None, "n_heads": 1, "points": []}
    edit_json(run_folder / "metrics.json", figure6=figure6)
    record = read_run(run_folder)
    assert record.problems == ()
    assert record.heads.tau is None
    assert record.heads.tau_per_trial == (None, None)
    assert record.metrics.figure6.spearman is None


def test_one_bad_gallery_item_does_not_cost_the_others(run_folder):
    items = json.loads((run_folder / "gallery.json").read_text())
    del items[0]["true_box"]
    items[1]["width"] = 0
    (run_folder / "gallery.json").write_text(json.dumps(items))
    record = read_run(run_folder)
    assert [item.sample_id for item in record.gallery] == ["s2"]
    assert record.problems == (
        "gallery.json: sample 0 is left out (true_box is missing).",
        "gallery.json: sample 1 is left out (width should be greater than or equal to 1, not 0).",
    )


def test_pickled_arrays_are_not_loaded(run_folder):
    np.savez(run_folder / "gallery.npz", s0=np.array([{"a": 1}], dtype=object))
    record = read_run(run_folder)
    assert record.maps == {}
    assert record.problems[0].startswith("gallery.npz cannot be read")


def test_images_outside_the_folder_are_not_shown(run_folder, edit_json):
    secret = run_folder.parent / "secret.jpg"
    secret.write_bytes((run_folder / "gallery/0.jpg").read_bytes())
    items = json.loads((run_folder / "gallery.json").read_text())
    for item, image in zip(items, ["../secret.jpg", str(secret), "gallery/0.jpg"], strict=True):
        item["picture"] = image
    (run_folder / "gallery.json").write_text(json.dumps(items))
    record = read_run(run_folder)
    images = [load_image(run_folder, item) for item in record.gallery]
    assert images[0] is None
    assert images[1] is None
    assert images[2].shape == (200, 320, 3)


def test_a_table_without_its_record_says_what_to_do(run_folder):
    (run_folder / "metrics.json").unlink()
    with pytest.raises(StoreError, match=re.escape("metrics.json is missing: finish the run with stage=evaluate")):
        results_table(read_run(run_folder))


def test_reading_imports_no_model_library():
    """`report` rebuilds pages on a machine without the model; the package itself must not ask for more."""
    package = Path(locheads.report.__file__).parent
    for source in package.glob("*.py"):
        found = re.findall(
            r"^\s*(?:import|from)\s+(hydra|omegaconf|wandb|torch|transformers)\b", source.read_text(), re.M
        )
        assert found == [], source.name
