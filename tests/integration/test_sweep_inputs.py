"""The runs of a sweep read their inputs once, and anew as soon as anything that decides them is another."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image
from running import TinyFiles

from locheads.config import Config
from locheads.data.refer import ReferDataSet
from locheads.discovery.config import HeadsConfig
from locheads.pipeline import inputs as module
from locheads.pipeline.inputs import inputs_of_sweep, load_inputs, with_images


@pytest.fixture
def own(files: TinyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyFiles:
    monkeypatch.setattr(module, "_last", None)
    return files.copy(tmp_path / "own")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were read."""
    splits: list[str] = []
    real = ReferDataSet.read

    def watching(self: ReferDataSet, split: str, *rest: Any) -> Any:
        splits.append(split)
        vars(self)["of"] = [*vars(self).get("of", []), split]
        return real(self, split, *rest)

    monkeypatch.setattr(ReferDataSet, "read", watching)
    return splits


def _anew(config: Config) -> module.Inputs:
    return with_images(load_inputs(config), Path(config.paths.cache))


def test_the_next_run_finds_what_the_last_one_read(own: TinyFiles, tmp_path: Path, read: list[str]) -> None:
    config = own.config(tmp_path / "out")
    first = inputs_of_sweep(config)
    assert read == ["val", "train"]
    again = inputs_of_sweep(replace(config, heads=HeadsConfig(k=1)))
    assert read == ["val", "train"]
    assert first == again == _anew(config)


def _seed(_: TinyFiles, config: Config) -> Config:
    return replace(config, seed=1)


def _limit(_: TinyFiles, config: Config) -> Config:
    config.dataset.limit = 3  # in place: what was kept must not change with it
    return config


def _trials(_: TinyFiles, config: Config) -> Config:
    return replace(config, discovery=replace(config.discovery, trials=3))


def _judged(_: TinyFiles, config: Config) -> Config:
    return replace(config, dependence=replace(config.dependence, images=1))


def _given(_: TinyFiles, config: Config) -> Config:
    return replace(config, heads=HeadsConfig(set="pocket"))


def _annotations(own: TinyFiles, config: Config) -> Config:
    refs = tiny.read_refs(own.folder)
    refs[0]["sentences"][0]["sent"] = "another expression"
    tiny.write_refs(own.folder, refs)
    return config


def _guarded_file(own: TinyFiles, config: Config) -> Config:
    folder = own.folder.parent / "refcoco+"
    folder.mkdir()
    tiny.write_refs(folder, [{"image_id": 100, "split": "testA"}])
    return config


def _image(own: TinyFiles, config: Config) -> Config:
    path = sorted(own.images.iterdir())[0]
    Image.eval(Image.open(path), lambda value: 255 - value).save(path)
    return config


def _absent_image(own: TinyFiles, config: Config) -> Config:
    sorted(own.images.iterdir())[0].unlink()
    return config


Change = Callable[[TinyFiles, Config], Config]
CHANGES = (
    _seed, _limit, _trials, _judged, _given, _annotations, _guarded_file, _image, _absent_image,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_decides_the_inputs_is_read_again(own: TinyFiles, tmp_path: Path, read: list[str], change: Change) -> None:
    config = own.config(tmp_path / "out")
    before = inputs_of_sweep(config)
    read.clear()
    changed = change(own, config)
    found = inputs_of_sweep(changed)
    assert read
    assert found == _anew(changed) != before


def test_a_copied_image_is_the_same_image(own: TinyFiles, tmp_path: Path, read: list[str]) -> None:
    """The control of the above: a file of other times and the same bytes changes nothing."""
    config = own.config(tmp_path / "out")
    inputs_of_sweep(config)
    read.clear()
    path = sorted(own.images.iterdir())[0]
    os.utime(path, (1, 1))
    inputs_of_sweep(config)
    assert not read


def test_a_reader_that_knows_its_digest_only_after_reading_is_asked_again(
    own: TinyFiles, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of hub copies."""
    monkeypatch.setattr(ReferDataSet, "digest", property(lambda self: f"of {vars(self).get('of')}"))
    config = own.config(tmp_path / "out")
    inputs_of_sweep(config)
    inputs_of_sweep(config)
    assert read == ["val", "train"] * 2
