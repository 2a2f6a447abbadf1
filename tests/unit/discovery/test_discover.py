"""Frequencies over trials, and the k heads, on tables worked by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover, greedy_heads, top_heads
from locheads.errors import DiscoveryError
from locheads.types import HeadIndex

BY_ENTROPY = CriterionConfig(score="entropy", skip_layers=0, candidates=1)
#            L0          L1
PREFERS = {
    "L0H0": [[0.1, 0.5], [0.6, 0.7]],
    "L0H1": [[0.5, 0.1], [0.6, 0.7]],
    "L1H0": [[0.5, 0.6], [0.1, 0.7]],
    "none": [[np.inf, np.inf], [np.inf, np.inf]],
}


def table(scores, *prefer: str):
    entropy = [PREFERS[name] for name in prefer]
    return scores(np.full((len(entropy), 2, 2), 0.5), entropy)


def test_frequencies_are_shares_and_their_spread_is_the_population_deviation(scores) -> None:
    data = table(scores, "L0H0", "L0H0", "L0H1", "L1H0")
    found = discover(data, [np.array([0, 1]), np.array([0, 2]), np.array([2, 3])], BY_ENTROPY)
    expected = [[[1, 0], [0, 0]], [[0.5, 0.5], [0, 0]], [[0, 0.5], [0.5, 0]]]
    np.testing.assert_array_equal(found.frequency_per_trial, expected)
    np.testing.assert_allclose(found.frequency_mean, [[1 / 2, 1 / 3], [1 / 6, 0]], rtol=0, atol=1e-15)
    # L0H0: 1, .5, 0 -> sqrt(.5 / 3). L0H1: 0, .5, .5 -> sqrt(1 / 18). L1H0: 0, 0, .5 -> the same.
    spread = [[(1 / 6) ** 0.5, (1 / 18) ** 0.5], [(1 / 18) ** 0.5, 0]]
    np.testing.assert_allclose(found.frequency_std, spread, rtol=0, atol=1e-15)


def test_a_sample_that_chooses_no_head_still_counts_in_the_denominator(scores) -> None:
    found = discover(table(scores, "L0H0", "none"), [np.arange(2)], BY_ENTROPY)
    np.testing.assert_array_equal(found.frequency_mean, [[0.5, 0], [0, 0]])


def test_mean_sums_and_tau_come_from_the_trials_samples(scores) -> None:
    sums = [[[0.1, 0.2], [0.3, 0.7]], [[0.3, 0.4], [0.5, 0.9]], [[9, 9], [9, 9]]]
    criterion = CriterionConfig(skip_layers=0)
    found = discover(scores(sums), [np.array([0]), np.array([0, 1])], criterion)
    # Means per trial: the first row; the rows' mean .2 .3 .4 .8. Their chords have the elbow at the third value.
    assert found.tau_per_trial == (0.3, pytest.approx(0.4, abs=1e-15))
    np.testing.assert_allclose(found.mean_sums, [[0.15, 0.25], [0.35, 0.75]], rtol=0, atol=1e-15)
    assert found.tau == pytest.approx(0.35, abs=1e-15)
    np.testing.assert_array_equal(found.eligible, [[0, 0], [1, 1]])


def test_each_trial_applies_its_own_threshold(scores) -> None:
    # Sorted .1 .1 .2 .9 gives tau .2 (L1H0 and L1H1 in), .1 .2 .2 .9 gives .2, too, but for other heads.
    sums = [[[0.1, 0.1], [0.2, 0.9]], [[0.9, 0.2], [0.1, 0.1]]]
    entropy = [[[0.0, 0.0], [0.5, 0.6]]] * 2
    criterion = CriterionConfig(skip_layers=0, candidates=1)
    found = discover(scores(sums, entropy), [np.array([0]), np.array([1])], criterion)
    np.testing.assert_array_equal(found.frequency_per_trial, [[[0, 0], [1, 0]], [[1, 0], [0, 0]]])


def test_ranking_leaves_out_heads_that_nobody_chose_and_breaks_ties_by_layer_and_head(scores) -> None:
    data = table(scores, "L1H0", "L0H1", "L0H0", "L0H0")
    found = discover(data, [np.arange(4)], BY_ENTROPY)
    assert found.ranking() == [HeadIndex(0, 0), HeadIndex(0, 1), HeadIndex(1, 0)]
    assert top_heads(found, 2) == [HeadIndex(0, 0), HeadIndex(0, 1)]


def test_more_heads_than_were_chosen_is_an_error_with_both_numbers(scores) -> None:
    found = discover(table(scores, "L0H0", "L0H1"), [np.arange(2)], BY_ENTROPY)
    assert len(top_heads(found, 2)) == 2
    with pytest.raises(DiscoveryError, match=r"heads\.k=3 is more than the 2 heads .* \(4 are eligible\)"):
        top_heads(found, 3)


def test_greedy_takes_each_samples_own_best_in_order_and_no_head_without_a_component(scores) -> None:
    data = table(scores, "L0H1", "L1H0", "none")
    found = discover(data, [np.arange(3)], BY_ENTROPY)
    assert greedy_heads(data, found, 3, BY_ENTROPY) == {
        "s0": [HeadIndex(0, 1), HeadIndex(0, 0), HeadIndex(1, 0)],
        "s1": [HeadIndex(1, 0), HeadIndex(0, 0), HeadIndex(0, 1)],
        "s2": [],
    }


def test_greedy_uses_the_thresholds_of_discovery_not_of_the_sample(scores) -> None:
    criterion = CriterionConfig(skip_layers=0, candidates=1)
    discovery_sums = [[[0.1, 0.1], [0.2, 0.9]]]
    found = discover(scores(discovery_sums, [PREFERS["L1H0"]]), [np.array([0])], criterion)
    other = scores([[[0.9, 0.9], [0.0, 0.0]]], [PREFERS["L0H0"]])
    assert greedy_heads(other, found, 2, criterion) == {"s0": [HeadIndex(1, 0), HeadIndex(1, 1)]}


def test_a_tau_above_every_mean_sum_is_an_error_that_tells_the_highest(scores) -> None:
    data = scores([[[0.1, 0.2], [0.3, 0.742]]])
    with pytest.raises(DiscoveryError, match=r"criterion\.tau=0\.8 .* highest is 0\.742"):
        discover(data, [np.array([0])], CriterionConfig(skip_layers=0, tau=0.8))


@pytest.mark.parametrize("trials", [[], [np.array([], dtype=int)], [np.array([0]), np.array([], dtype=int)]])
def test_a_trial_without_samples_is_an_error(scores, trials: list[np.ndarray]) -> None:
    with pytest.raises(DiscoveryError, match="Discovery has no samples"):
        discover(table(scores, "L0H0"), trials, BY_ENTROPY)


def test_skipping_every_layer_is_an_error(scores) -> None:
    with pytest.raises(DiscoveryError, match=r"criterion\.skip_layers=2 leaves none"):
        discover(table(scores, "L0H0"), [np.array([0])], CriterionConfig(score="entropy"))


def test_the_interval_of_independent_samples_is_the_binomial_one(scores) -> None:
    data = table(scores, *["L0H0"] * 250 + ["L0H1"] * 150)
    found = discover(data, [np.arange(400)], BY_ENTROPY, np.arange(400))
    assert (found.n_images, found.frequency_ends.shape) == (400, (2, 2, 2))
    for at, hits in (((0, 0), 250), ((0, 1), 150), ((1, 0), 0)):
        expected = binomtest(hits, 400).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(found.frequency_ends[:, *at], (expected.low, expected.high), rtol=0, atol=0.002)


def test_the_interval_knows_that_the_expressions_of_an_image_are_alike(scores) -> None:
    """40 images of ten expressions that all agree, 25 of them for L0H0: worth 40 answers, not 400."""
    votes = ["L0H0"] * 25 + ["L0H1"] * 15
    data, images = table(scores, *np.repeat(votes, 10)), np.repeat(np.arange(40), 10)
    found = discover(data, [np.arange(400)], BY_ENTROPY, images)
    # By hand: Wilson's for 25 of 40 with t of 39 degrees of freedom, 2.0227 (SciPy gives the ends with z).
    share, t2 = 25 / 40, 2.0227**2 / 40
    middle, half = (share + t2 / 2) / (1 + t2), (t2 * share * (1 - share) + t2**2 / 4) ** 0.5 / (1 + t2)
    np.testing.assert_allclose(found.frequency_ends[:, 0, 0], (middle - half, middle + half), rtol=0, atol=0.004)
    once = discover(table(scores, *votes), [np.arange(40)], BY_ENTROPY, np.arange(40))
    np.testing.assert_allclose(found.frequency_ends, once.frequency_ends, rtol=0, atol=1e-12)
    # The control: taken for independent, they give an interval of less than a third of that.
    ignored = discover(data, [np.arange(400)], BY_ENTROPY, np.arange(400))
    widths = [np.diff(each.frequency_ends[:, 0, 0], axis=0).item() for each in (found, ignored)]
    assert 3 * widths[1] < widths[0] == pytest.approx(0.29, abs=0.02)


def test_the_interval_covers_what_resampled_images_give(scores) -> None:
    """Images of 1 to 8 expressions that mostly agree, against a bootstrap over images."""
    rng = np.random.default_rng(8)
    images = np.repeat(np.arange(150), rng.integers(1, 9, 150))
    hits = rng.random(len(images)) < rng.beta(1, 1, 150)[images]
    data = table(scores, *np.where(hits, "L0H0", "L0H1"))
    found = discover(data, [np.arange(len(images))], BY_ENTROPY, images)
    sums, counts = np.bincount(images, hits), np.bincount(images)
    draws = rng.integers(0, 150, (4000, 150))
    low, high = np.percentile(sums[draws].sum(1) / counts[draws].sum(1), [2.5, 97.5])
    np.testing.assert_allclose(found.frequency_ends[:, 0, 0], (low, high), rtol=0, atol=0.01)
    alone = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    assert high - low > 1.4 * (alone.high - alone.low)


def test_a_sample_that_every_trial_draws_is_no_more_certain_for_it(scores) -> None:
    data = table(scores, *["L0H0"] * 60 + ["L0H1"] * 40)
    one, five = (discover(data, [np.arange(100)] * n, BY_ENTROPY, np.arange(100)) for n in (1, 5))
    np.testing.assert_allclose(five.frequency_ends, one.frequency_ends, rtol=0, atol=1e-12)


def test_the_interval_is_about_the_mean_of_the_trials_even_where_one_lost_samples(scores) -> None:
    data = table(scores, *["L0H0"] * 30 + ["L0H1"] * 30)
    found = discover(data, [np.arange(30), np.arange(30, 40)], BY_ENTROPY, np.arange(60))
    np.testing.assert_array_equal(found.frequency_mean[0], [0.5, 0.5])
    np.testing.assert_allclose(found.frequency_ends.sum(axis=0)[0], [1, 1], rtol=0, atol=1e-12)
    assert found.n_images == 40


def test_one_image_tells_nothing_of_others(scores) -> None:
    found = discover(table(scores, "L0H0", "L0H0", "L0H1"), [np.arange(3)], BY_ENTROPY, np.zeros(3, dtype=int))
    assert found.n_images == 1
    np.testing.assert_array_equal(found.frequency_ends[0], np.zeros((2, 2)))
    np.testing.assert_array_equal(found.frequency_ends[1], np.ones((2, 2)))


def test_without_images_there_is_no_interval(scores) -> None:
    found = discover(table(scores, "L0H0", "L0H1"), [np.arange(2)], BY_ENTROPY)
    assert (found.frequency_ends, found.n_images) == (None, None)


def _discovery_of_images(rng: np.random.Generator, scores) -> tuple:
    """Two trials of 30 new images with four expressions each, whose attention is mostly the image's: -> (with
    intervals over images, with intervals that take the expressions for independent). Thresholds are the trials' own."""
    shape = (60, 1, 4, 4)
    of_image, of_each = rng.normal(size=(2, *shape)), rng.normal(size=(2, 60, 4, 4, 4))
    sums, entropy = (0.5 + 0.1 * image + 0.05 * each for image, each in zip(of_image, of_each, strict=True))
    sums, entropy = sums.reshape(240, 4, 4) + np.repeat([0, 0.3], 8).reshape(4, 4), entropy.reshape(240, 4, 4)
    criterion, trials = CriterionConfig(skip_layers=0, candidates=2), [np.arange(120), np.arange(120, 240)]
    images = np.repeat(np.arange(60), 4)
    return tuple(discover(scores(sums, entropy), trials, criterion, of) for of in (images, np.arange(240)))


def test_95_percent_intervals_hold_the_truth_where_the_sums_have_an_elbow(scores) -> None:
    rng = np.random.default_rng(0)
    found = [_discovery_of_images(rng, scores) for _ in range(300)]
    truth = np.mean([own.frequency_mean for own, _ in found], axis=0)
    often = (truth > 0.1) & (truth < 0.9)
    assert often.sum() > 3
    covered = np.mean([[(e[0] <= truth) & (truth <= e[1]) for e in (a.frequency_ends, b.frequency_ends)]
                       for a, b in found], axis=0)  # fmt: skip
    assert covered[0][often].min() > 0.9
    assert covered[1][often].max() < 0.85
    assert len({own.tau for own, _ in found}) > 100
