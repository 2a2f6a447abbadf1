"""How well a score tells absent from targeted expressions, and how much an answer gains by being withheld.

AUROC and the area under the risk-coverage curve are no means over expressions, yet each is written here as a ratio of
sums over them: every expression's part holds its influence on the figure, so that the intervals over images, and the
comparison of two runs, are those of all other figures (`evaluation/intervals.py`).
"""

import numpy as np
from jaxtyping import Bool, Float

Values = Float[np.ndarray, "n"]


def auroc(scores: Values, absent: Bool[np.ndarray, "n"]) -> float:
    """How often an absent expression has the higher score of a pair, ties counting half (Mann-Whitney)."""
    above, below = auroc_parts(scores, absent)
    return float(above.sum() / below.sum())


def auroc_parts(scores: Values, absent: Bool[np.ndarray, "n"]) -> tuple[Values, Values]:
    """(numerators, denominators), whose sums' ratio is the AUROC. Both kinds of expressions must be there.

    With the share p of the other kind that an expression is placed rightly against, m expressions of its kind and n in
    all, the parts are n (p - AUROC / 2) / m over n / (2 m): their residuals are the influences whose squares by image
    make the variance of DeLong et al. 1988 for clusters (Obuchowski 1997).
    """
    n, ranks = len(scores), _ranks(scores)
    sizes = np.where(absent, absent.sum(), n - absent.sum())
    within = np.where(absent, _ranks_within(scores, absent), _ranks_within(scores, ~absent))
    lower = (ranks - within) / (n - sizes)  # the share of the other kind below it, ties counting half
    placed = np.where(absent, lower, 1 - lower)
    area = placed[absent].mean()
    return n * (placed - area / 2) / sizes, n / (2 * sizes)


def risk_coverage(scores: Values, wrong: Values) -> tuple[Values, Values]:
    """(coverage, risk) of answering the k expressions of the lowest scores, k = 1 ... n: k / n, and the share of wrong
    answers among them; the mean over the orders of those that tie."""
    n = np.arange(1, len(scores) + 1)
    order, block = _by_score(scores)
    expected = (np.bincount(block, wrong[order]) / np.bincount(block))[block]
    return n / len(scores), np.cumsum(expected) / n


def aurc_parts(scores: Values, wrong: Values) -> Values:
    """Values whose mean is the area under the risk-coverage curve, the mean risk over all coverages (AURC, Geifman et
    al., ICLR 2019); each is that mean and the expression's influence on it.

    With the risk R(k) of the first k, the expression of rank r that is wrong (w = 1) or right (0) has R(r) + the sum
    over k >= r of (w - R(k)) / k.
    """
    order, block = _by_score(scores)
    _, risk = risk_coverage(scores, wrong)
    k = np.arange(1, len(scores) + 1)
    ones, risks = (np.cumsum((part / k)[::-1])[::-1] for part in (np.ones(len(k)), risk))
    mean_of = [(np.bincount(block, part) / np.bincount(block))[block] for part in (risk - risks, ones)]
    parts = np.empty(len(scores))
    parts[order] = mean_of[0] + wrong[order] * mean_of[1]
    return parts


def _ranks(scores: Values) -> Values:
    """From 1 on, those that tie sharing theirs, as scipy.stats.rankdata: loading that costs every run a third of a
    second."""
    ascending = np.sort(scores)
    below, up_to = (np.searchsorted(ascending, scores, side) for side in ("left", "right"))
    return (below + 1 + up_to) / 2


def _ranks_within(scores: Values, kind: Bool[np.ndarray, "n"]) -> Values:
    """Of each expression of the kind among its own; 0 for the others."""
    ranks = np.zeros(len(scores))
    ranks[kind] = _ranks(scores[kind])
    return ranks


def _by_score(scores: Values) -> tuple[np.ndarray, np.ndarray]:
    """(order, the lowest first; of each in that order the number of its score, the same for those that tie)."""
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    return order, np.concatenate([[0], np.cumsum(ascending[1:] > ascending[:-1])])
