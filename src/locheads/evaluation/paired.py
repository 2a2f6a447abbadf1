"""Two runs on the same samples: is one better, and how many images would it take to see that?

All of it counts images, not expressions, because the expressions of one image are not independent.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, permutation_test

from locheads.evaluation.intervals import difference_ends, sum_ratio, sums_per_image

BATCH_CELLS = 1_000_000
"""Numbers that the sign flips hold at once, per array: some 8 MB."""

POWER = 0.8
"""How often a difference of the needed sample's size is seen."""


@dataclass(frozen=True)
class Sums:
    """One metric of one run: the ratio of two sums over expressions (a mean has denominators of 1)."""

    numerators: Float[np.ndarray, "n"]
    denominators: Float[np.ndarray, "n"]

    @property
    def value(self) -> float:
        """0 where the denominators sum to 0."""
        return float(sum_ratio(self.numerators, self.denominators))


@dataclass(frozen=True)
class Need:
    """A sample in which a difference is seen."""

    expressions: int
    images: int


@dataclass(frozen=True)
class Difference:
    """b - a of one metric."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    spread: float
    """Standard deviation of what one expression adds to the difference (of its linearised form, for a ratio)."""
    design_effect: float
    need: Need | None
    """For a difference as large as this one; None for one of 0."""


def compare(
    a: Sums, b: Sums, images: Int[np.ndarray, "n"], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Expression i of `a` and `b` are answers to the same question about image `images[i]`.

    The interval is that of `difference_ends`, for metrics in [0, 1]. p: how often a difference at least as large, in
    either direction, comes about where per image a coin decides which answers are whose (exact where there are no
    more than `resamples` ways); seeded. With fewer than two images nothing is known of the spread: [-1, 1], p = 1,
    no need.
    """
    sums = [*sums_per_image(a.numerators, a.denominators, images),
            *sums_per_image(b.numerators, b.denominators, images)]  # fmt: skip
    n_images, difference = len(sums[0]), b.value - a.value
    low, high = map(float, difference_ends((sums[0], sums[1]), (sums[2], sums[3]), confidence))
    if n_images < 2:
        return Difference(a.value, b.value, difference, low, high, 1.0, 0.0, 1.0, None)
    parts = _linearised(a, b)
    effect = design_effect(parts, images)
    spread = float(parts.std())
    need = needed_sample(difference, spread, effect, len(parts) / n_images, confidence)
    p = _sign_flip_p(sums, resamples, seed)
    return Difference(a.value, b.value, difference, low, high, p, spread, effect, need)


def design_effect(parts: Float[np.ndarray, "n"], images: Int[np.ndarray, "n"]) -> float:
    """How many times the variance of a mean grows because expressions come in images (Kish 1965); 1: not at all.

    The variance of the mean over images as they were drawn (ultimate clusters), over that of as many independent
    expressions. About 1 + (m - 1) rho for m expressions an image with the correlation rho. 1 where nothing varies.
    """
    centred = np.asarray(parts, dtype=np.float64) - np.mean(parts)
    sums, counts = sums_per_image(centred, np.ones(len(centred)), images)
    independent = float((centred**2).sum())
    if len(counts) < 2 or independent == 0:
        return 1.0
    return float((sums**2).sum() / independent * len(counts) / (len(counts) - 1))


def needed_sample(
    difference: float,
    spread: float,
    effect: float = 1.0,
    per_image: float = 1.0,
    confidence: float = 0.95,
    power: float = POWER,
) -> Need | None:
    """Expressions and images with which a difference in means of this size is seen with the probability `power`.

    n = effect * ((z_(1 - alpha/2) + z_power) * spread / difference)^2, a two-sided z-test of paired differences.
    `spread`: the standard deviation of the paired differences; of two runs that differ in a share d of 0/1 answers
    about sqrt(d). `effect`: `design_effect`. None for a difference of 0, which no sample shows. Never fewer
    expressions than one image holds, nor than the two images whose spread can be known.
    """
    if difference == 0:
        return None
    z = norm.ppf((1 + confidence) / 2) + norm.ppf(power)
    expressions = effect * (z * spread / difference) ** 2
    images = max(2, int(np.ceil(expressions / per_image)))
    return Need(int(np.ceil(max(expressions, per_image))), images)


def _sign_flip_p(sums: list[np.ndarray], resamples: int, seed: int) -> float:
    tops, bottoms = (np.concatenate([sums[i], sums[i + 2]]) for i in (0, 1))
    n = len(sums[0])

    def statistic(of_a: np.ndarray, of_b: np.ndarray, axis: int) -> Any:
        a, b = (rows.astype(int) for rows in (of_a, of_b))
        return _difference(tops[a], bottoms[a], tops[b], bottoms[b], axis)

    # scipy swaps the positions, so that an image's numerator and denominator stay together.
    result = permutation_test(
        (np.arange(n), np.arange(n, 2 * n)),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_CELLS // (2 * n)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _difference(
    top_a: np.ndarray, bottom_a: np.ndarray, top_b: np.ndarray, bottom_b: np.ndarray, axis: int = -1
) -> Any:
    return sum_ratio(top_b, bottom_b, axis) - sum_ratio(top_a, bottom_a, axis)


def _linearised(a: Sums, b: Sums) -> Float[np.ndarray, "n"]:
    """What each expression adds to b - a, centred at 0: of means the paired difference less its mean, of ratios its
    Taylor form (Särndal et al., "Model Assisted Survey Sampling", 1992, 5.6)."""
    of_a, of_b = ((run.numerators - run.value * run.denominators) / (run.denominators.mean() or 1.0) for run in (a, b))
    return of_b - of_a
