"""Other versions, other images, a store that cannot be written, a run folder that vanishes: none goes unsaid."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from running import Finished, Result, TinyFiles
from transformers.utils import is_torchvision_available

from locheads.config import Config, Stage
from locheads.data.config import AnswerFormat, DatasetConfig, Frame
from locheads.errors import StoreError
from locheads.evaluation.config import DirectConfig
from locheads.geometry import Preprocess, square_geometry
from locheads.models.config import ImageBackend, PromptConfig
from locheads.models.engine import EngineConfig, OtherVersions
from locheads.models.identity import ModelIdentity
from locheads.pipeline import direct, stages
from locheads.pipeline import open_store as opening
from locheads.records.command_files import CheckFile
from locheads.store.provenance import version
from locheads.types import Answer

TAKE = EngineConfig(device="cpu", threads=1, other_versions=OtherVersions.take)


@pytest.fixture
def other_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "version", lambda name: "99.0" if name == "transformers" else version(name))


def provenance(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "provenance.json").read_text())


def test_other_versions_ask_the_model_again_and_say_what_differs(
    files: TinyFiles,
    store: Path,
    run: Callable[[Config], Path],
    other_transformers: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = files.config(store.parent, store)
    made = provenance(run(config))["maps"]
    assert f"made with other versions: transformers {version('transformers')} (here 99.0). They" in caplog.text
    assert made["made_with"]["transformers"] == "99.0" and made["other_versions"] is None
    caplog.clear()
    again = provenance(run(config))["maps"]
    assert again == made and "Loading" not in caplog.text and "other versions" not in caplog.text


def test_maps_of_other_versions_are_taken_when_told_so_and_named(
    files: TinyFiles,
    finished: Finished,
    store: Path,
    run: Callable[[Config], Path],
    other_transformers: None,
    no_model: None,
) -> None:
    before = sorted(store.rglob("*"))
    folder = run(files.config(store.parent, store, engine=TAKE, stage=Stage.report))
    made = provenance(folder)["maps"]
    assert made["made_with"] == provenance(finished.folder)["maps"]["made_with"]
    assert made["made_with"]["transformers"] == version("transformers")
    assert made["other_versions"] in (folder / "report.html").read_text()
    assert sorted(path for path in store.rglob("*") if path.name != "digests.json") == [
        path for path in before if path.name != "digests.json"
    ]
    for name in ("predictions.parquet", "metrics.json"):
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_taken_maps_that_lack_something_are_refused_before_the_model_loads(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], other_transformers: None, no_model: None
) -> None:
    for path in store.rglob("*.shard.json"):
        content = json.loads(path.read_text())
        assert len(content["pictures"]) > 1
    copy = files.copy(store.parent / "copy")
    with Image.open(copy.images / "COCO_train2014_000000000201.jpg") as image:
        ImageOps.mirror(image).save(copy.images / "COCO_train2014_000000000201.jpg")
    with pytest.raises(StoreError, match=r"transformers .* \(here 99\.0\)\) and lacks some of what is needed"):
        run(copy.config(store.parent, store, engine=TAKE))


def test_other_code_of_the_pass_is_another_version(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], monkeypatch: pytest.MonkeyPatch, no_model: None
) -> None:
    monkeypatch.setattr(opening, "code_digest", lambda *_, **__: "edited")
    with pytest.raises(AssertionError, match="the model was loaded"):
        run(files.config(store.parent, store))


def test_torchvision_counts_where_it_makes_the_pixels(files: TinyFiles, tmp_path: Path) -> None:
    config = files.config(tmp_path)
    identity = ModelIdentity("m", "llava", 2, 2, "w", "CLIPImageProcessorPil (pil)")
    by_pil, by_torchvision = (
        opening.makers(config, one)
        for one in (identity, replace(identity, image_processor="CLIPImageProcessor (torchvision)"))
    )
    assert "torchvision" not in by_pil and "torchvision" in by_torchvision
    assert by_pil["image processor"] != by_torchvision["image processor"]


def test_provenance_names_both_image_processors(finished: Finished) -> None:
    record = provenance(finished.folder)
    assert record["model"]["image_processor"] == record["maps"]["made_with"]["image processor"]
    assert record["model"]["own_backend"] == "torchvision"  # as a rule: it was saved by transformers 5
    used = "torchvision" if is_torchvision_available() else "pil"
    assert f"({used})" in record["model"]["image_processor"]
    assert ("torchvision" in record["maps"]["made_with"]) == is_torchvision_available()


def test_the_backend_counts_as_it_was_taken_not_as_it_was_chosen(files: TinyFiles, tmp_path: Path) -> None:
    config = files.config(tmp_path)
    by_name = replace(config, model=replace(config.model, image_backend=ImageBackend.pil))
    identity = ModelIdentity("m", "llava", 2, 2, "w", "CLIPImageProcessorPil (pil)", "pil")
    assert opening.asked(config, identity) == opening.asked(by_name, identity)
    assert opening.asked(config, identity) != opening.asked(config, replace(identity, weights="other"))


def test_images_that_changed_are_named(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], caplog: pytest.LogCaptureFixture
) -> None:
    copy = files.copy(store.parent / "copy")
    names = [f"COCO_train2014_{image_id:012d}.jpg" for image_id in (201, 202)]
    for name in names:
        with Image.open(copy.images / name) as image:
            ImageOps.mirror(image).save(copy.images / name)
    config = copy.config(store.parent, store)
    first = provenance(run(config))
    assert f"2 images differ ({', '.join(names)}) from those that were attended" in caplog.text
    caplog.clear()
    assert provenance(run(config))["dataset"] == first["dataset"] and "differ" not in caplog.text
    original = provenance(run(files.config(store.parent, store)))
    assert original["dataset"]["pictures_sha256"] != first["dataset"]["pictures_sha256"]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder one that cannot be written, as on a read-only mount."""

    def freeze(folder: Path) -> None:
        real = tempfile.mkstemp

        def refuse(*args: Any, dir: Any = None, **options: Any) -> Any:
            if dir is not None and Path(dir).is_relative_to(folder):
                raise OSError(30, "Read-only file system", str(dir))
            return real(*args, dir=dir, **options)

        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        monkeypatch.setattr(tempfile, "_mkstemp_inner", _inner(folder, tempfile._mkstemp_inner))

    return freeze


