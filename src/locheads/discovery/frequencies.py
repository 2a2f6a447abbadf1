"""Discovery: which heads do many samples agree on (paper, selection frequency)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from locheads.discovery.config import CriterionConfig, Draw
from locheads.discovery.criteria import find_criterion
from locheads.discovery.rank import best_heads, eligible_heads, rank_values, tau_of
from locheads.discovery.trials import order_of_trial
from locheads.errors import DiscoveryError
from locheads.evaluation.intervals import wilson_ends
from locheads.types import Discovery, HeadIndex, HeadScores


def discover(
    scores: HeadScores,
    trials: Sequence[np.ndarray],
    criterion: CriterionConfig,
    images: Int[np.ndarray, "sample"] | None = None,
) -> Discovery:
    """Selection frequencies over trials.

    Args:
        scores: of all samples that any trial draws.
        trials: per trial the positions of its samples in `scores`.
        criterion: how one sample chooses its candidates.
        images: the number of each scored sample's image, for the frequencies' intervals. None: without intervals.

    Raises:
        DiscoveryError: a trial without samples, or no head that the criterion admits, or one that reads the
            heads' dependence on the words where that is not known.
    """
    if not trials or any(len(trial) == 0 for trial in trials):
        raise DiscoveryError("Discovery has no samples: every sample of the discovery split failed or was excluded.")
    if criterion.needs_dependence and np.isnan(scores.of_heads.get("dependence", np.nan)).all():
        raise DiscoveryError(
            f"criterion.score={criterion.score} with criterion.min_dependence={criterion.min_dependence} needs to know "
            "how heads depend on the words, and no image has expressions for several objects from which that was "
            "measured: use another criterion or another data set."
        )
    means = [scores["sums"][trial].mean(axis=0, dtype=np.float64) for trial in trials]
    values = [_values(scores.rows(trial), mean, criterion) for trial, mean in zip(trials, means, strict=True)]
    votes = [best_heads(of_trial, criterion.candidates) for of_trial in values]
    frequencies = np.stack([chosen.mean(axis=0) for chosen in votes])
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
        frequency_ends=None if images is None else _ends(votes, trials, images),
        n_images=None if images is None else len(np.unique(images[np.concatenate(trials)])),
        score_per_trial=np.stack([*map(_pooled, values)]) if find_criterion(criterion.score).pooled else None,
    )


def added_by_samples(
    scores: HeadScores, trials: Sequence[np.ndarray], criterion: CriterionConfig
) -> list[Float[np.ndarray, "sample layer head"]]:
    """Per trial what each of its samples adds to the sums by which `discover` ranks the heads: a vote for each of its
    candidates, or, where the criterion ranks by a mean, the head's value."""
    values = [_values(scores.rows(t), scores["sums"][t].mean(axis=0, dtype=np.float64), criterion) for t in trials]
    if find_criterion(criterion.score).pooled:
        return [_added(of_trial) for of_trial in values]
    return [best_heads(of_trial, criterion.candidates).astype(np.float64) for of_trial in values]


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


def _values(
    scores: HeadScores, mean_sums: Float[np.ndarray, "layer head"], criterion: CriterionConfig
) -> Float[np.ndarray, "sample layer head"]:
    return rank_values(scores, eligible_heads(mean_sums, criterion), criterion)


def _pooled(values: Float[np.ndarray, "sample layer head"]) -> Float[np.ndarray, "layer head"]:
    """Each head's mean, the highest being the best; a sample that must not choose the head adds nothing."""
    return _added(values).mean(axis=0)


def _added(values: Float[np.ndarray, "sample layer head"]) -> Float[np.ndarray, "sample layer head"]:
    return -np.where(np.isfinite(values), values, 0.0)


def _ends(
    votes: Sequence[np.ndarray],
    trials: Sequence[np.ndarray],
    images: Int[np.ndarray, "sample"],
) -> Float[np.ndarray, "2 layer head"]:
    """Wilson's interval over images (see `evaluation.intervals`) of the mean frequency over the trials.

    An image counts with all votes of all its samples in all trials, so neither expressions of one image nor a sample
    that several trials drew pass for independent. A trial that lost samples weighs as much as the others.
    """
    chosen, image = np.concatenate(votes), images[np.concatenate(trials)]
    weights = np.concatenate([np.full(len(trial), len(trials[0]) / len(trial)) for trial in trials])
    drawn = np.bincount(image, weights)

    def of_layer(layer: int) -> Float[np.ndarray, "2 head"]:
        tops = np.stack([np.bincount(image, weights * head) for head in chosen[:, layer].T])
        return wilson_ends(tops, np.broadcast_to(drawn, tops.shape))

    return np.stack([of_layer(layer) for layer in range(chosen.shape[1])], axis=1)


def stability(
    scores: HeadScores,
    trials: Sequence[np.ndarray],
    criterion: CriterionConfig,
    sizes: Sequence[int],
    k: int,
    seed: int,
    images: Int[np.ndarray, "sample"],
    draw: Draw,
) -> list[dict[str, Any]]:
    """Do fewer samples lead to the same heads? From the scores of one discovery: the LVLM does not run again.

    Of each trial the first n samples in an order that is drawn once, so a larger size holds the smaller ones, while
    the trials stay independent of each other. By image it goes image by image: n samples are then of as few images as
    a discovery of n samples has.

    Returns:
        Per size that the trials reach, ascending: {"n", "tops": each trial's k heads}.
    """
    orders = [trial[order_of_trial(images[trial], seed, i, draw)] for i, trial in enumerate(trials)]
    reach = min((len(order) for order in orders), default=0)
    result = []
    for size in sorted({size for size in sizes if size <= reach}):
        rankings = discover(scores, [np.sort(order[:size]) for order in orders], criterion).ranking_per_trial()
        result.append({"n": size, "tops": [[str(head) for head in ranking[:k]] for ranking in rankings]})
    return result
