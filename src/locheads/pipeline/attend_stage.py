"""stage=attend: what the store must hold before anything downstream can run without the LVLM."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from locheads.data.image_groups import merged
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads
from locheads.discovery.scores import with_dependence
from locheads.evaluation.methods import HeadPlan
from locheads.models.engine import ALL_MAPS, top_heads_kept
from locheads.pipeline.discover_stage import DiscoverResult, discover_heads
from locheads.pipeline.error_messages import log_file
from locheads.pipeline.given_heads import maps_heads
from locheads.pipeline.head_plan import plan_heads, with_own_heads
from locheads.pipeline.loader import Loader
from locheads.pipeline.processes import this_process
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.pipeline.word_pairs import overlaps_key
from locheads.store.attention_store import count
from locheads.store.needed_maps import EVERYTHING, NeededMaps
from locheads.terminal import console
from locheads.types import HeadIndex, HeadScores, ImageGroup
from locheads.workers.shard_table import show_status
from locheads.workers.split_work import Pass, TokenCost, fill_shards, token_cost

if TYPE_CHECKING:
    from locheads.pipeline.attention_pass import Picks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttendResult:
    """What the attention pass left behind, beside the store."""

    failures: Failures
    discovered: DiscoverResult | None = None
    """Where the heads had to be found before the evaluated samples were attended."""
    plan: HeadPlan | None = None
    """Where the store keeps the maps of this plan only."""


def attend_all_maps(setup: Setup, loader: Loader) -> AttendResult:
    """engine.maps=all: one pass over every sample, and the maps of every head are kept."""
    return AttendResult(_fill(setup, loader, merged(setup.inputs.all_groups), EVERYTHING))


def attend_few_maps(setup: Setup, loader: Loader) -> AttendResult:
    """engine.maps="top N" or PATH: numbers of discovery's samples and of the images on which the heads are judged, and
    maps of some heads of the judged and of the evaluated ones."""
    failures = Failures() if setup.given_heads else _fill_passes(setup, loader, _before_heads(setup))
    known = maps_heads(setup.config, setup.identity)
    if known is not None:
        return AttendResult(failures | _fill(setup, loader, grounded_groups(setup), NeededMaps(known)))
    discovered = None if setup.given_heads else discover_heads(setup, failures)
    plan = plan_heads(setup, discovered, this_process(setup.store))
    top = top_heads_kept(setup.config.engine.maps)
    failures |= attend_for(setup, loader, grounded_groups(setup), discovered, plan, failures, top)
    return AttendResult(failures, discovered, plan)


def attend_judged(setup: Setup, loader: Loader, heads: Sequence[HeadIndex]) -> Failures:
    """stage=judge: no more than the maps of these heads, on the judged images."""
    return _fill(setup, loader, setup.inputs.judged, NeededMaps(frozenset(heads)))


def attend_discovery(setup: Setup, loader: Loader) -> Failures:
    """What the dependence of every head follows from, and what discovery needs where it finds them: for stage=steer,
    and for a look of discovery.until=stable."""
    if setup.config.engine.maps != ALL_MAPS:
        return _fill_passes(setup, loader, _before_heads(setup))
    return _fill(setup, loader, merged([*setup.inputs.judged, *setup.inputs.discovery]), EVERYTHING)


def grounded_groups(setup: Setup) -> list[ImageGroup]:
    """The images of which the maps of the chosen heads are needed: those that are judged, those that are evaluated, and
    those on which the threshold of absence is worked out, with their probes."""
    inputs = setup.inputs
    return merged([*inputs.judged, *inputs.evaluated, *inputs.calibration, *inputs.probed])


def _before_heads(setup: Setup) -> list[Pass]:
    """Where few maps are kept, what is asked before the heads are known; once of an image that is judged and of which
    discovery drew a sample, too."""
    inputs, drawn = setup.inputs, {group.image_id for group in setup.inputs.discovery}
    judged = [group for group in inputs.judged if group.image_id not in drawn]
    shared = [group for group in inputs.judged if group.image_id in drawn]
    key = {group.image_id: overlaps_key(group, setup.config) for group in inputs.judged}
    overlaps = {sample.sample_id: key[group.image_id] for group in inputs.judged for sample in group.samples}
    need = NeededMaps(frozenset(), overlaps=overlaps)
    numbers = replace(need, scored_by=setup.config.criterion.numbers_key(), cells=True)
    found = [Pass("judged", judged, need), Pass("discovery", merged([*shared, *inputs.discovery]), numbers)]
    return [part for part in found if part.groups]


def _fill_passes(setup: Setup, loader: Loader, passes: Sequence[Pass]) -> Failures:
    """-> what failed of any of them."""
    failures = Failures()
    for part in passes:
        failures |= _fill(setup, loader, part.groups, part.need or EVERYTHING)
    return failures


def attend_for(
    setup: Setup,
    loader: Loader,
    groups: list[ImageGroup],
    discovered: DiscoverResult | None,
    plan: HeadPlan,
    failures: Failures,
    top: int = 0,
) -> Failures:
    """Stores of these images what grounding by `plan` reads, and the maps of the `top` most frequent heads; of those
    that are judged only (where the heads are not given), no more than the maps of the heads that may be judged."""
    need = _grounding_need(setup, discovered, plan, top)
    if discovered is None:
        return _fill(setup, loader, groups, need)
    ids = {group.image_id for group in setup.inputs.judged}
    judged, groups = [g for g in groups if g.image_id in ids], [g for g in groups if g.image_id not in ids]
    failed = _fill(setup, loader, judged, NeededMaps(frozenset([*plan.fixed, *discovered.discovery.ranking()[:top]])))
    if setup.config.selection.kind == SelectionKind.fixed:
        return failed | _fill(setup, loader, groups, need)
    failed |= _fill(setup, loader, groups, need, partial(_own_heads, setup, discovered))
    # A sample whose scores were stored before has had no say in what was kept of it.
    evaluated = replace(setup, inputs=replace(setup.inputs, evaluated=groups))
    own = with_own_heads(evaluated, discovered, plan, failures | failed)
    need = _grounding_need(setup, discovered, own, top)
    return failed | _fill(setup, loader, groups, need, partial(_own_heads, setup, discovered))


def attend_parts(setup: Setup, loader: Loader, parts: list[ImageGroup], need: NeededMaps) -> Failures:
    """What a second look reads, of parts of the evaluated images."""
    return _fill(setup, loader, parts, need, name="second look")


def attend_shards(setup: Setup) -> Failures:
    """shard.count > 1: as the whole, but only this worker's shards of each pass. -> what failed of them."""
    loader, failures, complete = Loader(setup.config), Failures(), True
    deal = partial(fill_shards, setup.store, config=setup.config.shard, cost=expected_cost(setup), log_file=log_file())

    def fill_part(need: NeededMaps, part: list[ImageGroup]) -> int:
        failures.update(_fill(setup, loader, part, need))
        return len(failed_in(part, failures))

    def fill_for_plan(discovered: DiscoverResult | None, plan: HeadPlan, part: list[ImageGroup]) -> int:
        top = top_heads_kept(setup.config.engine.maps)
        failures.update(attend_for(setup, loader, part, discovered, plan, failures, top))
        return len(failed_in(part, failures))

    for work in passes(setup):
        if work.need is not None:
            complete &= deal(work, fill=partial(fill_part, work.need))
        elif setup.given_heads or complete:
            discovered = None if setup.given_heads else discover_heads(setup, failures)
            deal(
                work, fill=partial(fill_for_plan, discovered, plan_heads(setup, discovered, this_process(setup.store)))
            )
        else:
            log.info("The heads to keep are found once all shards of discovery are done: then start this once more.")
    return failures


