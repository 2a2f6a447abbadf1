"""Captions of the pocket scenes: phrases that fit their objects, in both forms, with the scenes' masks and boxes."""

from pathlib import Path

import numpy as np
import pytest
from pocket_evaluator import fits
from pycocotools import mask as coco

from locheads.data.config import Asked, DatasetConfig, PngReading
from locheads.data.flickr30k import FlickrDataSet
from locheads.data.masks import tight_box
from locheads.data.png import PngDataSet
from locheads.pocket.captions import FLICKR, N_IMAGES, PNG, caption, ensure_captions
from locheads.pocket.dataset import split_scenes
from locheads.pocket.tokenizer import vocabulary
from locheads.types import ImageGroup


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return ensure_captions(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def png(made: tuple[Path, Path]) -> list[ImageGroup]:
    config = DatasetConfig(
        reader="png", folder=str(made[0] / PNG), images=str(made[1]), reading=PngReading.flmm, asked=Asked.in_text
    )
    return PngDataSet(config, made[0] / "cache").read("val")


def test_the_masks_and_boxes_are_those_of_the_scenes(made: tuple[Path, Path], png: list[ImageGroup]) -> None:
    config = DatasetConfig(reader="flickr30k", folder=str(made[0] / FLICKR), images=str(made[1]))
    flickr = FlickrDataSet(config, made[0] / "cache").read("val")
    assert len(png) == len(flickr) == N_IMAGES["val"] and all(group.path.is_file() for group in png)
    for of_png, of_flickr, (number, scene) in zip(png, flickr, split_scenes("val"), strict=False):
        assert of_png.image_id == of_flickr.image_id == str(number)
        ground, *others = of_png.samples
        assert ground.kinds == ("stuff", "singulars") and ground.expression == "this picture"
        named = [part for part in caption(scene) if part.objects]
        for part, by_mask, by_box in zip(named, others, of_flickr.samples, strict=True):
            masks = [scene.objects[i].mask(scene.height, scene.width) for i in part.objects]
            np.testing.assert_array_equal(coco.decode(by_mask.mask).astype(bool), np.any(masks, axis=0))
            assert by_mask.kinds == ("things", "plurals" if len(masks) > 1 else "singulars")
            assert by_mask.expression == by_box.expression == part.text
            assert by_box.alternatives == tuple(
                (x, y, x + w, y + h) for x, y, w, h in (scene.objects[i].box for i in part.objects)
            )
            assert np.abs(np.subtract(by_box.box, tight_box(by_mask.mask))).max() <= 2


def test_a_phrase_of_one_object_fits_it_alone(png: list[ImageGroup]) -> None:
    words = set(vocabulary())
    several = 0
    for _, scene in split_scenes("val")[: N_IMAGES["val"]]:
        for part in caption(scene):
            if len(part.objects) == 1:
                assert fits(scene, part.text) == list(part.objects)
            several += len(part.objects) > 1
            assert len(part.objects) > 1 or set(part.text.split()) <= words
    assert several > 20
    assert {s.asked for s in png[0].samples} == {"".join(p.text for p in caption(split_scenes("val")[0][1]))}
