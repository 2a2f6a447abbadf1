"""How heads depend on the words: from the stored maps of the images that are judged to numbers and to a verdict."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from locheads.dependence.head_dependence import HeadDependence, head_dependence
from locheads.dependence.overlaps import NO_PAIRS, PairTable, joined, smoothed, table_of
from locheads.dependence.pairs import pairs_of
from locheads.dependence.word_verdict import Follows, WordVerdict, judge
from locheads.discovery.config import Require, SelectionKind
from locheads.errors import DiscoveryError
from locheads.grounding.fuse import fuse
from locheads.pipeline.answers import Answers
from locheads.pipeline.setup import Setup
from locheads.records.follows import FollowsRecord
from locheads.store.key import code_digest
from locheads.terminal import track
from locheads.types import HeadIndex, ImageGroup, Sample

log = logging.getLogger(__name__)


def measure_dependence(setup: Setup) -> HeadDependence | None:
    """Of every head, on the judged images; None where dependence.images=0, or none of them has a pair."""
    groups, config = setup.inputs.judged, setup.config
    grounding, how = config.grounding, config.dependence
    depends_on = [
        [[sample.ref_id, sample.expression, sample.box] for group in groups for sample in group.samples],
        [grounding.kernel, grounding.sigma, grounding.border.value, how.tolerance],
        code_digest(head_dependence.__module__, pairs_of.__module__),
    ]

    def work_out() -> dict[str, np.ndarray]:
        tables = list(_tables(setup, None))
        return head_dependence(joined(tables)).arrays() if tables else {}

    arrays = setup.store.kept("dependence", groups, depends_on, work_out) if groups else {}
    return HeadDependence(**arrays) if arrays else None


NOT_THE_OWN = (
    "This is said of the {} most frequent heads: with selection.kind=greedy every expression is grounded with heads of "
    "its own, which were not judged."
)


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
    config = setup.config
    tokens = Answers(config, setup.store).query_tokens(setup.inputs.judged) if config.prompt.asks else {}
    for image, group in enumerate(track(setup.inputs.judged, "words", "images")):
        samples, maps = maps_of(setup, group, heads)
        if len(samples) > 1:
            smooth = smoothed(maps, config.grounding) if heads is None else fuse(maps, config.grounding)
            yield table_of(smooth, pairs_of(samples, config.prompt, tokens), image, config.dependence.tolerance)


def maps_of(
    setup: Setup, group: ImageGroup, heads: Sequence[HeadIndex] | None
) -> tuple[list[Sample], Float[np.ndarray, "sample *head row col"]]:
    """The image's samples that have attention, and their maps."""
    found = {
        sample_id: attention.maps[row] if heads is None else attention.chosen(row, heads)
        for attention in setup.store.read([group], heads=heads)
        for row, sample_id in enumerate(attention.sample_ids)
    }
    samples = [sample for sample in group.samples if sample.sample_id in found]
    return samples, np.stack([found[sample.sample_id] for sample in samples]) if samples else np.empty((0, 1, 1))