def shards_status(setup: Setup) -> None:
    """stage=status: how far the shards of the attention pass are -> a table, and workers.json."""
    show_status(setup.store, passes(setup), setup.config.shard, expected_cost(setup), console).write(setup.folder)


def passes(setup: Setup) -> list[Pass]:
    """What is dealt out: everything at once, or, where few maps are kept, discovery's samples first."""
    inputs = setup.inputs
    if setup.config.engine.maps == ALL_MAPS:
        return [Pass("all", merged(inputs.all_groups), EVERYTHING)]
    known = maps_heads(setup.config, setup.identity)
    evaluated = Pass("evaluated", grounded_groups(setup), None if known is None else NeededMaps(known))
    if setup.given_heads:
        return [evaluated]
    return [*_before_heads(setup), evaluated]


def expected_cost(setup: Setup) -> TokenCost:
    """Of an image, for the run's model."""
    # Imported late: torch and transformers take seconds.
    from locheads.models.adapters import Sharing
    from locheads.models.load import adapter_of

    adapter = adapter_of(setup.config.model, setup.identity.model_type, setup.identity.source)
    return token_cost(getattr(adapter, "sharing", Sharing.packed), setup.config.model, setup.config.prompt)


def _fill(
    setup: Setup,
    loader: Loader,
    groups: Sequence[ImageGroup],
    need: NeededMaps,
    picks: "Picks | None" = None,
    name: str = "attention",
) -> Failures:
    if not setup.store.missing(groups, need):
        if n := count(groups):
            log.info("The attention store %s holds %d of %d expressions.", setup.store.folder, n, n)
        return {}
    # Imported late: torch and transformers take seconds.
    from locheads.pipeline.attention_pass import fill

    failed = fill(setup.store, groups, setup.config, need, picks, loader, name)
    return {failure.sample_id: failure.reason for failure in failed}


def _own_heads(setup: Setup, discovered: DiscoverResult, scores: HeadScores) -> set[HeadIndex]:
    """The heads that greedy selection takes for any of these samples."""
    config, known = setup.config, with_dependence(scores, discovered.dependence)
    chosen = greedy_heads(known, discovered.discovery, config.heads.k, config.criterion)
    return {head for heads in chosen.values() for head in heads}


def _grounding_need(setup: Setup, discovered: DiscoverResult | None, plan: HeadPlan, top: int) -> NeededMaps:
    heads = {*plan.fixed, *plan.best_iou, *plan.best_rec, *(head for draw in plan.random for head in draw)}
    if discovered is not None:
        heads |= set(discovered.discovery.ranking()[:top])
    own = {} if plan.greedy is None else {sample_id: tuple(heads) for sample_id, heads in plan.greedy.items()}
    # Greedy selection ranks the heads of every evaluated sample; "top N" keeps the numbers for later.
    ranked = top or setup.config.selection.kind == SelectionKind.greedy
    return NeededMaps(frozenset(heads), own, setup.config.criterion.numbers_key() if ranked else None, mean=True)
