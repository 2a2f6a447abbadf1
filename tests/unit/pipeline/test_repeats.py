"""What occurs twice is counted by hand on small splits: words, boxes, files."""

from pathlib import Path

import pytest

from locheads.pipeline.repeats import repeats_of
from locheads.types import Box, Excerpt, ImageGroup, Sample

LEFT, RIGHT = (0.0, 0.0, 4.0, 4.0), (5.0, 0.0, 9.0, 4.0)


def group(name: str, *named: tuple[str, Box]) -> ImageGroup:
    samples = (Sample(f"{name}{i}", f"{i}", words, box, {}, "") for i, (words, box) in enumerate(named))
    return ImageGroup(name, Path(f"{name}.jpg"), 9, 9, tuple(samples))


@pytest.mark.parametrize(
    ("named", "expressions", "ambiguous"),
    [
        ([("the cup", LEFT), ("the jug", LEFT), ("a cup", RIGHT)], 0, 0),
        ([("the cup", LEFT), ("The  cup ", LEFT), ("the cup", LEFT)], 2, 0),
        ([("the cup", LEFT), ("the cup", RIGHT)], 0, 2),
        ([("the cup", LEFT), ("the cup", LEFT), ("the cup", RIGHT), ("a jug", RIGHT)], 1, 3),
    ],
)
def test_words_are_compared_within_an_image(named: list[tuple[str, Box]], expressions: int, ambiguous: int) -> None:
    found = repeats_of([group("a", *named), group("b", ("the cup", RIGHT))])
    assert (found.expressions, found.ambiguous) == (expressions, ambiguous)


def test_phrases_of_one_caption_are_told_apart_by_their_place() -> None:
    caption = "a man and a man"
    first, second = Excerpt(caption, (0, 5)), Excerpt(caption, (10, 15))
    assert repeats_of([group("a", (first, LEFT), (second, RIGHT))]).ambiguous == 0
    assert repeats_of([group("a", (first, LEFT), (first, RIGHT))]).ambiguous == 2


def test_images_are_compared_by_their_content_and_not_by_their_name() -> None:
    evaluated, seen = [group(name, (name, LEFT)) for name in "abcd"], [group(name, (name, LEFT)) for name in "def"]
    digests = dict(zip([Path(f"{name}.jpg") for name in "abcdef"], ["1", "1", "2", "3", "2", None], strict=True))
    found = repeats_of(evaluated, seen, digests)
    # b is a's file; of the seen ones d is evaluated, e is c's file, f is not there.
    assert (found.images, found.seen_images) == (1, 2)
    apart = dict(zip(digests, "123456", strict=True))
    assert repeats_of(evaluated[:3], seen, apart).seen_images == repeats_of(evaluated, seen, apart).images == 0


def test_of_images_that_were_not_read_nothing_is_said() -> None:
    found = repeats_of([group("a", ("a", LEFT))], [])
    assert found.images is None and found.seen_images is None
