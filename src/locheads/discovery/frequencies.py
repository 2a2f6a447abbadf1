"""Discovery: which heads do many samples agree on (paper, selection frequency)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from locheads.discovery.config import CriterionConfig
from locheads.discovery.rank import best_heads, eligible_heads, rank_values, tau_of
from locheads.errors import DiscoveryError
from locheads.types import Discovery, HeadIndex, HeadScores


def discover(scores: HeadScores, trials: Sequence[np.ndarray], criterion: CriterionConfig) -> Discovery:
    """Selection frequencies over trials.

    Args:
        scores: of all samples that any trial draws.
        trials: per trial the positions of its samples in `scores`.
        criterion: how one sample chooses its candidates.

    Raises:
        DiscoveryError: a trial without samples, or no head that the criterion admits.
    """
    if not trials or any(len(trial) == 0 for trial in trials):
        raise DiscoveryError("Discovery has no samples: every sample of the discovery split failed or was excluded.")
    means = [scores["sums"][trial].mean(axis=0, dtype=np.float64) for trial in trials]
    frequencies = np.stack(
        [_frequency(scores.rows(trial), mean, criterion) for trial, mean in zip(trials, means, strict=True)]
    )
    mean_sums = np.mean(means, axis=0)
    eligible = eligible_heads(mean_sums, criterion)
    if not eligible.any():
        raise DiscoveryError(
            f"No head is eligible: criterion.tau={criterion.tau} is above every mean attention sum "
            f"(the highest is {mean_sums.max():.3f}). Lower it, or set it to null for the elbow."
        )
    return Discovery(
        frequency_mean=frequencies.mean(axis=0),
        frequency_std=frequencies.std(axis=0),
        frequency_per_trial=frequencies,
        mean_sums=mean_sums,
        tau=tau_of(mean_sums, criterion),
        tau_per_trial=tuple(tau_of(mean, criterion) for mean in means),
        eligible=eligible,
    )


def top_heads(discovery: Discovery, k: int) -> list[HeadIndex]:
    """The k localization heads. Raises DiscoveryError where fewer heads were ever chosen."""
    ranking = discovery.ranking()
    if k > len(ranking):
        raise DiscoveryError(
            f"heads.k={k} is more than the {len(ranking)} heads that any sample chose "
            f"({int(discovery.eligible.sum())} are eligible): lower heads.k, or raise criterion.candidates."
        )
    return ranking[:k]


def greedy_heads(
    scores: HeadScores, discovery: Discovery, k: int, criterion: CriterionConfig
) -> dict[str, list[HeadIndex]]:
    """Each sample's own k best heads, best first (paper, Table 5). A sample with fewer gives the ones it has."""
    values = rank_values(scores, discovery.eligible, criterion)
    heads_per_layer = values.shape[2]
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1, kind="stable")[:, :k]
    return {
        sample_id: [HeadIndex(*divmod(int(i), heads_per_layer)) for i in best if np.isfinite(row[i])]
        for sample_id, row, best in zip(scores.sample_ids, flat, order, strict=True)
    }


def _frequency(scores: HeadScores, mean_sums: np.ndarray, criterion: CriterionConfig) -> np.ndarray:
    eligible = eligible_heads(mean_sums, criterion)
    return best_heads(rank_values(scores, eligible, criterion), criterion.candidates).mean(axis=0)


def stability(
    scores: HeadScores,
    trials: Sequence[np.ndarray],
    criterion: CriterionConfig,
    sizes: Sequence[int],
    k: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Do fewer samples lead to the same heads? From the scores of one discovery: the LVLM does not run again.

    Of each trial the first n samples in an order that is drawn once, so a larger size holds the smaller ones, while
    the trials stay independent of each other.

    Returns:
        Per size that the trials reach, ascending: {"n", "tops": each trial's k heads}.
    """
    orders = [np.random.default_rng([seed, 2, i]).permutation(trial) for i, trial in enumerate(trials)]
    reach = min((len(order) for order in orders), default=0)
    result = []
    for size in sorted({size for size in sizes if size <= reach}):
        rankings = discover(scores, [np.sort(order[:size]) for order in orders], criterion).ranking_per_trial()
        result.append({"n": size, "tops": [[str(head) for head in ranking[:k]] for ranking in rankings]})
    return result
