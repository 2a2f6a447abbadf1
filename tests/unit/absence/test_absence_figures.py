"""AUROC and the risk-coverage curve against plain loops; their intervals against leaving images out, by simulation, and
with shuffled labels."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from locheads.absence.absence_figures import aurc_parts, auroc, auroc_parts, risk_coverage
from locheads.evaluation.intervals import ratio_interval


def drawn(seed: int, n: int = 60, images: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(scores with ties, absent, wrong, image)."""
    rng = np.random.default_rng(seed)
    absent, image = rng.random(n) < 0.4, rng.integers(0, images, n)
    scores = np.round(rng.normal(absent * 0.8 + rng.normal(size=images)[image] * 0.4, 1), 1)
    return scores, absent, (absent | (rng.random(n) < 0.3)).astype(float), image


def plain_auroc(scores: np.ndarray, absent: np.ndarray) -> float:
    pairs = [(a, t) for a in scores[absent] for t in scores[~absent]]
    return sum(1.0 if a > t else 0.5 if a == t else 0.0 for a, t in pairs) / len(pairs)


def plain_aurc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """The mean over 4,000 random orders of the ties where there are any."""
    rng, areas = np.random.default_rng(0), []
    for _ in range(4000 if len(np.unique(scores)) < len(scores) else 1):
        order = np.lexsort((rng.random(len(scores)), scores))
        risks = [sum(wrong[order[:k]]) / k for k in range(1, len(scores) + 1)]
        areas.append(sum(risks) / len(risks))
    return float(np.mean(areas))


@pytest.mark.parametrize("seed", range(200))
def test_auroc_is_the_share_of_pairs(seed: int) -> None:
    scores, absent, _, _ = drawn(seed)
    assert auroc(scores, absent) == pytest.approx(plain_auroc(scores, absent), abs=1e-9)


@pytest.mark.parametrize("seed", range(200))
def test_the_area_is_the_mean_risk_over_coverages(seed: int) -> None:
    scores, _, wrong, _ = drawn(seed)
    scores = scores + np.arange(len(scores)) * 1e-6  # no ties: a single order
    _, risk = risk_coverage(scores, wrong)
    assert aurc_parts(scores, wrong).mean() == pytest.approx(plain_aurc(scores, wrong), abs=1e-9)
    assert risk[-1] == pytest.approx(wrong.mean())


def test_ties_count_as_the_mean_over_their_orders() -> None:
    scores, _, wrong, _ = drawn(3, n=12)
    assert len(np.unique(scores)) < 12
    assert aurc_parts(scores, wrong).mean() == pytest.approx(plain_aurc(scores, wrong), abs=0.005)
    # One score for all orders nothing: the risk is the same at every coverage.
    assert risk_coverage(np.zeros(12), wrong)[1].tolist() == pytest.approx([wrong.mean()] * 12)


def test_by_hand() -> None:
    """Two of three pairs are right; answers of risk 0, 1/2, 1/3 and 2/4."""
    scores, absent = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    assert auroc(scores, absent) == pytest.approx(3 / 4)
    coverage, risk = risk_coverage(scores, absent.astype(float))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc_parts(scores, absent.astype(float)).mean() == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


FIGURES: dict[str, Callable] = {
    "auroc": lambda scores, absent, wrong: auroc_parts(scores, absent),
    "aurc": lambda scores, absent, wrong: (aurc_parts(scores, wrong), np.ones(len(scores))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_interval_is_that_of_leaving_images_out(name: str) -> None:
    """Half its width over Student's t, against the jackknife over images with the figure worked out anew each time."""
    scores, absent, wrong, image = drawn(5, n=1500, images=120)
    plain = {
        "auroc": lambda on: (
            mannwhitneyu(scores[on & absent], scores[on & ~absent]).statistic
            / (on & absent).sum()
            / (on & ~absent).sum()
        ),
        "aurc": lambda on: float(risk_coverage(scores[on], wrong[on])[1].mean()),
    }
    left_out = np.array([plain[name](image != one) for one in range(120)])
    jackknife = np.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())
    found = ratio_interval(*FIGURES[name](scores, absent, wrong), image)
    assert found.value == pytest.approx(plain[name](image >= 0), abs=1e-9)
    assert (found.high - found.low) / 2 / 1.98 == pytest.approx(jackknife, rel=0.08)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Images whose expressions agree: the normal shift 1 has the AUROC Phi(1 / sqrt 2) = .7602."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        image = np.repeat(np.arange(60), 6)
        absent = np.tile([False, False, False, True, True, True], 60)
        own = np.sqrt(0.4) * rng.normal(size=60)[image] + np.sqrt(0.6) * rng.normal(size=360)
        found = ratio_interval(*auroc_parts(own + absent, absent), image)
        held += found.low <= 0.7602 <= found.high
    # Within an image the common part cancels: the truth of a pair is between .7602 (two images) and more (one).
    assert 0.92 <= held / 200 <= 0.99


def test_shuffled_labels_tell_nothing() -> None:
    """The negative control: .5 lies within the interval 95 times in 100, and the score itself tells something."""
    scores, absent, _, image = drawn(7, n=900, images=90)
    told = ratio_interval(*auroc_parts(scores, absent), image)
    assert told.low > 0.6
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        found = ratio_interval(*auroc_parts(scores, rng.permutation(absent)), image)
        inside += found.low <= 0.5 <= found.high
    assert inside / 200 >= 0.9
