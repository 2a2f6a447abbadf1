"""How often the same heads come again: against exact probabilities, plain loops and the public rerun's record."""

import numpy as np
import pytest
from scipy.stats import binom

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover
from locheads.discovery.support import doublings, needed_share, share_again, support
from locheads.records.heads_file import SupportRecord
from locheads.types import HeadScores

RERUN = {"L14H24": 0.571, "L14H26": 0.406, "L14H29": 0.246, "L10H29": 0.217, "L10H23": 0.207, "L10H8": 0.154,
         "L11H14": 0.131, "L15H5": 0.122, "L14H13": 0.089}  # fmt: skip
"""Frequencies of a third party's rerun of C1 on LLaVA-1.5-7B: 1,000 images, an expression of each."""
AGAIN = {50: 0.48, 100: 0.56, 200: 0.71, 500: 0.94}
"""In how many subsamples of its record the top three are those of the whole."""


def record_of_rerun(seed: int) -> np.ndarray:
    """[image, head]: votes with the published counts, each head's on images of its own choice (how heads fall together
    was not published)."""
    rng = np.random.default_rng(seed)
    votes = np.zeros((1000, len(RERUN)))
    for head, share in enumerate(RERUN.values()):
        votes[rng.permutation(1000)[: round(1000 * share)], head] = 1
    return votes


def subsampled(votes: np.ndarray, n: int, k: int, draws: int, seed: int) -> float:
    """By the definition: n of the samples without replacement, the k heads with most votes."""
    rng, hits = np.random.default_rng(seed), 0
    whole = sorted(range(votes.shape[1]), key=lambda head: -votes[:, head].sum())[:k]
    for _ in range(draws):
        counts = votes[rng.choice(len(votes), n, replace=False)].sum(axis=0)
        hits += set(sorted(range(votes.shape[1]), key=lambda head: -counts[head])[:k]) == set(whole)
    return hits / draws


def test_the_public_reruns_heads_come_again_as_often_as_its_record_says() -> None:
    votes = record_of_rerun(0)
    for n, published in AGAIN.items():
        drawn = subsampled(votes, n, 3, 1000, n)
        # Without replacement the samples of a record run out, so that they vary as more with replacement.
        found = share_again(votes, n / (1000 - n), 3, np.random.default_rng(n))
        assert found == pytest.approx(drawn, abs=0.05)
        # Heads that fall together change this by a few points, and those are not public.
        assert found == pytest.approx(published, abs=0.10)
    fresh = share_again(votes, 0.5, 3, np.random.default_rng(1), 2000)
    assert fresh == pytest.approx(0.84, abs=0.03) and fresh < drawn - 0.04, (
        "500 new samples agree less often than 500 of the record itself"
    )


def test_a_draw_of_two_heads_is_a_binomial() -> None:
    """7 images vote for the first head, 4 for the other: the first comes again where it has at least as many."""
    votes = np.array([[1.0, 0.0]] * 7 + [[0.0, 1.0]] * 4)
    exact = binom.sf(5, 11, 7 / 11)
    assert share_again(votes, 1.0, 1, np.random.default_rng(0), 20_000) == pytest.approx(exact, abs=0.015)
    even, tied = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 4), binom.pmf(5, 10, 0.6)
    first, last = (share_again(v, 1.0, 1, np.random.default_rng(0), 20_000) for v in (even, even[:, ::-1]))
    assert first - last == pytest.approx(tied, abs=0.02), "a tie goes to the first head, as in the ranking"


def scores(n: int, seed: int = 0, copies: int = 1) -> tuple[HeadScores, np.ndarray]:
    """Heads L1H0 and L1H1 have the lowest entropy in some 60 and 40 % of n images, each with `copies` like samples."""
    rng = np.random.default_rng(seed)
    entropy = np.ones((n, 2, 3))
    entropy[np.arange(n), 1, (rng.random(n) < 0.4).astype(int)] = 0
    entropy = np.repeat(entropy, copies, axis=0)
    numbers = {"sums": np.full(entropy.shape, 0.5), "entropy": entropy}
    return HeadScores(tuple(map(str, range(len(entropy)))), numbers), np.repeat(np.arange(n), copies)


