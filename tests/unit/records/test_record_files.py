"""Every file of a run folder: what is written is read back, damage is one sentence, earlier layouts open."""

import json
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from locheads.errors import StoreError
from locheads.records.audit_file import AuditFile
from locheads.records.command_files import CheckFile, CompareFile, FetchedFile, VerifyFile, WorkersFile
from locheads.records.explorer_file import ExplorerFile
from locheads.records.gallery_file import GalleryFile, StepArrays, read_steps
from locheads.records.heads_file import HeadSetFile, HeadsFile, StabilityFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.provenance_file import ProvenanceFile, SamplesFile, StatusFile, TimingFile
from locheads.records.receipt_file import DoneBeforeFile, ReceiptFile, SweepFile, TrackerFile
from locheads.records.record_base import Record
from locheads.store.atomic import write_arrays
from locheads.store.derived import json_with_checksum

GRID = [[0.1, 0.25, 1e-09], [0.5, 0.75, 0.125]]
HEADS: dict[str, Any] = {
    "schema": 1,
    "heads": [{"layer": 1, "head": 2, "frequency_mean": 0.6, "frequency_std": 0.02}],
    "k": 1, "selection": "fixed", "criterion": {"name": "paper", "skip_layers": 1}, "tau": 0.69,
    "tau_per_trial": [0.7, None], "top_per_trial": [["L1H2"], ["L0H0"]], "n_samples": 100, "trials": 2, "n_failed": 0,
    "n_excluded_images": 3, "layers": 2, "heads_per_layer": 3, "mean_attention_sum": GRID, "frequency_mean": GRID,
    "frequency_std": GRID, "eligible": [[False, False, True], [True, True, False]], "head_iou": GRID,
    "model": {"id": "pocket", "revision": None, "preprocess": "pad", "tiles": False}, "prompt": "<image>{expression}",
    "prompt_settings": {"name": "referseg", "full_stop": True}, "dataset": {"name": "pocket", "split": "train"},
    "seed": 0, "made_from": {"weights": "59", "annotations": "7e"}, "digest": "c7",
}  # fmt: skip
ITEM: dict[str, Any] = {
    "sample_id": "2257", "image_id": "100300", "expression": "the striped square", "picture": "gallery/100300.jpg",
    "box": [88.0, 0.0, 168.0, 88.0], "true_box": [89, 6.5, 167.0, 84.0], "iou": 0.86, "heads": ["L1H2"], "width": 192,
    "height": 160, "error": None, "grid": [24, 24], "cell_box": [0, -16.0, 192.0, 176.0],
}  # fmt: skip
SHOWN: dict[str, Any] = {
    "sample_id": "2257", "image_id": "100300", "expression": "the striped square", "width": 192, "height": 160,
    "rows": 24, "cols": 24, "scale": [0.125, 0.125], "offset": [0.0, 2.0], "true_box": [89.0, 6.0, 167.0, 84.0],
    "box": None, "iou": 0.86, "error": "no map", "own": ["L1H2"], "heads": ["L1H2", "L0H1"], "scales": [0.12, 8e-17],
    "at": 0, "same_box": True, "picture": 0,
}  # fmt: skip
ENDS: dict[str, Any] = {"value": 0.5, "low": 0.25, "high": None}
CHOICE: dict[str, Any] = {
    "changes": "grounding.sigma=2", "heads": "L1H2", "metrics": {"res_ciou": ENDS | {"difference": ENDS}},
    "contradicts": ["sigma (paper: 1.0)"], "error": None,
}  # fmt: skip
FILES: dict[type[Record], Any] = {
    AuditFile: {
        "split": "val", "n_images": 9, "n_expressions": 99, "n_failed": 1, "confidence": 0.95, "mode": "random",
        "seconds": 4.2, "metric": "rec_acc@0.5", "target": None, "n_choices": 4, "n_failed_choices": 1, "base": CHOICE,
        "base_contradicts": [],
        "effects": [{"option": "grounding.sigma", "value": "2.0", "documented": True, **CHOICE}], "best": [],
        "closest": [CHOICE],
    },
    HeadsFile: HEADS,
    MetricsRecord: {
        "split": "val", "n_expressions": 30, "n_images": 6, "n_failed": 1,
        "failed": [{"sample_id": "7", "reason": "the image is damaged"}], "n_empty": 0, "confidence": 0.95,
        "methods": {"localization_heads": {"rec_acc@0.5": ENDS}},
        "slices": [{"by": "words", "slice": "1 to 2", "n_expressions": 9, "n_images": 4, "metrics": {"iou": ENDS}}],
        "heads": ["L1H2"], "best_iou_heads": [], "best_rec_heads": ["L0H0"],
        "figure6": {"spearman": 0.5, "p_value": None, "n_heads": 2,
                    "points": [{"layer": 1, "head": 2, "frequency": 0.25, "iou": 0.125}]},
        "n_missing": None, "n_not_evaluated": 3,
        "boxes": {"n_boxes": 9, "without": {"no box": 1}, "n_several": 0, "n_outside": 1, "n_reversed": 0,
                  "n_specks": 0, "n_shares": 2, "n_never_past": 0,
                  "declared": {"box_format": "xyxy", "frame": "image", "mean_iou": 0.5}, "better": None,
                  "either": {"n": 10, "pixels": 4, "thousandths": 1, "either": 5}},
        "notes": ["a note"],
    },
    StabilityFile: {"k": 1, "sizes": [{"n": 10, "tops": [["L1H2"], ["L0H0"]]}]},
    GalleryFile: [ITEM],
    ExplorerFile: {
        "version": 1, "n_split": 1415, "layers": 2, "heads_per_layer": 3, "localization": ["L1H2"], "best_rec": [],
        "best_iou": ["L0H1"], "grounding": {"kernel": 7}, "entropy": [[2.5, None, 1.0], [0.25, 0.5, 0.125]],
        "samples": [SHOWN],
    },
    StatusFile: {
        "state": "failed",
        "stages": {"attend": {"state": "done", "seconds": 21.658}, "discover": {"state": "running", "seconds": None}},
        "error": "Disk full.",
    },
    ProvenanceFile: {
        "commit": None, "dirty": False, "diff_sha256": None, "source_sha256": "f8", "argv": ["run.py", "seed=1"],
        "versions": {"python": "3.11", "torchvision": None}, "hardware": {"cores": 2, "gpus": []}, "started": "2026",
        "seconds": 36.291, "digest": "c7", "model": {"source": "w", "layers": 8},
        "verification": {"when": "2026", "passed": 3, "failed": ["pixels"], "not_applicable": ["known answer"]},
        "dataset": {"name": "pocket", "annotations_sha256": "7e", "pictures_sha256": "b0", "guard": {"val": 0},
                    "notes": ["a note"]},
        "maps": {"store": "c8", "made_with": {"torch": "2.13"}, "other_versions": "torch 2.12 (here 2.13)"},
        "seeds": {"seed": 0, "trials": [[0, 0]]},
        "heads": {"set": "a", "source": "b", "model": None, "found_on": ["refcoco", "train"], "heads": ["L1H2"],
                  "leakage": "not checked"},
        "warnings": ["the heads are not final"],
    },
    SamplesFile: {
        "split": "val", "evaluated": ["7", "9"], "discovery_split": "train",
        "trials": [{"seed": [0, 1], "samples": ["1"]}], "n_excluded_images": 0, "guard": {"val": 2},
        "repeats": {"images": 1, "seen_images": None, "expressions": 2, "ambiguous": 0}, "notes": [],
    },
    TimingFile: {"passes": [{"of": "attention", "device": "CPU", "memory_of": "process", "expressions": 3558,
                             "seconds": 21.523, "peak_bytes": 717500416}]},
    ReceiptFile: {"key": {"digest": "c7"}, "n_failed": 0, "files": {"explorer/maps.bin": "30"}},
    DoneBeforeFile: {"folder": "outputs/default/a", "key": {"digest": "c7"}},
    TrackerFile: {"id": "a", "project": "locheads", "entity": None, "group": "g", "mode": "online", "url": "https://x",
                  "folder": "wandb/a", "complete": True},
    SweepFile: {"overrides": ["heads.k=1,2"], "id": "12345678", "jobs": 2},
    CheckFile: [{"split": "val", "question": "counts", "state": "FAIL", "text": "1 of 2"}],
    VerifyFile: {"model": "m", "digest": None, "when": "2026", "findings": [
        {"name": "pixels", "outcome": "failed", "text": "they differ", "advice": "download them again"},
    ]},
    FetchedFile: {"model": "m", "folder": "f", "weights": "w", "dataset": "d", "annotations_sha256": "7e",
                  "evaluated": 3, "discovery": 4},
    WorkersFile: {"all": {"shards": [
        {"shard": 0, "state": "running", "images": 6, "stored": None, "tokens_per_second": 12.5, "seconds_left": None,
         "age_s": 0.25, "record": {"error": None, "worker": {"pid": 7}}},
    ], "seconds_left": 3.5}},
    CompareFile: {
        "a": {"run": "outputs/a", "method": "localization_heads"}, "b": {"run": "outputs/b", "method": "predictions"},
        "n_expressions": 30, "n_images": 6, "left_out": {"a": 0, "b": 5}, "confidence": 0.95, "resamples": 99,
        "seed": 0, "power": 0.8, "metrics": {"rec_acc@0.5": {
            "a": 0.5, "b": 0.75, "difference": 0.25, "low": -0.125, "high": 0.5, "p": 0.03125, "spread": 0.4375,
            "design_effect": 1.5, "need": {"expressions": 40, "images": 8}, "need_of_a_point": None,
        }},
    },
}  # fmt: skip
FREE = {"criterion", "prompt_settings", "grounding", "hardware", "model", "seeds", "declared", "better", "record"}
"""Sections whose inside no model names; of `model` only that in provenance.json."""


