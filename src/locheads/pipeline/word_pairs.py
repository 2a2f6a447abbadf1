"""How heads depend on the words: from the stored maps of the images that are judged to numbers and to a verdict."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from math import ceil

import numpy as np
from jaxtyping import Float

from locheads.config import Config
from locheads.dependence.head_dependence import HeadDependence, head_dependence
from locheads.dependence.overlaps import NO_PAIRS, PairTable, joined, overlaps_of, smoothed, table_of
from locheads.dependence.pairs import Pairs, pairs_of
from locheads.dependence.word_verdict import Follows, WordVerdict, judge
from locheads.discovery.config import Require, SelectionKind
from locheads.errors import DiscoveryError
from locheads.grounding.fuse import fuse
from locheads.pipeline.answers import Answers
from locheads.pipeline.processes import processes
from locheads.pipeline.setup import Setup
from locheads.records.follows import FollowsRecord
from locheads.store.attention_store import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.key import code_digest
from locheads.terminal import track
from locheads.types import HeadIndex, ImageGroup, Overlaps, Sample

log = logging.getLogger(__name__)

WORTH = 16_384
"""Heads times images for which another process is worth its start; a few heads are fused here."""
NOT_THE_OWN = (
    "This is said of the {} most frequent heads: with selection.kind=greedy every expression is grounded with heads of "
    "its own, which were not judged."
)


def measure_dependence(setup: Setup) -> HeadDependence | None:
    """Of every head, on the judged images; None where dependence.images=0, or none of them has a pair."""
    groups, config = setup.inputs.judged, setup.config
    depends_on = [
        [[sample.ref_id, sample.expression, sample.box] for group in groups for sample in group.samples],
        [*config.grounding.smoothing.values(), config.dependence.tolerance],
        code_digest(head_dependence.__module__, pairs_of.__module__),
    ]

    def work_out() -> dict[str, np.ndarray]:
        tables = list(_tables(setup, None))
        return head_dependence(joined(tables)).arrays() if tables else {}

    arrays = setup.store.kept("dependence", groups, depends_on, work_out) if groups else {}
    return HeadDependence(**arrays) if arrays else None


def judge_heads(setup: Setup, heads: Sequence[HeadIndex]) -> FollowsRecord | None:
    """Whether the fused map of these heads follows the words; None where dependence.images=0."""
    config, judged = setup.config, setup.inputs.judged
    if config.dependence.images == 0:
        return None
    verdict, tolerance = verdict_on(setup, heads), config.dependence.tolerance
    found = FollowsRecord.of(verdict, heads, judged, setup.judged_split, config.prompt, config.grounding, tolerance)
    if config.selection.kind == SelectionKind.greedy and setup.given_heads is None:
        found = found.model_copy(update={"sentence": f"{found.sentence} {NOT_THE_OWN.format(len(heads))}"})
    told = logging.INFO if found.follows in (Follows.follow, Follows.unknown) else logging.WARNING
    log.log(told, "%s", found.sentence)
    return found


def verdict_on(setup: Setup, heads: Sequence[HeadIndex]) -> WordVerdict:
    """On the fused map of these heads."""
    config = setup.config
    return judge(joined([NO_PAIRS, *_tables(setup, heads)]), config.dependence.resamples, config.seed)


def check_required(setup: Setup, verdict: FollowsRecord | None) -> None:
    """Raises DiscoveryError where heads.require=follow and the heads do not follow the words."""
    if setup.config.heads.require == Require.follow and verdict is not None and verdict.follows != Follows.follow:
        raise DiscoveryError(
            f"heads.require=follow: {verdict.sentence} Nothing is evaluated with such heads: find others, or set "
            "heads.require=nothing."
        )


def _tables(setup: Setup, heads: Sequence[HeadIndex] | None) -> Iterator[PairTable]:
    """Image by image, of every head's maps, or of the fused map of some."""
    config, identity, judged = setup.config, setup.identity, setup.inputs.judged
    tokens = Answers(config, setup.store).query_tokens(judged) if config.prompt.asks else {}
    number, worth = config.engine.processes if heads is None else 1, ceil(WORTH / (identity.layers * identity.heads))
    stage = "overlaps" if heads is None else "verdict"
    with processes(setup.store, number, len(judged), worth) as each:
        parts = each(partial(_tables_of, config, heads, tokens), judged)
        tables = zip(track(judged, stage, "images"), chain.from_iterable(parts), strict=True)
        for image, (_, of_image) in enumerate(tables):
            for table in of_image:
                yield replace(table, image=np.full_like(table.image, image))


def _tables_of(
    config: Config,
    heads: Sequence[HeadIndex] | None,
    tokens: Mapping[str, str],
    store: AttentionStore,
    groups: list[ImageGroup],
) -> list[list[PairTable]]:
    """Of each image, those of its samples that were asked together."""
    tolerance = config.dependence.tolerance
    found = (_overlaps(store, config, tokens, group, heads) for group in groups)
    return [[table_of(overlaps, pairs, 0, tolerance) for pairs, overlaps in of_image] for of_image in found]


def _overlaps(
    store: AttentionStore,
    config: Config,
    tokens: Mapping[str, str],
    group: ImageGroup,
    heads: Sequence[HeadIndex] | None,
) -> Iterator[tuple[Pairs, Overlaps]]:
    """-> (pairs of samples that were asked together, the overlaps of their maps), from the maps where the store has
    them, else as the attention pass worked them out of them."""
    if heads is None and not store.has_all_maps(group):
        own = {sample.sample_id: sample for sample in group.samples}
        for sample_ids, overlaps in store.read_overlaps(group, overlaps_key(group, config)):
            yield pairs_of([own[sample_id] for sample_id in sample_ids], config.prompt, tokens), overlaps
        return
    samples, maps = maps_of(store, group, heads)
    if len(samples) > 1:
        smooth = smoothed(maps, config.grounding) if heads is None else fuse(maps, config.grounding)
        pairs = pairs_of(samples, config.prompt, tokens)
        yield pairs, overlaps_of(smooth, pairs)


def overlaps_key(group: ImageGroup, config: Config) -> str:
    """What the overlaps of an image's maps depend on besides the maps: pairs, smoothing and our own code.

    The tolerance is not in it, because the places of the peaks are kept.
    """
    pairs = pairs_of(group.samples, config.prompt)
    ids = [sample.sample_id for sample in group.samples]
    which = [[ids[i], ids[j]] for i, j in zip(pairs.first, pairs.second, strict=True)]
    return json_digest([which, [*config.grounding.smoothing.values()], code_digest(overlaps_of.__module__)])[:16]


def maps_of(
    store: AttentionStore, group: ImageGroup, heads: Sequence[HeadIndex] | None
) -> tuple[list[Sample], Float[np.ndarray, "sample *head row col"]]:
    """The image's samples that have attention, and their maps."""
    found = {
        sample_id: attention.maps[row] if heads is None else attention.chosen(row, heads)
        for attention in store.read([group], heads=heads)
        for row, sample_id in enumerate(attention.sample_ids)
    }
    samples = [sample for sample in group.samples if sample.sample_id in found]
    return samples, np.stack([found[sample.sample_id] for sample in samples]) if samples else np.empty((0, 1, 1))
