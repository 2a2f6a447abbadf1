"""Expressions moved to images that lack what they name: which, where to, how often, and the same every time."""

from pathlib import Path

import pytest
from pycocotools import mask as coco

from locheads.data.swapped import categories_of, names_category, with_swapped
from locheads.errors import DataError
from locheads.types import NO_BOX, ImageGroup, Sample

MASK = {"size": [10, 20], "counts": "0"}


def sample(sample_id: str, text: str, category: str) -> Sample:
    return Sample(sample_id, f"r{sample_id}", text, (0.0, 0.0, 5.0, 5.0), MASK, category)


def group(image_id: str, *samples: Sample) -> ImageGroup:
    return ImageGroup(image_id, Path(f"{image_id}.jpg"), 20, 10, samples)


GROUPS = [
    group("1", sample("a", "the red cup", "cup"), sample("b", "left one", "dog")),
    group("2", sample("c", "the cup", "cup")),
    group("3", sample("d", "a dog", "dog"), sample("e", "wine glass there", "wine glass")),
    group("4", sample("f", "person", "person")),
]
CATEGORIES = {
    "1.jpg": frozenset({"cup", "dog", "person"}), "2.jpg": frozenset({"cup", "person"}),
    "3.jpg": frozenset({"dog", "wine glass", "person"}), "4.jpg": frozenset({"person"}),
}  # fmt: skip


def moved(named: bool, seed: int = 0) -> dict[str, str]:
    """Absent sample -> image."""
    found = with_swapped(GROUPS, CATEGORIES, seed, named)
    return {s.sample_id: g.image_id for g in found for s in g.samples if s.absent}


def test_no_expression_is_moved_to_an_image_that_holds_its_category() -> None:
    for seed in range(20):
        for sample_id, image in moved(False, seed).items():
            origin, target = sample_id.split("~")
            category = {s.sample_id: s.category for g in GROUPS for s in g.samples}[origin]
            assert target == image
            assert category not in CATEGORIES[f"{image}.jpg"]
    # Every image holds a person, so that "person" fits everywhere.
    assert {key.split("~")[0] for key in moved(False)} == set("abcde")
    assert {key.split("~")[0] for key in moved(True)} == set("acde")


def test_the_images_are_drawn_evenly_and_by_the_seed() -> None:
    assert moved(False, 1) == moved(False, 1)
    where = [moved(False, seed) for seed in range(200)]
    cups = [image for one in where for key, image in one.items() if key.startswith("a~")]
    assert 70 <= cups.count("3") <= 130
    assert cups.count("3") + cups.count("4") == 200


def test_an_absent_sample_names_nothing_and_the_others_name_one() -> None:
    found = with_swapped(GROUPS, CATEGORIES, 0, False)
    for one in found:
        for own in one.samples:
            assert own.boxes == (() if own.absent else (own.box,))
            if own.absent:
                assert own.box == NO_BOX
                assert own.mask["size"] == [10, 20]
                assert coco.area(own.mask) == 0
    ids = [s.sample_id for g in found for s in g.samples]
    assert len(ids) == len(set(ids))
    assert [tuple(s.sample_id for s in g.samples if not s.absent) for g in found] == [
        tuple(s.sample_id for s in g.samples) for g in GROUPS
    ]


def test_an_image_of_which_nothing_is_known_gets_nothing() -> None:
    found = with_swapped(GROUPS, {"4.jpg": frozenset()}, 0, False)
    assert {g.image_id for g in found if any(s.absent for s in g.samples)} == {"4"}


def test_an_expression_names_its_category_by_all_its_words() -> None:
    assert names_category(sample("x", "the Wine glass on the left", "wine glass"))
    assert not names_category(sample("x", "the glass on the left", "wine glass"))


def test_without_categories_nothing_can_be_moved() -> None:
    with pytest.raises(DataError, match=r"dataset\.absent needs the categories"):
        categories_of([group("1", sample("a", "cup", ""))])
