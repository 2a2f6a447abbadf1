"""Images that any guarded split holds are known by their COCO id, whatever file names them."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from refer_files import REFS, TinyRefer

from locheads.data.guard import BESIDE, group_keys, guarded_keys
from locheads.data.pathnames import coco_id, find_image, image_id_of, plain_name
from locheads.errors import ConfigError, DataError
from locheads.types import ImageGroup


def _refs(path: Path, *rows: tuple[int, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps([{"image_id": image_id, "split": split} for image_id, split in rows]))
    return path


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """RefCOCO, RefCOCO+ and RefCOCOg side by side."""
    _refs(tmp_path / "refcoco" / "refs(unc).p", (1, "train"), (2, "train"), (3, "val"), (4, "testA"))
    _refs(tmp_path / "refcoco+" / "refs(unc).p", (1, "train"), (2, "testB"))
    _refs(tmp_path / "refcocog" / "refs(umd).p", (1, "test"), (9, "train"))
    _refs(tmp_path / "refcocog" / "refs(google).p", (9, "val"))
    return tmp_path


def test_all_refs_files_beside_are_guarded(beside: Path) -> None:
    found = guarded_keys([BESIDE], beside / "refcoco", "train", beside / "cache")
    assert {str(Path(name).relative_to(beside)): keys for name, keys in found.items()} == {
        "refcoco/refs(unc).p": {"3", "4"},
        "refcoco+/refs(unc).p": {"2"},
        "refcocog/refs(umd).p": {"1"},
        "refcocog/refs(google).p": {"9"},
    }


def test_fewer_files_may_be_named(beside: Path) -> None:
    named = str(beside / "refcocog" / "refs(umd).p")
    assert guarded_keys([named], beside / "refcoco", "train", beside / "cache") == {named: {"1"}}
    assert guarded_keys([], beside / "refcoco", "train", beside / "cache") == {}
    assert len(guarded_keys([str(beside)], None, "train", beside / "cache")) == 4


def test_the_discovery_split_does_not_guard_against_itself(beside: Path) -> None:
    found = guarded_keys([str(beside / "refcoco")], None, "val", beside / "cache")
    assert list(found.values()) == [{"4"}]


def test_what_is_kept_follows_the_file(beside: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = beside / "refcocog" / "refs(umd).p"
    assert guarded_keys([str(path)], None, "train", beside / "cache")[str(path)] == {"1"}
    for kept in (beside / "cache" / "data").iterdir():
        kept.write_bytes(kept.read_bytes().replace(b'"1"', b'"2"'))
    assert guarded_keys([str(path)], None, "train", beside / "cache")[str(path)] == {"1"}
    assert "is damaged (its checksum does not match) and is made again" in caplog.text
    _refs(path, (5, "val"))
    assert guarded_keys([str(path)], None, "train", beside / "cache")[str(path)] == {"5"}


def test_other_kinds_of_files(tmp_path: Path) -> None:
    lines = [{"image": "train2014/COCO_train2014_000000000009.jpg"}, {"image": "./my image.jpg"}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "coco.json").write_text(json.dumps({"images": [{"file_name": "000000000025.jpg", "id": 1}]}))
    names = [str(tmp_path / "own.jsonl"), str(tmp_path / "coco.json")]
    # A file does not say whether such a number is COCO's: the image is kept out of discovery either way.
    keys = {names[0]: {"9", "my_image.jpg"}, names[1]: {"25", "000000000025.jpg"}}
    assert guarded_keys(names, None, "train", tmp_path) == keys


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("no.p", None, DataError, "dataset.guard names .*no.p, which is neither a file nor a folder"),
        ("a.csv", "", ConfigError, "dataset.guard names .*a.csv, but it can read refs files"),
        ("a.p", "text", DataError, "a.p is not a complete pickle"),
        ("a.json", "[]", DataError, "a.json is not a mapping but list"),
        ("a.jsonl", "{}", DataError, "a.jsonl, line 1 has no 'image'"),
        (
            "a.jsonl",
            '{"image": "/x/a.png"}',
            DataError,
            "the image /x/a.png, which does not lie in the image folder",
        ),
    ],
)
def test_wrong_entries(tmp_path: Path, name: str, content: str | None, error: type, text: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=text):
        guarded_keys([str(tmp_path / name)], None, "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("COCO_train2014_000000000009.jpg", 9),
        ("a/COCO_val2014_000000581857.jpg", 581857),
        ("000000000009.jpg", None),
        ("202311081530_1.jpg", None),
        ("COCO_train2014_000000581857_16.jpg", 581857),
        ("objects365_v2_00922765.jpg", None),
        ("9.jpg", None),
        ("0000000000099.jpg", None),
        ("a.jpg", None),
    ],
)
def test_coco_ids_in_names(name: str, number: int | None) -> None:
    assert coco_id(name) == number


def test_numbers_are_coco_ids_in_the_data_sets_of_coco_only() -> None:
    assert coco_id("000000000009.jpg", of_coco=True) == 9
    assert coco_id("202311081530_1.jpg", of_coco=True) is None
    assert coco_id("000000000009.png", of_coco=True) is None


def test_an_image_has_one_id_under_all_its_names() -> None:
    names = ["COCO_train2014_000000000009.jpg", "000000000009.jpg", "COCO_train2014_000000000009_4.jpg"]
    assert {image_id_of(name, of_coco=True) for name in names} == {"9"}
    assert image_id_of("cam/000000000009.jpg") == "cam_000000000009.jpg"
    assert image_id_of("Ku\u0308che.png") == image_id_of("K\u00fcche.png") == "K\u00fcche.png"
    assert group_keys([ImageGroup("x", Path(names[0]), 4, 4, ()), ImageGroup("a", Path(names[1]), 4, 4, ())]) == {
        "9",
        "a",
    }
    assert plain_name("202311081530_1.jpg") == "202311081530_1.jpg"
    assert plain_name("a/COCO_train2014_000000000009_4.jpg") == names[0]


def test_images_are_found_under_the_names_of_train2017(tmp_path: Path) -> None:
    name = "COCO_train2014_000000000009.jpg"
    assert find_image(tmp_path, name) == tmp_path / name
    (tmp_path / "000000000009.jpg").touch()
    assert find_image(tmp_path, name) == tmp_path / "000000000009.jpg"
    (tmp_path / name).touch()
    assert find_image(tmp_path, name) == tmp_path / name


def test_refer_takes_images_of_train2017(tiny: TinyRefer) -> None:
    tiny.write_images()
    for path in list(tiny.images.iterdir()):
        path.rename(tiny.images / path.name.removeprefix("COCO_train2014_"))
    assert [group.path.name for group in tiny.read()] == ["000000000009.jpg", "000000000025.jpg"]
    assert all(group.path.exists() for group in tiny.read())


def test_a_refs_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return print, ("ran",)

    (tmp_path / REFS).write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p is refused because it names the global 'builtins\.print'"):
        guarded_keys([str(tmp_path / REFS)], None, "train", tmp_path)
