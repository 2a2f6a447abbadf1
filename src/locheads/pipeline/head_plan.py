"""Which heads ground which sample: those of discovery or those that the configuration gives, and every baseline's."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from locheads.data.image_groups import with_heat
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads, top_heads
from locheads.discovery.scores import score_all, with_dependence
from locheads.evaluation.best_heads import best_heads_by_iou, search_heads, single_hits
from locheads.evaluation.methods import HeadPlan, random_heads
from locheads.grounding.config import Contrast, Sinks
from locheads.grounding.contrast import read_maps
from locheads.grounding.sinks import SinkCells
from locheads.pipeline.discover_stage import DiscoverResult
from locheads.pipeline.processes import Each
from locheads.pipeline.setup import Failures, Setup
from locheads.pipeline.sink_cells import sink_cells
from locheads.store.attention_store import AttentionStore
from locheads.store.key import code_digest
from locheads.terminal import track
from locheads.types import Attention, HeadIndex, ImageGroup

log = logging.getLogger(__name__)


def plan_heads(setup: Setup, discovered: DiscoverResult | None, each: Each) -> HeadPlan:
    """The k heads of discovery, or the given ones where `discovered` is None, and the heads of every baseline.

    `each`: in which processes to search. With selection=greedy the samples' own heads are missing still: see
    `with_own_heads`.
    """
    config, k = setup.config, setup.config.heads.k
    draws, seed = config.evaluation.random_draws, config.seed
    if discovered is None:
        if setup.given_heads is None:
            raise ValueError("there are neither discovered nor given heads")
        admitted = np.zeros((setup.identity.layers, setup.identity.heads), dtype=bool)
        admitted[config.criterion.skip_layers :] = True
        return HeadPlan(setup.given_heads.heads[:k], None, best_iou=(), random=random_heads(admitted, k, draws, seed))
    sinks = _sinks(setup, each)
    return HeadPlan(
        fixed=tuple(top_heads(discovered.discovery, k)),
        greedy=None,
        best_iou=() if discovered.head_iou is None else tuple(best_heads_by_iou(discovered.head_iou, k)),
        random=random_heads(discovered.discovery.eligible, k, draws, seed),
        sinks=sinks,
        best_rec=() if with_heat(setup.inputs.discovery) else _best_rec(setup, sinks, each),
    )


def with_own_heads(setup: Setup, discovered: DiscoverResult | None, plan: HeadPlan, failures: Failures) -> HeadPlan:
    """With selection=greedy the plan with every evaluated sample's own k heads; else the plan as it is."""
    config, evaluated = setup.config, setup.inputs.evaluated
    if config.selection.kind == SelectionKind.fixed or discovered is None:
        return plan
    if all(sample.sample_id in failures for group in evaluated for sample in group.samples):
        return replace(plan, greedy={})
    stored = setup.store.read_numbers(evaluated, config.criterion.numbers_key())
    scores = with_dependence(score_all(stored, config.criterion), discovered.dependence)
    return replace(plan, greedy=greedy_heads(scores, discovered.discovery, config.heads.k, config.criterion))


def _best_rec(setup: Setup, sinks: SinkCells | None, each: Each) -> tuple[HeadIndex, ...]:
    config, groups, k = setup.config, setup.inputs.discovery, setup.config.heads.k
    depends_on = [
        [sample.box for group in groups for sample in group.samples],
        asdict(config.grounding),
        code_digest(search_heads.__module__, read_maps.__module__),
    ]
    contrast = config.grounding.contrast

    def read(groups: list[ImageGroup], heads: Sequence[HeadIndex] | None) -> Iterator[Attention]:
        return chain.from_iterable(read_maps(setup.store.read, group, contrast, heads) for group in groups)

    def on_each(work: Callable[..., Any], images: list[ImageGroup]) -> Iterator[Any]:
        found = chain.from_iterable(each(partial(_image_by_image, work, contrast), images))
        return (one for _, one in zip(track(images, "best set", "images"), found, strict=True))

    kept = partial(setup.store.kept, groups=[*groups, *setup.inputs.probed], depends_on=depends_on)

    def search() -> dict[str, np.ndarray]:
        # Most of the work, and the same for every k.
        single = kept("single_hits", make=lambda: {"hits": single_hits(on_each, groups, config.grounding, sinks)})
        best = search_heads(read, single["hits"], groups, k, config.grounding, sinks)
        return {"heads": np.array([[head.layer, head.head] for head in best], np.int64).reshape(-1, 2)}

    # One head more is one step more of the same search; where there was nothing to search, there still is not.
    found = kept("best_rec", make=search, enough=lambda known: not 0 < len(known["heads"]) < k)
    best = tuple(HeadIndex(layer, head) for layer, head in found["heads"][:k].tolist())
    if not best:
        log.info("The best set by REC is left out: the store lacks the maps of all heads of discovery's samples.")
    return best


def _image_by_image(
    work: Callable[..., Any], contrast: Contrast, store: AttentionStore, groups: list[ImageGroup]
) -> list[Any]:
    return [work(read_maps(store.read, group, contrast), group) for group in groups]


def _sinks(setup: Setup, each: Each) -> SinkCells | None:
    grounding = setup.config.grounding
    if grounding.sinks != Sinks.mean_map:
        return None
    return sink_cells(setup, [grounding.sink_factor], each)[grounding.sink_factor]
