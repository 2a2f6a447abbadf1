"""discovery.until=stable: asks the discovery samples in rounds, and stops once the localization heads are final."""

import logging
from dataclasses import replace

import numpy as np

from locheads.data.image_groups import subset
from locheads.discovery.config import DiscoveryConfig, Until
from locheads.discovery.scores import with_dependence
from locheads.discovery.support import doublings, needed_share, support
from locheads.discovery.trials import order_of_trial
from locheads.pipeline.attend_stage import attend_discovery
from locheads.pipeline.discover_stage import stored_scores
from locheads.pipeline.inputs import Inputs, samples_file
from locheads.pipeline.loader import Loader
from locheads.pipeline.setup import Setup
from locheads.pipeline.word_pairs import measure_dependence

log = logging.getLogger(__name__)


def with_enough_samples(setup: Setup, loader: Loader) -> Setup:
    """The setup with as many samples per trial as it took for final heads, all where these do not suffice; they are
    attended, and samples.json names them. As it is with discovery.until=count, or where the heads are given.

    A sample that fails is asked again with the others, and is counted then.
    """
    how = setup.config.discovery
    if how.until == Until.count or setup.given_heads is not None:
        return setup
    sizes = doublings(max(map(len, setup.inputs.trials)))
    needed = needed_share(how.confidence, len(sizes))
    for size in sizes:
        part = replace(setup, inputs=first_samples(setup.inputs, size, how, setup.config.seed))
        attend_discovery(part, loader)
        if (share := _share(part)) >= needed:
            log.info("Discovery stops at %d samples per trial: the heads come again in %.1f %% of resamples.",
                     size, 100 * share)  # fmt: skip
            break
    else:
        log.warning(
            "The heads are not final with all %d samples per trial: they come again in %.1f %% of resamples, not in "
            "%.1f %%. Raise discovery.n_samples to ask more.",
            sizes[-1], 100 * share, 100 * needed,
        )  # fmt: skip
    samples_file(part.inputs, setup.config).write(setup.folder)
    return part


def first_samples(inputs: Inputs, n: int, how: DiscoveryConfig, seed: int) -> Inputs:
    """With the first n samples of each trial, in the order in which discovery.sizes takes them, too."""
    image = {sample.sample_id: i for i, group in enumerate(inputs.discovery) for sample in group.samples}
    kept = []
    for number, trial in enumerate(inputs.trials):
        order = order_of_trial(np.array([image[i] for i in trial]), seed, number, how.draw)
        kept.append(tuple(trial[i] for i in np.sort(order[:n])))
    return replace(inputs, trials=tuple(kept), discovery=subset(inputs.discovery, set().union(*kept)))


def _share(setup: Setup) -> float:
    """How far the heads of these samples are final; 0 where all of a trial's samples failed."""
    config, inputs = setup.config, setup.inputs
    scores = stored_scores(setup)
    if config.criterion.needs_dependence:
        scores = with_dependence(scores, measure_dependence(setup))
    trials = inputs.positions(scores)
    if not all(len(trial) for trial in trials):
        return 0.0
    return support(scores, trials, config.criterion, inputs.images_of(scores), config.heads.k, config.seed).share
