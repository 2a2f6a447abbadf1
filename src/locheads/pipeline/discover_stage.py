"""stage=discover: from the stored attention of the discovery samples to the localization heads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from locheads.data.image_groups import with_heat
from locheads.dependence.head_dependence import HeadDependence
from locheads.discovery.frequencies import discover, stability, top_heads
from locheads.discovery.scores import mean_entropy, score_all, with_dependence
from locheads.discovery.support import support
from locheads.errors import DiscoveryError
from locheads.evaluation.best_heads import head_iou
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.pipeline.word_pairs import measure_dependence
from locheads.records.follows import DependenceGrids, FollowsRecord
from locheads.records.heads_file import FoundOn, HeadsFile, StabilityFile, SupportRecord
from locheads.store.digest import json_digest
from locheads.store.key import code_digest
from locheads.terminal import track
from locheads.types import Discovery, HeadScores


@dataclass(frozen=True)
class DiscoverResult:
    """What the discovery samples tell of every head."""

    discovery: Discovery
    support: SupportRecord
    """How often its heads come again where the images are drawn anew."""
    stability: list[dict[str, Any]]
    """Per size of discovery.sizes each trial's heads."""
    head_iou: Float[np.ndarray, "layer head"] | None
    """Of each head's pseudo-masks with the truth: for analysis, never used in finding heads. None without masks."""
    head_entropy: Float[np.ndarray, "layer head"]
    """Mean spatial entropy in nats over the samples with any component; NaN without any."""
    dependence: HeadDependence | None
    """On the words; None where it was not measured."""


def discover_heads(setup: Setup, failures: Failures) -> DiscoverResult:
    """Scores, frequencies and agreement of the discovery samples. Raises DiscoveryError where every one failed."""
    groups, failed = setup.inputs.discovery, failed_in(setup.inputs.discovery, failures)
    if len(failed) == sum(len(group.samples) for group in groups):
        reason = failures[failed[0]]
        raise DiscoveryError(f"Every one of the {len(failed)} discovery samples failed, the first because: {reason}")
    config, how = setup.config, setup.config.discovery
    dependence = measure_dependence(setup)
    scores = with_dependence(stored_scores(setup), dependence)
    trials, images = setup.inputs.positions(scores), setup.inputs.images_of(scores)
    return DiscoverResult(
        discovery=discover(scores, trials, config.criterion, images),
        stability=stability(scores, trials, config.criterion, how.sizes, config.heads.k, config.seed, images, how.draw),
        support=support(scores, trials, config.criterion, images, config.heads.k, config.seed, how.confidence),
        head_entropy=mean_entropy(scores),
        head_iou=_head_iou(setup),
        dependence=dependence,
    )


def stored_scores(setup: Setup) -> HeadScores:
    """Of the discovery samples that have attention."""
    groups, criterion = setup.inputs.discovery, setup.config.criterion
    stored = setup.store.read_numbers(track(groups, "discover", "images"), criterion.numbers_key())
    return score_all(stored, criterion)


def _head_iou(setup: Setup) -> Float[np.ndarray, "layer head"] | None:
    store, groups = setup.store, setup.inputs.discovery
    if with_heat(groups):
        return None
    truth = [sample.mask for group in groups for sample in group.samples]
    depends_on = json_digest(truth), code_digest(head_iou.__module__)

    def work_out() -> dict[str, np.ndarray]:
        return {"iou": head_iou(store.read(track(groups, "head IoU", "images")), groups)}

    return store.kept("head_iou", groups, depends_on, work_out)["iou"]


def write_heads(setup: Setup, found: DiscoverResult, follows: FollowsRecord | None, failures: Failures) -> None:
    """-> heads.json, and stability.json where discovery.sizes asks for it."""
    n_failed = len(failed_in(setup.inputs.discovery, failures))
    config, inputs = setup.config, setup.inputs
    HeadsFile.of(
        found.discovery,
        top_heads(found.discovery, config.heads.k),
        inputs.trials,
        config.model,
        config.prompt,
        config.criterion,
        draw=config.discovery.draw.value,
        selection=config.selection.kind.value,
        n_failed=n_failed,
        n_excluded_images=inputs.n_excluded_images,
        head_iou=found.head_iou,
        dataset=FoundOn(name=config.dataset.name, split=config.dataset.discovery_split),
        seed=config.seed,
        made_from={"weights": setup.identity.weights, "annotations": inputs.annotations},
        digest=setup.digest,
        dependence=None if found.dependence is None else DependenceGrids.of(found.dependence),
        follows=follows,
        support=found.support,
    ).write(setup.folder)
    if found.stability:
        StabilityFile.parse({"k": config.heads.k, "sizes": found.stability}).write(setup.folder)
