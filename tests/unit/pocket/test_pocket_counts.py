"""The pocket data with several objects: each expression fits the objects that its ref names, and no others."""

import json
from collections import Counter
from pathlib import Path

import pytest
from pocket_evaluator import fits

from locheads.pocket.counts import COUNTS, matches
from locheads.pocket.dataset import INSTANCES, POCKET, ensure_dataset, split_scenes
from locheads.pocket.scenes import Scene
from locheads.pocket.tokenizer import vocabulary


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_dataset(tmp_path_factory.mktemp("cache"), COUNTS)


@pytest.fixture(scope="module")
def scenes() -> dict[int, Scene]:
    return {i: scene for split in COUNTS.splits for i, scene in split_scenes(split, COUNTS)}


def test_the_content_has_the_expected_digest(root: Path) -> None:
    assert json.loads((root / "manifest.json").read_text())["annotations"] == COUNTS.digest


def test_every_expression_fits_what_its_ref_names(root: Path, scenes: dict[int, Scene]) -> None:
    refs = json.loads((root / COUNTS.refs).read_text())
    first: dict[int, int] = {}
    for entry in json.loads((root / INSTANCES).read_text())["annotations"]:
        first.setdefault(entry["image_id"], entry["id"])
    known, counts = set(vocabulary()), Counter()
    for ref in refs:
        named = [] if ref["no_target"] else [i - first[ref["image_id"]] for i in ref["ann_id"]]
        assert (ref["ann_id"] == [-1]) == ref["no_target"] and len(ref["category_id"]) == len(ref["ann_id"])
        for sentence in ref["sentences"]:
            assert fits(scenes[ref["image_id"]], sentence["sent"]) == named
            assert set(sentence["tokens"]) <= known
            counts[ref["split"], min(len(named), 3)] += 1
    assert min(counts.values()) > 40 and len(counts) == 4 * len(COUNTS.splits)
    texts = Counter((ref["image_id"], s["sent"].removeprefix("the ")) for ref in refs for s in ref["sentences"])
    assert set(texts.values()) == {1}


def test_all_phrases_are_told_as_the_evaluator_tells_them(scenes: dict[int, Scene]) -> None:
    scene = scenes[COUNTS.first_image]
    found = matches(scene)
    assert all(fits(scene, match.text) == list(match.targets) for match in found)
    # A side that some object of the phrase does not clearly have, or lack, is not said.
    assert len(found) < 4 * 7 * 4 * 5
    assert {bool(match.targets) for match in found if "side" in match.kind} == {True, False}


def test_no_scene_is_of_the_other_data() -> None:
    of_counts = {(s.width, s.height, s.objects) for split in COUNTS.splits for _, s in split_scenes(split, COUNTS)}
    others = {(s.width, s.height, s.objects) for split in POCKET.splits for _, s in split_scenes(split)}
    assert of_counts.isdisjoint(others)