def written(model: type[Record], content: Any) -> bytes:
    return json_with_checksum(content, indent=1) if model.CHECKSUM else (json.dumps(content, indent=1) + "\n").encode()


def paths(content: Any, model: type[Record], before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a file stands, sections and lists among them."""
    found = [before] if before else []
    free = before and before[-1] in FREE and not (before[-1] == "model" and model is HeadsFile)
    pairs = [] if free or not isinstance(content, dict | list) else (
        list(content.items()) if isinstance(content, dict) else list(enumerate(content))
    )  # fmt: skip
    return found + [path for key, value in pairs for path in paths(value, model, (*before, key))]


PLACES = [(model, path) for model, content in FILES.items() for path in paths(content, model)]


def damaged(content: Any, path: tuple[Any, ...], change: str) -> Any:
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    if change == "removed":
        del place[path[-1]]
    elif isinstance(value, str | list | dict):
        place[path[-1]] = 3.5
    else:
        place[path[-1]] = ["x"] if value is None else "x"
    return copy


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.FILE)
def test_what_is_written_is_read_and_is_the_same_bytes(model: type[Record], tmp_path: Path) -> None:
    (tmp_path / model.FILE).write_bytes(written(model, FILES[model]))
    record = model.read(tmp_path)
    (tmp_path / "again").mkdir()
    record.write(tmp_path / "again")
    assert (tmp_path / "again" / model.FILE).read_bytes() == (tmp_path / model.FILE).read_bytes()
    assert model.read_if_there(tmp_path / "nowhere") is None
    with pytest.raises(StoreError, match=f"has no {model.FILE}: give"):
        model.read(tmp_path / "nowhere")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), change=st.sampled_from(["removed", "of another type"]))
def test_damage_of_any_field_is_one_sentence_that_names_it(
    place: tuple[type[Record], tuple[Any, ...]], change: str, tmp_path: Path
) -> None:
    model, path = place
    (tmp_path / model.FILE).write_bytes(written(model, damaged(FILES[model], path, change)))
    names = [key for key in path if isinstance(key, str)]
    must_fail = change != "removed" or (len(path) == 1 and path[0] in required(model))
    try:
        model.read(tmp_path)
    except StoreError as error:
        text = str(error)
        assert text.startswith(f"{tmp_path / model.FILE} cannot be read (") and text.endswith("make the run again.")
        assert "\n" not in text and "pydantic" not in text
        assert not names or any(name in text for name in names)
    else:
        assert not must_fail


def required(model: type[Record]) -> set[str]:
    assert get_type_hints(model)
    return {field.serialization_alias or name for name, field in model.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.FILE)
def test_a_field_that_no_version_had_is_named(model: type[Record], tmp_path: Path) -> None:
    if model in (TimingFile, WorkersFile):  # what tells passes apart, and their names, are open
        return
    content = json.loads(json.dumps(FILES[model]))
    (content[0] if isinstance(content, list) else content)["nonsense"] = 1
    (tmp_path / model.FILE).write_bytes(written(model, content))
    with pytest.raises(StoreError, match="nonsense is unknown"):
        model.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe[", b"3", b"null", b"[" * 100_000, b'{"state": NaN}'])
@pytest.mark.parametrize("model", [StatusFile, ReceiptFile, GalleryFile, HeadSetFile], ids=lambda model: model.FILE)
def test_other_bytes_are_one_sentence(model: type[Record], content: bytes, tmp_path: Path) -> None:
    (tmp_path / model.FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot be read \([^\n]*\): make the run again"):
        model.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frequency_mean": [[0.5]]}, r"frequency_mean has the shape \(1, 1\), not \(2, 3\)"),
        ({"frequency_mean": [[0.5], [0.1, 0.2]]}, "frequency_mean has rows of different lengths"),
        ({"frequency_mean": [[True, 0.5, 0.5]] * 2}, "frequency_mean holds a cell"),
        ({"frequency_mean": [["0.5"] * 3] * 2}, "frequency_mean holds a cell"),
        ({"eligible": [[1, 0, 1]] * 2}, "eligible holds a cell"),
        ({"heads": [{"layer": 2, "head": 0}]}, "head L2H0 does not exist in 2 layers of 3 heads"),
        ({"heads": [{"layer": 1, "head": 0}] * 2}, "its heads must be all different"),
        ({"heads": [{"layer": 1.0, "head": 0}]}, r"heads\[0\]\.layer should be a valid integer, not 1\.0"),
        ({"tau": True}, "tau should be a valid number, not True"),
        ({"top_per_trial": [["third"]]}, r"top_per_trial\[0\]\[0\] "),
    ],
)
def test_values_that_contradict_each_other_are_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HeadsFile.parse(HEADS | change)


def test_arrays_are_arrays_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf, 1.0], [0.1, 0.2, 0.3]])
    found = ExplorerFile.parse(FILES[ExplorerFile]).model_copy(update={"entropy": values})
    found.write(tmp_path)
    again = ExplorerFile.read(tmp_path)
    assert again.entropy is not None and np.isnan(again.entropy[0, :2]).all()
    np.testing.assert_array_equal(again.entropy[1], values[1])
    heads = HeadsFile.parse(HEADS)
    assert heads.eligible.dtype == bool and heads.mean_attention_sum.dtype == np.float64
    np.testing.assert_array_equal(heads.mean_attention_sum, np.array(GRID))


def test_an_array_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"entropy has the shape \(1, 2\), not \(2, 3\)"):
        ExplorerFile.parse(FILES[ExplorerFile] | {"entropy": [[0.5, 0.5]]})
    for name in ("mean_attention_sum", "frequency_std", "eligible", "head_iou"):
        with pytest.raises(ValueError, match=rf"{name} has the shape \(1, 3\), not"):
            HeadsFile.parse(HEADS | {name: HEADS[name][:1]})


def test_a_sample_whose_heads_and_scales_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="the sizes of sample 2257 contradict each other"):
        ExplorerFile.parse(FILES[ExplorerFile] | {"samples": [SHOWN | {"scales": [0.1]}]})


def test_a_receipt_names_no_file_elsewhere() -> None:
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(ValueError, match="does not lie in the run folder"):
            ReceiptFile(files={name: "0"})


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in names}


def test_files_of_earlier_versions_open() -> None:
    old = HeadsFile.parse(
        without(HEADS, "schema", "tau_per_trial", "top_per_trial", "n_excluded_images", "prompt_settings", "seed",
                "made_from", "digest") | {"model": "pocket", "head_iou": None}
    )  # fmt: skip
    assert old.model is not None and old.model.id == "pocket" and old.head_iou is None and old.digest == ""
    explorer = FILES[ExplorerFile]
    assert ExplorerFile.parse(without(explorer, "best_iou", "best_rec") | {"oracle": ["L0H1"]}).best_iou == ("L0H1",)
    (item,) = GalleryFile(items=[without(ITEM, "grid") | {"iou": None, "box": None}]).items  # type: ignore[arg-type]
    assert (item.iou, item.grid, item.image) == (0.0, None, "gallery/100300.jpg")
    assert ProvenanceFile.parse({"commit": "f0", "dataset": {"name": "pocket"}}).dataset.notes == ()
    assert StatusFile.parse({"state": "done"}).stages == {}
    boxes = {"n_boxes": 9, "without": {}, "n_several": 0, "declared": {"box_format": "xyxy"}, "better": {"scale": 1.5}}
    found = MetricsRecord.parse(FILES[MetricsRecord] | {"boxes": boxes}).boxes
    assert found is not None and found.n_shares == 0
    assert SweepFile.decode(b'{"overrides": [], "id": "1"}').jobs == 1  # before there were checksums
    assert HeadSetFile.parse(HEADS | {"of a later version": 1}).found[0].index == HeadsFile.parse(HEADS).heads[0]


def test_what_a_run_does_not_have_is_not_written() -> None:
    assert SamplesFile(split="val", evaluated=("1",), notes=()).content() == {
        "split": "val", "evaluated": ("1",), "notes": (),
    }  # fmt: skip


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"state": "done"}')
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"status\.json cannot be read \(.*it leads out of the run folder\)"):
        StatusFile.read(tmp_path / "run")


def test_steps_are_read_under_the_names_they_were_written_with(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = StepArrays(rng.random((2, 4, 4)), np.ones((4, 4), int), np.eye(4, dtype=bool), (0.0, -1.0, 8.0, 9.0),
                       np.zeros((0, 0), bool))  # fmt: skip
    write_arrays(tmp_path / "steps.npz", steps.named("a/b"))
    (found,) = read_steps((tmp_path / "steps.npz").read_bytes()).values()
    assert found.frame == steps.frame
    for name in ("smoothed", "labels", "chosen", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(steps, name))


def test_records_of_a_model_of_1024_heads_are_read() -> None:
    names = [f"L{i // 32}H{i % 32}" for i in range(1024)]
    samples = [SHOWN | {"heads": names, "scales": [0.5] * 1024, "sample_id": str(i)} for i in range(20)]
    content = FILES[ExplorerFile] | {"layers": 32, "heads_per_layer": 32, "entropy": [[0.5] * 32] * 32}
    found = ExplorerFile.decode(json.dumps(content | {"samples": samples}).encode())
    assert len(found.samples[19].heads) == 1024 and found.entropy is not None and found.entropy.shape == (32, 32)