def _inner(folder: Path, real: Any) -> Any:
    def refuse(dir: Any, *rest: Any) -> Any:
        if Path(dir).is_relative_to(folder):
            raise OSError(30, "Read-only file system", str(dir))
        return real(dir, *rest)

    return refuse


def test_a_store_that_lacks_something_and_cannot_be_written_is_refused_before_the_model_loads(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], read_only: Callable[[Path], None], no_model: None
) -> None:
    next(store.rglob("*.shard.json")).unlink()
    read_only(store)
    with pytest.raises(StoreError, match=r"Cannot write .*: Read-only file system"):
        run(files.config(store.parent, store))


def test_a_full_store_that_cannot_be_written_is_read(
    files: TinyFiles, store: Path, run: Callable[[Config], Path], read_only: Callable[[Path], None], no_model: None
) -> None:
    read_only(store)
    assert (run(files.config(store.parent, store)) / "receipt.json").exists()


@pytest.mark.parametrize("gone", ["the folder", "samples.json"])
def test_a_run_whose_files_vanish_ends_with_an_error_and_without_a_receipt(
    gone: str, files: TinyFiles, store: Path, run: Callable[[Config], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.parent / "run_0"
    real = stages.plan_heads

    def vanishing(*args: Any) -> Any:
        shutil.rmtree(folder) if gone == "the folder" else (folder / gone).unlink()
        return real(*args)

    monkeypatch.setattr(stages, "plan_heads", vanishing)
    with pytest.raises(StoreError, match=r"run_0 lost \d+ files? while the run went on"):
        run(files.config(store.parent, store))
    assert not (folder / "receipt.json").exists()
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"


def test_a_command_whose_folder_vanishes_ends_with_an_error(
    files: TinyFiles,
    finished: Finished,
    tmp_path: Path,
    command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = CheckFile.write

    def vanishing(record: CheckFile, folder: Path) -> None:
        shutil.rmtree(folder)
        real(record, folder)

    monkeypatch.setattr(CheckFile, "write", vanishing)
    result = command(*files.arguments(tmp_path / "out", finished.cache), "stage=check")
    assert result.code == 1 and "lost 3 files while the run went on" in result.err


ASKED = PromptConfig(name="box_question_plain", template="<image>\nGive the box of {expression}", full_stop=False)


@pytest.fixture
def ask(
    files: TinyFiles, tmp_path: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """stage=direct with a model that always answers the same -> the run folder."""

    def answers(_: Any, image: Any, expressions: list[str], *__: Any) -> Any:
        return [Answer((7,), ("[0, 0, 1, 1]",), ended=True)] * len(expressions), square_geometry(
            *image.size, 48, 6, Preprocess.pad
        )

    monkeypatch.setattr(direct, "answer_image", answers)
    own = DirectConfig(AnswerFormat.xyxy_relative, Frame.image)
    return lambda **changes: run(
        files.config(tmp_path / "out", **{"stage": Stage.direct, "direct": own, "prompt": ASKED} | changes)
    )


def test_answers_of_other_versions_are_asked_again_or_taken_and_named(
    ask: Callable[..., Path], request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    first = provenance(ask())["answers"]
    request.getfixturevalue("other_transformers")
    with caplog.at_level(logging.INFO):
        taken = provenance(ask(engine=TAKE))["answers"]
        assert taken["made_with"] == first["made_with"] and "here 99.0" in taken["other_versions"]
        assert "Loading" not in caplog.text
        again = provenance(ask())["answers"]
    assert again["made_with"]["transformers"] == "99.0" and "Loading" in caplog.text
    assert f"transformers {version('transformers')} (here 99.0)" in caplog.text


def test_images_that_changed_are_asked_about_again_and_named(
    ask: Callable[..., Path], files: TinyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = files.copy(tmp_path / "data")
    dataset = DatasetConfig(reader="refer", folder=str(own.folder), images=str(own.images))
    ask(dataset=dataset)
    name = "COCO_train2014_000000000201.jpg"
    with Image.open(own.images / name) as image:
        ImageOps.mirror(image).save(own.images / name)
    ask(dataset=dataset)
    assert f"1 image differs ({name}) from those that were asked about" in caplog.text


def test_answers_that_could_not_be_kept_are_not_asked_for(
    ask: Callable[..., Path], tmp_path: Path, read_only: Callable[[Path], None], no_model: None
) -> None:
    read_only(tmp_path / "out" / "cache" / "answers")
    with pytest.raises(StoreError, match="Read-only file system"):
        ask()
