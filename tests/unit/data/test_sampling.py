"""Subsets, limits and the leakage guard."""

from dataclasses import replace
from pathlib import Path

import pytest

from locheads.data.image_groups import exclude_images, limit, shuffle, subset
from locheads.errors import ConfigError
from locheads.types import ImageGroup, Sample


def _sample(sample_id: str) -> Sample:
    return Sample(sample_id, "1", "a dog", (0, 0, 1, 1), {}, "dog")


@pytest.fixture
def groups() -> list[ImageGroup]:
    """Images a, b, c with the samples 0 1 2 | 3 | 4 5."""
    parts = {"a": "012", "b": "3", "c": "45"}
    return [ImageGroup(key, Path(key), 4, 4, tuple(map(_sample, ids))) for key, ids in parts.items()]


def _ids(groups: list[ImageGroup]) -> str:
    return "|".join("".join(s.sample_id for s in group.samples) for group in groups)


def test_subset(groups: list[ImageGroup]) -> None:
    assert _ids(subset(groups, {"4", "1", "0", "99"})) == "01|4"
    assert subset(groups, set()) == []


@pytest.mark.parametrize(
    ("n", "ids"), [(None, "012|3|45"), (1, "0"), (3, "012"), (4, "012|3"), (5, "012|3|4"), (99, "012|3|45")]
)
def test_limit(groups: list[ImageGroup], n: int | None, ids: str) -> None:
    assert _ids(limit(groups, n)) == ids


def test_limit_of_nothing(groups: list[ImageGroup]) -> None:
    with pytest.raises(ConfigError, match="The limit of 0 expressions leaves nothing"):
        limit(groups, 0)


def test_exclude_images(groups: list[ImageGroup]) -> None:
    kept, excluded = exclude_images(groups, {"b", "c", "z"})
    assert (_ids(kept), excluded) == ("012", 2)
    assert exclude_images(groups, set()) == (groups, 0)
    twice = [*groups, replace(groups[0], samples=())]
    assert exclude_images(twice, ["a"])[1] == 2


@pytest.mark.parametrize(
    ("n", "offset", "ids"),
    [(None, 1, "12|3|45"), (None, 3, "3|45"), (2, 2, "2|3"), (1, 5, "5"), (99, 4, "45"), (3, 0, "012")],
)
def test_offset(groups: list[ImageGroup], n: int | None, offset: int, ids: str) -> None:
    assert _ids(limit(groups, n, offset)) == ids


def test_pages_are_the_whole(groups: list[ImageGroup]) -> None:
    pages = [_ids(limit(groups, 2, offset)).replace("|", "") for offset in (0, 2, 4)]
    assert "".join(pages) == "012345"


@pytest.mark.parametrize("offset", [6, 100, -1])
def test_an_offset_of_everything(groups: list[ImageGroup], offset: int) -> None:
    with pytest.raises(ConfigError, match=f"The offset of {offset} leaves nothing of 6 expressions: use 0 to 5"):
        limit(groups, 1, offset)


def test_shuffle_keeps_images_together_and_repeats(groups: list[ImageGroup]) -> None:
    orders = {_ids(shuffle(groups, seed)) for seed in range(30)}
    assert len(orders) == 6  # all orders of three images
    assert all(sorted(order.split("|")) == ["012", "3", "45"] for order in orders)
    assert _ids(shuffle(groups, 4)) == _ids(shuffle(groups, 4))


def test_excluded_images_are_known_by_their_coco_id() -> None:
    path = Path("images/COCO_val2014_000000000009.jpg")
    group = ImageGroup("image-1", path, 4, 4, (_sample("0"),))
    assert exclude_images([group], {"9"}) == ([], 1)
    assert exclude_images([group], {"image-1"}) == ([group], 0)