ONE = CriterionConfig(tau=0.0, candidates=1, skip_layers=0)


def test_the_share_of_all_is_that_of_the_images_own_votes() -> None:
    of_all, images = scores(60)
    trials = [np.arange(0, 40), np.arange(20, 60)]
    record = support(of_all, trials, ONE, images, 1, 0)
    found = discover(of_all, trials, ONE)
    assert str(found.ranking()[0]) == "L1H0"
    first = (of_all["entropy"][:, 1, 0] == 0).astype(float)
    weight = np.bincount(np.concatenate(trials), minlength=60)
    rng, hits = np.random.default_rng(9), 0
    for _ in range(4000):
        drawn = rng.integers(0, 60, 60)
        hits += (weight * first)[drawn].sum() >= (weight * (1 - first))[drawn].sum()
    assert record.curve[-1][0] == 60
    assert record.share == pytest.approx(hits / 4000, abs=0.04)


def test_like_expressions_of_an_image_are_no_further_evidence() -> None:
    (single, own), (copied, same) = scores(40, 3), scores(40, 3, copies=5)
    one = support(single, [np.arange(40)], ONE, own, 1, 0)
    five = support(copied, [np.arange(200)], ONE, same, 1, 0)
    assert five.share == pytest.approx(one.share, abs=0.04)
    careless = support(copied, [np.arange(200)], ONE, np.arange(200), 1, 0)
    assert careless.share > one.share + 0.05


def test_a_single_image_makes_nothing_final() -> None:
    of_one, images = scores(1, copies=30)
    assert support(of_one, [np.arange(30)], ONE, images, 1, 0).share == 0


def test_a_criterion_that_ranks_by_a_mean_is_resampled_by_its_values() -> None:
    of_all, images = scores(80)
    sums = np.full(of_all["sums"].shape, 0.1)
    sums[:, 0, 2] = np.where(np.arange(80) == 0, 40.0, 0.0)  # one image of 80 carries the mean
    words = HeadScores(of_all.sample_ids, {**of_all.numbers, "sums": sums},
                       {"dependence": np.ones((2, 3)), "lex": np.ones((2, 3))})  # fmt: skip
    pooled = CriterionConfig(score="words", skip_layers=0)
    assert str(discover(words, [np.arange(80)], pooled).ranking()[0]) == "L0H2"
    share = support(words, [np.arange(80)], pooled, images, 1, 0).share
    assert share == pytest.approx(1 - (79 / 80) ** 80, abs=0.04)


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (50, [50]), (51, [50, 51]), (100, [50, 100]),
                                             (1000, [50, 100, 200, 400, 800, 1000])])  # fmt: skip
def test_sizes_double(most: int, sizes: list[int]) -> None:
    assert doublings(most) == sizes


def test_enough_is_from_where_on_it_stays_final() -> None:
    curve = ((50, 0.96), (100, 0.9), (200, 0.95), (400, 0.99))
    assert SupportRecord(confidence=0.95, resamples=1000, curve=curve).enough == 200
    assert SupportRecord(confidence=0.9, resamples=1000, curve=curve).enough == 50
    assert SupportRecord(confidence=0.995, resamples=1000, curve=curve).enough is None


def test_stopping_rarely_leaves_a_wrong_head_though_it_looks_often() -> None:
    """Two heads with votes in 30 and 25 % of the images, at the looks of one trial of up to 400."""
    wrong = dict.fromkeys(("looks", "careless"), 0)
    sizes, runs = doublings(400), 120
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        votes = (rng.random((400, 2)) < [0.25, 0.30]).astype(float)
        for name, needed in (("looks", needed_share(0.95, len(sizes))), ("careless", 0.8)):
            for n in sizes:
                if share_again(votes[:n], 1.0, 1, rng, 200) >= needed:
                    wrong[name] += votes[:n, 0].sum() >= votes[:n, 1].sum()
                    break
    assert wrong["looks"] / runs <= 0.05
    assert wrong["careless"] / runs > 0.1, "the simulation would not notice a rule that stops too early"
