"""Statistics over images, because the expressions of one image are not independent: confidence intervals, and whether
one of two runs on the same samples is better, and how many images it would take to see that.

Intervals are in closed form, so they need no seed, and for many ways of answering at once (the audit). A bootstrap's
percentiles, which they replace, give [0, 0] where nothing was hit and are too narrow on few images; `locheads.bench
coverage` measures both.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real, Shaped
from numpy.typing import ArrayLike
from pydantic import ConfigDict, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass
from scipy.special import ndtri, stdtr, stdtrit

FEW_IMAGES = 30
"""On fewer the intervals are rough: their coverage was simulated from here on. Figures of fewer are marked."""

HALF = 0.5
"""Images that count in a variance beside those that were seen, at either extreme: a few images that agree say
little of what the next one does. With 0 an interval at a rate of 2 or 98 % covered 87 times in 100, not 95."""
ROUNDING = 1e-9  # by which a sum of shares may miss its end
BATCH_CELLS = 1_000_000
"""Numbers that the sign flips hold at once, per array: some 8 MB."""

POWER = 0.8
"""How often a difference of the needed sample's size is seen."""
POINT = 0.01
"""One percentage point: what `Difference.need_of_a_point` is about."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval; NaN where nothing is known of them."""

    value: float
    low: float
    high: float


_Number = Any
"""[*way], which numpy gives as a number of its own where there are no ways."""


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
    bounded: bool = True,
) -> Interval:
    """sum(numerators) / sum(denominators) over n expressions, and what it may be over other images of the kind.

    `groups` names each expression's image (numbers or text). A mean is the ratio with denominators of 1
    (Acc@0.5: hits / 1, mIoU: IoU / 1; a baseline of random draws passes its mean hits per expression); cIoU
    is intersections / unions. 0 where the denominators sum to 0. `bounded`: whether it must lie in [0, 1]
    (`wilson_ends`; else `t_ends`). With fewer than two images nothing is known of the spread: [0, 1], or NaN.

    Raises:
        ValueError: `bounded`, and the ratio lies outside [0, 1].
    """
    tops, bottoms = sums_per_image(numerators, denominators, groups)
    ends = (wilson_ends if bounded else t_ends)(tops, bottoms, confidence)
    return Interval(float(sum_ratio(tops, bottoms)), float(ends[0]), float(ends[1]))


def sums_per_image(
    numerators: ArrayLike, denominators: ArrayLike, groups: ArrayLike
) -> tuple[Real[np.ndarray, "image"], Real[np.ndarray, "image"]]:
    """All that the statistics need of an image."""
    _, image = np.unique(np.asarray(groups), return_inverse=True)
    top, bottom = (
        np.bincount(image, weights=np.asarray(values, dtype=np.float64)) for values in (numerators, denominators)
    )
    return top, bottom


def sum_ratio(
    numerators: Shaped[np.ndarray, "*batch image"],
    denominators: Shaped[np.ndarray, "*batch image"],
    axis: int = -1,
) -> Any:
    """sum(numerators) / sum(denominators); 0 where the denominators sum to 0."""
    # Contiguous: numpy rounds a sum over strided memory differently, and a value is to be the same to the bit.
    tops, bottoms = (np.sum(np.ascontiguousarray(part), axis=axis) for part in (numerators, denominators))
    return _over(tops, bottoms)


def wilson_ends(
    tops: Real[np.ndarray, "*way image"], bottoms: Real[np.ndarray, "*way image"], confidence: float = 0.95
) -> Float[np.ndarray, "2 *way"]:
    """(low, high) of ratios in [0, 1]: Wilson's interval for as many independent expressions as the images are worth.

    That number is P (1 - P) / variance of P, the variance by the jackknife over images. In it, and in P, HALF a
    image counts as all right and HALF as all wrong, so that no agreement of few images looks certain. Student's t,
    with the images weighed by their size (Kish's effective number), stands for the normal quantile.

    Sources: Wilson 1927 with the effective sample size of Korn & Graubard 1998 (Franco et al. 2019 compare the kinds);
    Kish 1965.

    Raises:
        ValueError: a ratio lies outside [0, 1].
    """
    images, share, worth = _effective(bottoms), _share(tops, bottoms), _worth(tops, bottoms)
    with np.errstate(divide="ignore", invalid="ignore"):
        t2 = _t(images, confidence) ** 2 / worth
        middle = (share + t2 / 2) / (1 + t2)
        half = np.sqrt(t2 * share * (1 - share) + t2**2 / 4) / (1 + t2)
    low, high = np.minimum(middle - half, share), np.maximum(middle + half, share)
    return _where_known(bottoms, np.where(share <= 0, 0.0, low), np.where(share >= 1, 1.0, high), (0.0, 1.0))


