"""Which heads ground which sample, for the method and its baselines."""

import logging
from collections.abc import Iterator
from typing import assert_never

import numpy as np

from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads, top_heads
from locheads.discovery.scores import score_all
from locheads.evaluation.best_heads import best_heads_by_iou, search_heads
from locheads.evaluation.methods import HeadPlan, random_heads
from locheads.grounding.config import Sinks
from locheads.grounding.sinks import SinkCells, find_sinks
from locheads.pipeline.progress import track
from locheads.pipeline.run_state import Run
from locheads.types import Attention, CompactAttention, HeadIndex, ImageGroup

log = logging.getLogger(__name__)


def plan_heads(run: Run) -> HeadPlan:
    """Which heads ground which sample, for the method and its baselines."""
    match run.config.selection.kind:
        case SelectionKind.fixed:
            return plan_with(run, None)
        case SelectionKind.greedy:
            return plan_with(run, _own_heads(run))
        case _:
            assert_never(run.config.selection.kind)


def _own_heads(run: Run) -> dict[str, list[HeadIndex]]:
    """Per evaluated sample its own k heads."""
    config = run.config
    assert run.discovery is not None
    greedy: dict[str, list[HeadIndex]] = {}
    if any(s.sample_id not in run.failures for group in run.inputs.evaluated for s in group.samples):
        scores = score_all(run.store.read(run.inputs.evaluated, run.scored_by()), config.criterion)
        greedy = greedy_heads(scores, run.discovery, config.heads.k, config.criterion)
    return greedy


def plan_with(run: Run, greedy: dict[str, list[HeadIndex]] | None) -> HeadPlan:
    config, k = run.config, run.config.heads.k
    draws, seed = config.evaluation.random_draws, config.seed
    if run.given is not None:
        admitted = np.zeros((run.identity.layers, run.identity.heads), dtype=bool)
        admitted[config.criterion.skip_layers :] = True
        return HeadPlan(run.given.heads[:k], None, best_iou=(), random=random_heads(admitted, k, draws, seed))
    assert run.discovery is not None and run.head_iou is not None
    sinks = _sinks(run)
    return HeadPlan(
        fixed=tuple(top_heads(run.discovery, k)),
        greedy=greedy,
        best_iou=tuple(best_heads_by_iou(run.head_iou, k)),
        random=random_heads(run.discovery.eligible, k, draws, seed),
        sinks=sinks,
        best_rec=_best_rec(run, sinks),
    )


def _best_rec(run: Run, sinks: SinkCells | None) -> tuple[HeadIndex, ...]:
    """Searched once in a run."""
    if run.best_rec is None:
        config = run.config

        def read(groups: list[ImageGroup]) -> Iterator[Attention | CompactAttention]:
            return run.store.read(track(groups, "best set", "images"))

        run.best_rec = search_heads(read, run.inputs.discovery, config.heads.k, config.grounding, sinks)
        if not run.best_rec:
            log.info("The best set by REC is left out: the store lacks the maps of all heads of discovery's samples.")
    return run.best_rec


def _sinks(run: Run) -> SinkCells | None:
    """From the discovery samples, so that nothing of the evaluated split takes part."""
    grounding = run.config.grounding
    if grounding.sinks != Sinks.mean_map:
        return None
    return find_sinks(run.store.read(track(run.inputs.discovery, "mean maps", "images")), grounding.sink_factor)
