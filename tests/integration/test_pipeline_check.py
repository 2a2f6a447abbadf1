"""`stage=check`: a table and an exit code, without a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from running import Result, TinyFiles

from locheads.pipeline import stages


@pytest.fixture
def checked(tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The check of these files; loading or naming a model is an error."""
    monkeypatch.setattr(stages, "prepare", lambda *_: pytest.fail("a run was prepared"))

    def check(files: TinyFiles, *overrides: str) -> Result:
        arguments = files.arguments(tmp_path / "out", tmp_path / "cache")
        return command(*arguments, "stage=check", "model.id=/no/such/model", *overrides)

    return check


def _verdicts(tmp_path: Path) -> dict[tuple[str, str], str]:
    (path,) = (tmp_path / "out" / "default").glob("*/check.json")
    return {(v["split"], v["question"]): v["state"] for v in json.loads(path.read_text())}


def test_good_data_end_with_0(files: TinyFiles, tmp_path: Path, checked: Callable[..., Result]) -> None:
    result = checked(files, "dataset.check_images=true")
    assert result.code == 0, result.err
    assert "19 ok, 0 warn, 0 FAIL" in result.out
    assert "12 refs, 6 images, 30 expressions" in result.out
    verdicts = _verdicts(tmp_path)
    assert {split for split, _ in verdicts} == {"train", "val", "all"}
    assert set(verdicts.values()) == {"ok"}
    assert "discovery.draw=image: " in result.out
    (folder,) = (tmp_path / "out" / "default").iterdir()
    assert not (folder / "heads.json").exists()
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], list(status["stages"])) == ("done", ["check"])


def test_bad_data_end_with_1_and_the_table(files: TinyFiles, tmp_path: Path, checked: Callable[..., Result]) -> None:
    copy = files.copy(tmp_path / "copy")
    content = json.loads((copy.folder / "instances.json").read_text())
    refs = tiny.read_refs(copy.folder)
    refs[0]["ann_id"] = 999
    next(ref for ref in refs if ref["split"] == "val")["sentences"][0]["sent"] = "red\x07 square [bold]"
    by_id = {annotation["id"]: annotation for annotation in content["annotations"]}
    by_id[next(ref for ref in refs if ref["split"] == "val")["ann_id"]]["bbox"] = [0, 0, 500, 500]
    (copy.folder / "instances.json").write_text(json.dumps(content))
    tiny.write_refs(copy.folder, refs)
    next(copy.images.glob("*205.jpg")).unlink()
    result = checked(copy)
    assert result.code == 1
    assert result.err == "error: 3 of the 19 checks of pocket failed: see the table above.\n"
    verdicts = _verdicts(tmp_path)
    assert {key for key, state in verdicts.items() if state == "FAIL"} == {
        ("train", "records"), ("val", "boxes inside"), ("val", "images"),
    }  # fmt: skip
    assert verdicts["val", "text"] == verdicts["val", "masks"] == "warn"
    assert "names annotation 999" in " ".join(result.out.replace("│", " ").split())


def test_a_review_is_joined_counted_and_compared(
    files: TinyFiles, checked: Callable[..., Result], tmp_path: Path
) -> None:
    review = tiny.write_review(files.folder, tmp_path, "larger")
    result = checked(files, review)
    assert result.code == 0, result.err
    assert "20 ok, 0 warn, 0 FAIL" in result.out and "24 clean, 6 faulty, 40 not reviewed" in result.out
    path = tmp_path / "tiny_val_reviewed.json"
    path.write_text(path.read_text().replace("red square on", "red square near"))
    shutil.rmtree(tmp_path / "out")
    result = checked(files, review)
    assert result.code == 1
    verdicts = _verdicts(tmp_path)
    assert {key for key, state in verdicts.items() if state == "FAIL"} == {("val", "records")}
    text = " ".join(result.out.replace("│", " ").split())
    assert "6 unusable" in text and "18 clean, 6 faulty, 46 not reviewed" in text
    assert "has 'the red square near the left' there" in text


def test_official_counts_are_compared(files: TinyFiles, checked: Callable[..., Result], tmp_path: Path) -> None:
    result = checked(files, "dataset.official=refcoco/unc")
    assert result.code == 1
    verdicts = _verdicts(tmp_path)
    assert {key for key, state in verdicts.items() if state == "FAIL"} == {("train", "counts"), ("val", "counts")}
    assert verdicts["testA", "counts"] == verdicts["testB", "counts"] == "warn"


def test_a_split_that_the_guard_empties_fails(files: TinyFiles, checked: Callable[..., Result], tmp_path: Path) -> None:
    copy = files.copy(tmp_path / "copy")
    (copy.folder.parent / "other").mkdir()
    tiny.write_refs(
        copy.folder.parent / "other", [{"image_id": image_id, "split": "test"} for image_id in tiny.SPLITS["train"]]
    )
    assert checked(copy).code == 1
    assert _verdicts(tmp_path)["all", "leakage guard"] == "FAIL"


def test_files_that_are_not_there_are_one_sentence(
    files: TinyFiles, tmp_path: Path, checked: Callable[..., Result]
) -> None:
    result = checked(files, f"dataset.folder={tmp_path}")
    assert result.code == 1
    assert "is not there, but a REFER data set is a folder" in result.err
    assert result.err.count("\n") == 1


def test_own_data_from_the_command_line(files: TinyFiles, tmp_path: Path, checked: Callable[..., Result]) -> None:
    """The other readers through Hydra: JSONL about the tiny images."""
    line = {"expression": "red square", "box": [1, 2, 20, 30]}
    for split in ("train", "val"):
        names = sorted(path.name for path in files.images.glob("*.jpg"))[:: 2 if split == "val" else 3]
        lines = [json.dumps(line | {"image": name}) for name in names]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    result = checked(files, "dataset=own_jsonl", "dataset.reader=jsonl", f"dataset.folder={tmp_path}")
    verdicts = _verdicts(tmp_path)
    assert verdicts["val", "masks"] == "warn"
    assert "without mask: the box stands for it" in " ".join(result.out.replace("│", " ").split())
    assert verdicts["all", "leakage guard"] == "ok"
    assert "FAIL" not in verdicts.values() and result.code == 0, result.out
