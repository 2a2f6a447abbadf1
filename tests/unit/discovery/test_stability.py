"""Heads by fewer samples, from the scores of one discovery."""

import numpy as np

from locheads.config import Config
from locheads.discovery.config import CriterionConfig, DiscoveryConfig, Draw, HeadsConfig
from locheads.discovery.frequencies import discover
from locheads.discovery.frequencies import stability as stability_of
from locheads.types import HeadScores

SAMPLES, LAYERS, HEADS = 400, 5, 4


def scores(noise: float) -> HeadScores:
    """Heads L3H1 and L4H2 have the lowest entropy, the more surely the less noise there is."""
    rng = np.random.default_rng(5)
    entropy = 1 + noise * rng.normal(size=(SAMPLES, LAYERS, HEADS))
    entropy[:, 3, 1] -= 0.9
    entropy[:, 4, 2] -= 0.8
    sums = np.full(entropy.shape, 0.5)
    return HeadScores(tuple(map(str, range(SAMPLES))), {"sums": sums, "entropy": entropy})


def config(sizes: list[int], seed: int = 0, draw: Draw = Draw.expression) -> Config:
    return Config(
        heads=HeadsConfig(k=2),
        discovery=DiscoveryConfig(sizes=sizes, draw=draw),
        criterion=CriterionConfig(tau=0.0, candidates=2),
        seed=seed,
    )


IMAGES = np.arange(SAMPLES) // 4
TRIALS = [np.arange(0, 200), np.arange(200, 400)]


def stability(scores: HeadScores, trials: list[np.ndarray], config: Config) -> list:
    c = config
    return stability_of(scores, trials, c.criterion, c.discovery.sizes, c.heads.k, c.seed, IMAGES, c.discovery.draw)


def test_sizes_are_ascending_and_no_larger_than_a_trial() -> None:
    found = stability(scores(0.01), TRIALS, config([200, 5, 5, 201]))
    assert [size["n"] for size in found] == [5, 200]
    assert all(len(size["tops"]) == 2 for size in found)
    assert stability(scores(0.01), TRIALS, config([])) == []


def test_the_full_size_is_the_discovery_itself() -> None:
    noisy = scores(0.6)
    (found,) = stability(noisy, TRIALS, config([200]))
    whole = discover(noisy, TRIALS, config([200]).criterion)
    assert found["tops"] == [[str(head) for head in top[:2]] for top in whole.ranking_per_trial()]


def test_clear_heads_need_few_samples_and_blurred_ones_more() -> None:
    clear = stability(scores(0.01), TRIALS, config([3]))
    assert clear[0]["tops"] == [["L3H1", "L4H2"]] * 2
    few, many = stability(scores(0.6), TRIALS, config([3, 200]))
    assert few["tops"][0] != few["tops"][1]
    assert many["tops"] == [["L3H1", "L4H2"]] * 2


def test_which_samples_are_first_depends_on_the_seed_alone() -> None:
    one, same, other = (stability(scores(0.6), TRIALS, config([3, 5, 8], seed)) for seed in (0, 0, 1))
    assert one == same != other


def test_by_image_the_first_samples_are_those_of_whole_images() -> None:
    """The samples of an image all choose one head, and neighbouring images choose different ones."""
    best = IMAGES % (3 * HEADS)
    entropy = np.ones((SAMPLES, LAYERS, HEADS))
    entropy[np.arange(SAMPLES), 2 + best // HEADS, best % HEADS] = 0
    own = HeadScores(tuple(map(str, range(SAMPLES))), {"sums": np.full(entropy.shape, 0.5), "entropy": entropy})
    criterion = CriterionConfig(tau=0.0, candidates=1)
    tops = {draw: stability_of(own, TRIALS, criterion, [4], 4, 0, IMAGES, draw)[0]["tops"] for draw in Draw}
    assert [len(top) for top in tops[Draw.image]] == [1, 1]
    assert min(len(top) for top in tops[Draw.expression]) > 1
