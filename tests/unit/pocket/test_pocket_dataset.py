import io
import json
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pocket_evaluator import fits
from pycocotools import mask as coco_mask

from locheads.errors import DataError
from locheads.pocket import dataset
from locheads.pocket.dataset import INSTANCES, POCKET, REFS, SMALL, ensure_dataset, split_scenes
from locheads.pocket.scenes import TINY

SPLITS = POCKET.splits

MINIMUM = {"train": (290, 1500), "val": (180, 1000), "testA": (60, 1), "testB": (60, 1)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return ensure_dataset(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def instances(root):
    return json.loads((root / INSTANCES).read_text())


class NoClasses(pickle.Unpickler):
    def find_class(self, module, name):
        raise AssertionError(f"the pickle asks for {module}.{name}")


@pytest.fixture(scope="module")
def refs(root):
    return NoClasses(io.BytesIO((root / REFS).read_bytes())).load()


def small_splits(monkeypatch):
    """A data set of nine images, for the tests that build several times."""
    splits = {"train": (4, (3, 4)), "val": (3, (3,)), "testA": (2, (3,))}
    monkeypatch.setattr(dataset, "POCKET", replace(POCKET, splits=splits, digest=""))


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_content_has_the_expected_digest(root):
    assert POCKET.digest
    assert json.loads((root / "manifest.json").read_text())["annotations"] == POCKET.digest


def test_two_builds_are_equal_byte_for_byte(tmp_path, monkeypatch):
    small_splits(monkeypatch)
    assert content(ensure_dataset(tmp_path / "a")) == content(ensure_dataset(tmp_path / "b"))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [f"pocket-v{POCKET.version}"]


def test_an_intact_data_set_is_left_alone(tmp_path, monkeypatch):
    small_splits(monkeypatch)
    root = ensure_dataset(tmp_path)
    before = (root / "manifest.json").stat().st_mtime_ns
    assert ensure_dataset(tmp_path) == root
    assert (root / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "victim", ["pocket/instances.json", "pocket/refs(unc).p", "manifest.json", "image", "bit of an image"]
)
def test_a_damaged_data_set_is_built_again_with_a_warning(tmp_path, monkeypatch, caplog, victim):
    small_splits(monkeypatch)
    root = ensure_dataset(tmp_path)
    before = content(root)
    path = next((root / "images/train2014").iterdir()) if "image" in victim else root / victim
    whole = path.read_bytes()
    path.write_bytes(whole[:-7] if "bit" not in victim else whole[:900] + bytes([whole[900] ^ 4]) + whole[901:])
    with caplog.at_level(logging.WARNING):
        ensure_dataset(tmp_path)
    assert "damaged" in caplog.text
    assert content(root) == before


def test_a_different_digest_is_refused(tmp_path, monkeypatch):
    small_splits(monkeypatch)
    monkeypatch.setattr(dataset, "POCKET", replace(dataset.POCKET, digest="0" * 64))
    with pytest.raises(DataError, match="came out different"):
        ensure_dataset(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_splits_have_their_sizes_and_share_no_image(refs):
    images = {split: {r["image_id"] for r in refs if r["split"] == split} for split in SPLITS}
    for split, (least_images, least_sentences) in MINIMUM.items():
        assert len(images[split]) >= least_images
        assert sum(len(r["sentences"]) for r in refs if r["split"] == split) >= least_sentences
    assert sum(map(len, images.values())) == len(set.union(*images.values()))


def test_no_two_images_hold_the_same_scene():
    scenes = [scene for split in SPLITS for _, scene in split_scenes(split)]
    assert len({(scene.width, scene.height, scene.objects) for scene in scenes}) == len(scenes)


def test_masks_and_boxes_match_the_rendered_objects(instances):
    scenes = {i: scene for split in SPLITS for i, scene in split_scenes(split)}
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in instances["images"]}
    seen = dict.fromkeys(scenes, 0)
    forms = set()
    for entry in instances["annotations"]:
        scene = scenes[entry["image_id"]]
        item = scene.objects[seen[entry["image_id"]]]
        seen[entry["image_id"]] += 1
        assert sizes[entry["image_id"]] == (scene.height, scene.width)
        decoded = decode(entry["segmentation"], scene.height, scene.width)
        mask = item.mask(scene.height, scene.width)
        exact = isinstance(entry["segmentation"], dict)
        assert (decoded & mask).sum() / (decoded | mask).sum() > (0.999 if exact else 0.94)
        assert entry["bbox"] == list(item.box) and entry["area"] == mask.sum() and entry["iscrowd"] == 0
        forms.add(type(entry["segmentation"].get("counts")) if exact else list)
        names = {c["id"]: c["name"] for c in instances["categories"]}
        assert names[entry["category_id"]] == item.shape
    assert forms == {list, str} and all(seen.values())


def decode(segmentation, height, width):
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation).astype(bool)


def test_refs_agree_with_the_annotations_and_the_scenes(refs, instances):
    annotations = {entry["id"]: entry for entry in instances["annotations"]}
    first = {}
    for entry in instances["annotations"]:
        first.setdefault(entry["image_id"], entry["id"])
    scenes = {i: scene for split in SPLITS for i, scene in split_scenes(split)}
    identifiers = []
    assert sum(len(ref["sentences"]) >= 2 for ref in refs) > 0.9 * len(refs)
    for ref in refs:
        entry = annotations[ref["ann_id"]]
        assert (ref["image_id"], ref["category_id"]) == (entry["image_id"], entry["category_id"])
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        assert len({sentence["sent"] for sentence in ref["sentences"]}) == len(ref["sentences"]) >= 1
        identifiers += ref["sent_ids"]
        for sentence in ref["sentences"]:
            assert sentence["tokens"] == sentence["sent"].split() and not sentence["sent"].endswith(".")
            assert fits(scenes[ref["image_id"]], sentence["sent"]) == [ref["ann_id"] - first[ref["image_id"]]]
    assert len(identifiers) == len(set(identifiers))


def test_images_are_readable_and_have_their_size(root, instances):
    for entry in instances["images"][::10]:
        with Image.open(root / "images/train2014" / entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])
            assert np.asarray(image).std() > 10


def test_an_unknown_split_is_named():
    with pytest.raises(DataError, match="no split 'test'"):
        split_scenes("test")


def test_small_scenes_hold_eight_small_objects(tmp_path):
    some = replace(SMALL, digest="", splits={"train": (6, (8,)), "val": (2, (8,))})
    root = ensure_dataset(tmp_path, some)
    assert root.name == "pocket_small-v1"
    made = json.loads((root / INSTANCES).read_text())
    shares = [one["area"] / (size["width"] * size["height"]) for size in made["images"] for one in made["annotations"]
              if one["image_id"] == size["id"]]  # fmt: skip
    assert len(shares) == 8 * 8
    assert 0.008 < min(shares) < max(shares) < 0.035
    for _, scene in split_scenes("train", some):
        assert {item.size for item in scene.objects} == {TINY}
        masks = sum(item.mask(scene.height, scene.width).astype(int) for item in scene.objects)
        assert masks.max() == 1, "objects overlap"


def test_the_small_scenes_have_the_expected_digest(tmp_path):
    root = ensure_dataset(tmp_path, SMALL)
    assert json.loads((root / "manifest.json").read_text())["annotations"] == SMALL.digest != POCKET.digest
