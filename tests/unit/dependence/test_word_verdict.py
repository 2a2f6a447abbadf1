"""The verdict on a head set, its interval, and its sentence."""

import numpy as np
import pytest

from locheads.dependence.head_dependence import head_dependence
from locheads.dependence.overlaps import NO_PAIRS, PairTable
from locheads.dependence.word_verdict import SENTENCES, Follows, gap_ends, judge


def table(stays_same: float, stays_other: float, dependence: float, images: int = 60, per_image: int = 20) -> PairTable:
    """Half of each image's pairs ask for one object; shares of them stay, the same in every image."""
    half = per_image // 2
    stay = lambda share: np.arange(half) < round(share * half)  # noqa: E731
    same = np.tile(np.arange(per_image) < half, images)
    return PairTable(
        np.repeat(np.arange(images), per_image),
        same,
        np.zeros(len(same), dtype=bool),
        np.ones(len(same), dtype=bool),
        np.where(same, 0.8, 0.8 * (1 - dependence)).astype(np.float16),
        np.tile(np.concatenate([stay(stays_same), stay(stays_other)]), images),
    )


@pytest.mark.parametrize(
    ("stays_same", "stays_other", "dependence", "expected"),
    [
        (0.8, 0.1, 0.6, Follows.follow),
        (0.8, 0.1, 0.2, Follows.peak_only),
        (0.9, 0.9, 0.0, Follows.same_place),
        (0.3, 0.3, 0.6, Follows.elsewhere),
        (0.5, 0.3, 0.6, Follows.partly),
    ],
)
def test_each_verdict(stays_same: float, stays_other: float, dependence: float, expected: Follows) -> None:
    found = judge(table(stays_same, stays_other, dependence), 200, 0)
    assert found.follows == expected
    assert found.gap == pytest.approx(stays_same - stays_other) and found.n_same == found.n_other == 600
    assert found.dependence == pytest.approx(dependence, abs=1e-3)
    assert found.sentence.startswith(SENTENCES[expected])
    assert f"{stays_same:.0%} of 600 pairs" in found.sentence and "60 images" in found.sentence


def test_few_images_tell_nothing() -> None:
    found = judge(table(0.8, 0.1, 0.6, images=9), 200, 0)
    assert found.follows == Follows.unknown and "9 images are too few" in found.sentence
    assert judge(table(0.8, 0.1, 0.6, images=10), 200, 0).follows == Follows.follow


def test_without_pairs_the_sentence_says_what_is_missing() -> None:
    whole = table(0.8, 0.1, 0.6)
    for pairs, missing in ((whole.only(whole.same), "two objects"), (NO_PAIRS, "two wordings for one object")):
        found = judge(pairs, 200, 0)
        assert found.follows == Follows.unknown and missing in found.sentence and np.isnan(found.gap)


def test_only_pairs_of_the_same_token_count() -> None:
    whole = table(0.8, 0.1, 0.6)
    other = table(0.2, 0.2, 0.0)
    both = PairTable(**{name: np.concatenate([values, vars(other)[name]]) for name, values in vars(whole).items()})
    controlled = PairTable(**{**vars(both), "same_token": np.arange(len(both.image)) < len(whole.image)})
    assert judge(controlled, 200, 0) == judge(whole, 200, 0)
    assert judge(both, 200, 0).gap == pytest.approx((0.7 + 0.0) / 2)


def test_the_interval_is_a_bootstrap_over_images(random_table) -> None:
    pairs = random_table(n=400, images=25, heads=())
    low, high = gap_ends(pairs, 4000, seed=0)
    rng, gaps = np.random.default_rng(9), []
    for _ in range(1500):  # drawn image by image, with its pairs
        rows = np.concatenate([np.flatnonzero(pairs.image == image) for image in rng.integers(0, 25, 25)])
        found = head_dependence(pairs.only(rows))
        own = pairs.only(rows)
        gaps.append(own.stays[own.same].mean() - own.stays[~own.same].mean())
        assert np.isfinite(float(found.gap))
    np.testing.assert_allclose([low, high], np.percentile(gaps, [2.5, 97.5]), atol=0.015)
    assert gap_ends(pairs, 4000, seed=0) == (low, high)


def test_pairs_of_one_image_do_not_pass_for_independent() -> None:
    """Where the images differ and the pairs of an image agree, the interval is as wide as the images make it."""
    images = np.repeat(np.arange(20), 40)
    same = np.tile(np.arange(40) < 20, 20)
    stays = (images % 2 == 0) & same
    flags = np.ones(800, dtype=bool)
    low, high = gap_ends(PairTable(images, same, flags, flags, np.ones(800, np.float16), stays), 4000, 0)
    # Half of 20 images: the standard deviation of a mean of 20 coins is 0.11.
    assert high - low == pytest.approx(2 * 1.96 * 0.112, abs=0.06)
