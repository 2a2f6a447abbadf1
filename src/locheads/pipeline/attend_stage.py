"""stage=attend: what the store must hold before anything downstream can run without the LVLM."""

import logging
from dataclasses import replace

from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads
from locheads.evaluation.methods import HeadPlan
from locheads.models.engine import ALL_MAPS, top_heads_kept
from locheads.pipeline.attention_pass import Loader, fill
from locheads.pipeline.compact import Picks
from locheads.pipeline.discover_stage import find_heads
from locheads.pipeline.given import maps_heads
from locheads.pipeline.head_plan import plan_heads, plan_with
from locheads.pipeline.run_state import Run
from locheads.pipeline.worker_shards import Dealer, Pass, token_cost
from locheads.store.need import EVERYTHING, Need
from locheads.types import HeadIndex, HeadScores, ImageGroup

log = logging.getLogger(__name__)


def attend_stage(run: Run) -> None:
    """Fills the store for discovery and evaluation. Loads the LVLM only if something is not there.

    With shard.count > 1 only this worker's shards.
    """
    run.loader = run.loader or Loader(run.config)
    first, *later = passes(run)
    complete = _deal(run, first)
    for work in later:
        if work.need is not None or complete:
            _deal(run, work)
        else:
            log.info("The heads to keep are found once all shards of discovery are done: then start this once more.")


def passes(run: Run) -> list[Pass]:
    """What the model is asked: everything at once, or, where few maps are kept, discovery's samples first."""
    inputs = run.inputs
    if run.config.engine.maps == ALL_MAPS:
        return [Pass("all", [*inputs.discovery, *inputs.evaluated], EVERYTHING)]
    known = maps_heads(run.config, run.identity)
    evaluated = Pass("evaluated", inputs.evaluated, None if known is None else Need(known))
    if run.given is not None:
        return [evaluated]
    return [Pass("discovery", inputs.discovery, Need(frozenset(), scored_by=run.scored_by(), cells=True)), evaluated]


def dealer(run: Run) -> Dealer:
    """Of this run's passes."""
    return Dealer(run.store, run.config.shard, token_cost(run.config, run.identity))


def _deal(run: Run, work: Pass) -> bool:
    """Fills the store for the pass, or for this worker's shards of it. -> whether the pass is complete."""
    if run.config.shard.count > 1:
        return dealer(run).work(work, lambda part: _fill_part(run, work, part))
    _fill_part(run, work, work.groups)
    return True


def _fill_part(run: Run, work: Pass, part: list[ImageGroup]) -> int:
    """-> how many of the part's samples failed."""
    if work.need is not None:
        _fill(run, part, work.need)
    else:
        if run.given is None:
            find_heads(run)
        of_part = replace(run, inputs=replace(run.inputs, evaluated=part))
        fill_compactly(of_part, top_heads_kept(run.config.engine.maps))
    return len(run.failed(part))


def _fill(run: Run, groups: list[ImageGroup], need: Need = EVERYTHING, picks: Picks | None = None) -> None:
    run.loader = run.loader or Loader(run.config)
    failures = fill(run.store, groups, run.config, need, picks, run.loader)
    run.failures |= {failure.sample_id: failure.reason for failure in failures}


def fill_compactly(run: Run, top: int = 0) -> None:
    """Stores what grounding reads of the evaluated split, and the maps of the `top` most frequent heads."""
    config, groups = run.config, run.inputs.evaluated
    picks = None
    if config.selection.kind == SelectionKind.greedy:
        discovery = run.discovery
        assert discovery is not None

        def picks(scores: HeadScores) -> set[HeadIndex]:
            found = greedy_heads(scores, discovery, config.heads.k, config.criterion)
            return {head for heads in found.values() for head in heads}

        _fill(run, groups, _compact_need(run, plan_with(run, None), top), picks)
    plan = plan_heads(run)
    _fill(run, groups, _compact_need(run, plan, top), picks)


def _compact_need(run: Run, plan: HeadPlan, top: int) -> Need:
    heads = {*plan.fixed, *plan.best_iou, *plan.best_rec, *(head for draw in plan.random for head in draw)}
    if run.discovery is not None:
        heads |= set(run.discovery.ranking()[:top])
    own = {} if plan.greedy is None else {sample_id: tuple(heads) for sample_id, heads in plan.greedy.items()}
    # Greedy selection ranks the heads of every evaluated sample; "top N" keeps the numbers for later.
    scored_by = run.scored_by() if top or run.config.selection.kind == SelectionKind.greedy else None
    return Need(frozenset(heads), own, scored_by, mean=True)