def wilson_p(
    tops: Real[np.ndarray, "*way image"], bottoms: Real[np.ndarray, "*way image"], value: Real[np.ndarray, "*#way"]
) -> Float[np.ndarray, "*way"]:
    """How compatible ratios in [0, 1] are with `value`: `wilson_ends` at the confidence 1 - p end at it.

    1 where the ratio is the value, or where there are fewer than two images. Raises ValueError as `wilson_ends` does.
    """
    share, value = _share(tops, bottoms), np.asarray(value, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(share - value) * np.sqrt(_worth(tops, bottoms) / (value * (1 - value)))
    p = 2 * stdtr(np.maximum(_effective(bottoms) - 1, 1), -t)
    few = (bottoms > 0).sum(axis=-1) < 2
    return np.where(few | (share == value), 1.0, np.nan_to_num(p))


def _share(tops: np.ndarray, bottoms: np.ndarray) -> _Number:
    """`sum_ratio`, which must lie in [0, 1]: else Wilson's interval would be wrong without a word.

    What a single image adds may lie outside (the parts of an AUROC do).
    """
    share = sum_ratio(tops, bottoms)
    if np.any((share < -ROUNDING) | (share > 1 + ROUNDING)):
        raise ValueError(
            "Wilson's interval is of ratios in [0, 1]: give bounded=False, or difference_ends a difference."
        )
    return share


def _worth(tops: np.ndarray, bottoms: np.ndarray) -> _Number:
    """As many independent expressions the images are worth; see `wilson_ends`."""
    total, images = bottoms.sum(axis=-1), _effective(bottoms)
    size = HALF * _over(total, images)  # of an effective image, halved
    all_ = total + 2 * size
    centre = _over(tops.sum(axis=-1) + size, all_)
    variance = _squares(tops, bottoms, centre) * _over(total, all_) ** 2
    variance += _over(size, all_) ** 2 / HALF * (centre**2 + (1 - centre) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return centre * (1 - centre) / variance * _over(total, all_)


def t_ends(
    tops: Real[np.ndarray, "*way image"], bottoms: Real[np.ndarray, "*way image"], confidence: float = 0.95
) -> Float[np.ndarray, "2 *way"]:
    """(low, high) of ratios without bounds: Student's t with the jackknife's variance over images, to which the most
    unusual image counts HALF once more (values that are far from normal are seen too rarely on few images)."""
    ratio, images = sum_ratio(tops, bottoms), _effective(bottoms)
    extreme = (influences(tops, bottoms, ratio) ** 2).max(axis=-1, initial=0)
    half = _t(images, confidence) * np.sqrt(_squares(tops, bottoms, ratio) + HALF * extreme)
    return _where_known(bottoms, ratio - half, ratio + half, (np.nan, np.nan))


def difference_ends(
    a: tuple[Real[np.ndarray, "*#way image"], Real[np.ndarray, "*#way image"]],
    b: tuple[Real[np.ndarray, "*#way image"], Real[np.ndarray, "*#way image"]],
    confidence: float = 0.95,
) -> Float[np.ndarray, "2 *way"]:
    """(low, high) of b - a of ratios in [0, 1] on the same images, each given as (tops, bottoms).

    Student's t with the jackknife's variance of the difference. HALF an image counts beside them that changed for the
    better, HALF one for the worse (whole ones where none changed), each by as much as the most changed image or by
    1 / the number of changed images, whichever is more: where little has changed, it is not known what a change may
    be. After Agresti & Min 2005, who add a half to each kind of discordant pair of 0/1 answers.
    """
    difference = sum_ratio(*b) - sum_ratio(*a)
    parts = influences(*b, sum_ratio(*b)) - influences(*a, sum_ratio(*a))
    known = (a[1] > 0) & (b[1] > 0)
    n, images = known.sum(axis=-1), np.minimum(_effective(a[1]), _effective(b[1]))
    change = np.abs(_over(*b) - _over(*a))
    changed = ((a[0] != b[0]) | (a[1] != b[1])).sum(axis=-1)
    largest = np.clip(np.maximum(change.max(axis=-1, initial=0), 1 / np.maximum(changed, 1)), 0, 1)
    beside = np.where(changed == 0, 1.0, HALF)
    variance = _over(n - 1, n) * (parts**2).sum(axis=-1) + 2 * beside * _over(largest, images) ** 2
    half = _t(images, confidence) * np.sqrt(variance)
    return _where_known(known, np.maximum(difference - half, -1), np.minimum(difference + half, 1), (-1.0, 1.0))


def _squares(tops: np.ndarray, bottoms: np.ndarray, ratio: _Number) -> _Number:
    """The jackknife's variance over images of sum(tops) / sum(bottoms), about `ratio`."""
    n = (bottoms > 0).sum(axis=-1)
    return _over(n - 1, n) * (influences(tops, bottoms, ratio) ** 2).sum(axis=-1)


def influences(tops: np.ndarray, bottoms: np.ndarray, ratio: _Number) -> Float[np.ndarray, "*way image"]:
    """How far the ratio moves when an image is left out (its sign turned)."""
    rest = bottoms.sum(axis=-1, keepdims=True) - bottoms
    return np.where(bottoms > 0, _over(tops - ratio[..., None] * bottoms, rest), 0.0)


def _effective(bottoms: np.ndarray) -> _Number:
    """Images of equal size that are worth as much (Kish): (sum b)^2 / sum b^2."""
    return _over(bottoms.sum(axis=-1) ** 2, (bottoms**2).sum(axis=-1))


def _t(images: _Number, confidence: float) -> _Number:
    return stdtrit(np.maximum(images - 1, 1), (1 + confidence) / 2)


def _where_known(bottoms: np.ndarray, low: _Number, high: _Number, unknown: tuple[float, float]) -> np.ndarray:
    """`unknown` for fewer than two images."""
    few = (bottoms > 0).sum(axis=-1) < 2
    return np.stack([np.where(few, unknown[0], low), np.where(few, unknown[1], high)])


def _over(above: _Number, below: _Number) -> _Number:
    """0 where there is nothing to divide by."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


Sums = tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]
"""One metric of one run: numerators and denominators per expression (1 for a mean), whose sums' ratio it is."""
_OF_A_FILE = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_OF_A_FILE)
class NeededSample:
    """A sample in which a difference is seen."""

    expressions: StrictInt
    images: StrictInt


@dataclass(frozen=True, config=_OF_A_FILE)
class Difference:
    """b - a of one metric, unscaled; as compare.json holds it."""

    a: StrictFloat
    b: StrictFloat
    difference: StrictFloat
    low: StrictFloat
    high: StrictFloat
    p: StrictFloat
    spread: StrictFloat
    """Standard deviation of what one expression adds to the difference (of its linearised form, for a ratio)."""
    design_effect: StrictFloat
    need: NeededSample | None
    """For a difference as large as this one; None for one of 0."""
    need_of_a_point: NeededSample | None
    """For one of POINT."""


def compare(
    a: Sums, b: Sums, images: Int[np.ndarray, "n"], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Expression i of `a` and `b` are answers to the same question about image `images[i]`.

    The interval is that of `difference_ends`, for metrics in [0, 1]. p: how often a difference at least as large, in
    either direction, comes about where per image a coin decides which answers are whose (exact where there are no
    more than `resamples` ways); seeded. With fewer than two images nothing is known of the spread: [-1, 1], p = 1,
    no need.
    """
    of_a, of_b = sums_per_image(*a, images), sums_per_image(*b, images)
    n_images, value_a, value_b = len(of_a[0]), float(sum_ratio(*a)), float(sum_ratio(*b))
    difference = value_b - value_a
    low, high = map(float, difference_ends(of_a, of_b, confidence))
    if n_images < 2:
        return Difference(value_a, value_b, difference, low, high, 1.0, 0.0, 1.0, None, None)
    parts = _linearised(b) - _linearised(a)
    effect, spread = design_effect(parts, images), float(parts.std())
    p = _sign_flip_p(of_a, of_b, resamples, seed)
    need, of_a_point = (
        needed_sample(size, spread, effect, len(parts) / n_images, confidence) for size in (difference, POINT)
    )
    return Difference(value_a, value_b, difference, low, high, p, spread, effect, need, of_a_point)


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
) -> NeededSample | None:
    """Expressions and images with which a difference in means of this size is seen with the probability `power`.

    n = effect * ((z_(1 - alpha/2) + z_power) * spread / difference)^2, a two-sided z-test of paired differences.
    `spread`: the standard deviation of the paired differences; of two runs that differ in a share d of 0/1 answers
    about sqrt(d). `effect`: `design_effect`. None for a difference of 0, which no sample shows. Never fewer
    expressions than one image holds, nor than the two images whose spread can be known.
    """
    if difference == 0:
        return None
    z = float(ndtri((1 + confidence) / 2) + ndtri(power))
    expressions = effect * (z * spread / difference) ** 2
    images = max(2, int(np.ceil(expressions / per_image)))
    return NeededSample(int(np.ceil(max(expressions, per_image))), images)


def _sign_flip_p(
    of_a: tuple[np.ndarray, np.ndarray], of_b: tuple[np.ndarray, np.ndarray], resamples: int, seed: int
) -> float:
    from scipy.stats import permutation_test  # only here: few compare runs, and it takes long to load

    tops, bottoms = map(np.concatenate, zip(of_a, of_b, strict=True))
    n = len(of_a[0])

    def statistic(rows_a: np.ndarray, rows_b: np.ndarray, axis: int) -> _Number:
        a, b = (rows.astype(int) for rows in (rows_a, rows_b))
        return sum_ratio(tops[b], bottoms[b], axis) - sum_ratio(tops[a], bottoms[a], axis)

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


def _linearised(run: Sums) -> Float[np.ndarray, "n"]:
    """What each expression adds to the ratio, centred at 0: of a mean its own value less the mean, of a ratio its
    Taylor form (Särndal et al., "Model Assisted Survey Sampling", 1992, 5.6)."""
    numerators, denominators = run
    return (numerators - float(sum_ratio(*run)) * denominators) / (denominators.mean() or 1.0)
