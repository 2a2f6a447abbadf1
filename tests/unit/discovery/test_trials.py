"""What the trials draw: random expressions, or whole images."""

import numpy as np
import pytest

from locheads.discovery.config import Draw
from locheads.discovery.trials import draw_trials, random_order
from locheads.errors import ConfigError, DataError

SIZES = np.random.default_rng(0).integers(1, 12, 60)
IMAGES = np.repeat(np.arange(60), SIZES)
"""60 images with 1 to 11 samples, some 350 together."""
EACH = pytest.mark.parametrize("draw", list(Draw))


@EACH
def test_draws_are_distinct_positions(draw: Draw) -> None:
    draws = draw_trials(IMAGES, 50, 4, 1, draw)
    assert len(draws) == 4
    for drawn in draws:
        assert len(set(drawn)) == 50
        assert list(drawn) == sorted(drawn)
        assert 0 <= drawn[0] <= drawn[-1] < len(IMAGES)


@EACH
def test_trials_differ_and_repeat(draw: Draw) -> None:
    first, again, other = (draw_trials(IMAGES, 50, 3, seed, draw) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(drawn) for drawn in first + other}) == 6


@EACH
def test_more_trials_leave_the_earlier_ones(draw: Draw) -> None:
    few, many = draw_trials(IMAGES, 50, 2, 7, draw), draw_trials(IMAGES, 50, 5, 7, draw)
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=False))


@EACH
def test_every_position_is_equally_likely(draw: Draw) -> None:
    images = np.repeat(np.arange(10), 2)
    counts = np.bincount(np.concatenate(draw_trials(images, 5, 2000, 0, draw)), minlength=20)
    assert np.abs(counts / 2000 - 0.25).max() < 0.05  # 5 standard errors


@EACH
def test_too_few_samples_use_all_and_say_so(draw: Draw, caplog: pytest.LogCaptureFixture) -> None:
    draws = draw_trials(np.array([0, 1, 1]), 1000, 2, 0, draw)
    assert [list(drawn) for drawn in draws] == [[0, 1, 2], [0, 1, 2]]
    assert "Only 3 of the n_samples=1000" in caplog.text


@EACH
def test_exactly_enough_samples_is_no_warning(draw: Draw, caplog: pytest.LogCaptureFixture) -> None:
    assert [list(drawn) for drawn in draw_trials(np.arange(3), 3, 1, 0, draw)] == [[0, 1, 2]]
    assert caplog.text == ""


@pytest.mark.parametrize(("n_samples", "trials", "seed"), [(0, 1, 0), (1, 0, 0), (-5, 1, 0), (1, 1, -1)])
def test_impossible_draws(n_samples: int, trials: int, seed: int) -> None:
    with pytest.raises(ConfigError, match=f"n_samples={n_samples}, trials={trials}, seed={seed} cannot be drawn"):
        draw_trials(IMAGES, n_samples, trials, seed)


def test_an_unknown_draw() -> None:
    with pytest.raises(ConfigError, match="There is no Draw 'picture': use one of expression, image"):
        draw_trials(IMAGES, 5, 1, 0, "picture")


@EACH
def test_no_samples(draw: Draw) -> None:
    with pytest.raises(DataError, match="There are no samples to draw from"):
        draw_trials(np.array([], dtype=int), 10, 1, 0, draw)


def test_the_papers_draw_is_the_default_and_is_what_it_always_was() -> None:
    expected = [np.sort(np.random.default_rng([3, i]).choice(len(IMAGES), 40, replace=False)) for i in range(5)]
    np.testing.assert_array_equal(draw_trials(IMAGES, 40, 5, 3), expected)
    assert not np.array_equal(draw_trials(IMAGES, 40, 5, 3, Draw.image), expected)


def test_images_are_drawn_whole_but_for_the_last() -> None:
    cut = set()
    for drawn in draw_trials(IMAGES, 50, 200, 0, Draw.image):
        of_each = np.bincount(IMAGES[drawn], minlength=60)
        (parts,) = np.nonzero((of_each > 0) & (of_each < SIZES))
        assert len(parts) <= 1
        cut |= {tuple(drawn[IMAGES[drawn] == part] - IMAGES.searchsorted(part)) for part in parts}
    # The one that is cut off gives any of its samples, not its first ones.
    assert any(part != tuple(range(len(part))) for part in cut)
    # The control: random expressions break up nearly every image.
    (by_expression,) = draw_trials(IMAGES, 50, 1, 0)
    of_each = np.bincount(IMAGES[by_expression], minlength=60)
    assert ((of_each > 0) & (of_each < SIZES)).sum() > 20


def test_few_images_hold_the_samples() -> None:
    images = np.repeat(np.arange(1000), 7)
    found = {draw: len(np.unique(images[draw_trials(images, 140, 1, 0, draw)[0]])) for draw in Draw}
    assert found[Draw.image] == 20
    assert found[Draw.expression] > 125


def test_it_does_not_matter_where_an_images_samples_stand() -> None:
    mixed = np.random.default_rng(1).permutation(IMAGES)
    drawn = draw_trials(mixed, 50, 1, 0, Draw.image)[0]
    of_each = np.bincount(mixed[drawn], minlength=60)
    assert ((of_each > 0) & (of_each < SIZES)).sum() <= 1


def test_the_beginning_of_an_order_is_a_smaller_draw() -> None:
    order = random_order(IMAGES, np.random.default_rng(4), Draw.image)
    assert sorted(order) == list(range(len(IMAGES)))
    assert np.count_nonzero(np.diff(IMAGES[order])) == 59  # each image once, in one piece
    expressions = random_order(IMAGES, np.random.default_rng(4), Draw.expression)
    np.testing.assert_array_equal(expressions, np.random.default_rng(4).permutation(np.arange(len(IMAGES))))
