"""The attention pass: fills the store with what it lacks, and loads the LVLM only if it lacks something."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from locheads.config import Config
from locheads.dependence.overlaps import overlaps_of, smoothed
from locheads.dependence.pairs import pairs_of
from locheads.discovery.config import CriterionConfig
from locheads.discovery.scores import score
from locheads.geometry import Geometry
from locheads.grounding.fuse import binarise
from locheads.models.adapters import FamilyAdapter, PreparedInput
from locheads.models.answer import check_makes_words
from locheads.models.attend import NO_MEMORY, NOT_FINITE, attend_groups, strips_of
from locheads.models.batching import Budget, gather
from locheads.models.load import Lvlm
from locheads.models.packing import Packed, packing
from locheads.pipeline.answered_rows import AnsweredRows
from locheads.pipeline.answers import Answers
from locheads.pipeline.found_model import keep_found
from locheads.pipeline.image_preparation import PreparedImage, ToolCopies, first_readable, in_background, prepare_image
from locheads.pipeline.loader import Loader
from locheads.pipeline.store_writer import Storable, StoreWriter
from locheads.pipeline.timing import Stopwatch
from locheads.store.attention_store import AttentionStore, count
from locheads.store.key import difference
from locheads.store.needed_maps import EVERYTHING, NeededMaps
from locheads.store.packed_maps import PackedMaps
from locheads.store.store_files import Part
from locheads.terminal import track
from locheads.types import Attention, Failure, HeadIndex, HeadScores, ImageGroup, Overlaps, Sample

log = logging.getLogger(__name__)


Picks = Callable[[HeadScores], Iterable[HeadIndex]]
"""Heads that the scores of one image's samples ask for."""


def fill(
    store: AttentionStore,
    groups: Sequence[ImageGroup],
    config: Config,
    need: NeededMaps = EVERYTHING,
    picks: Picks | None = None,
    loader: Loader | None = None,
    name: str = "attention",
) -> list[Failure]:
    """Runs the attention pass for what the store lacks. Returns the samples that failed; the rest is stored.

    A killed run loses at most the file in progress, one that is told to stop nothing: start it again and it goes on.

    Args:
        store: to be filled.
        groups: the images and their expressions.
        config: of the run.
        need: what is needed of every sample; where that is only some heads, the layers beyond them do not run.
        picks: heads besides, that the scores of an image's samples ask for.
        loader: of the model; keeps it from one call to the next.
        name: of the pass in timing.json.
    """
    missing = store.missing(groups, need)
    n_samples, n_missing = count(groups), count(missing)
    log.info("The attention store %s holds %d of %d expressions.", store.folder, n_samples - n_missing, n_samples)
    failures: list[Failure] = []
    answered = AnsweredRows(Answers(config, store), config.prompt.max_new_tokens) if config.prompt.asks else None
    if answered is not None:
        missing, failures = answered.known(missing)
    # Only once an image opens: where all that is missing is what failed before, no weights load.
    start, failed = first_readable(missing, config.prompt)
    failures += failed
    _warn_of_changed_images(store, missing)
    if start < len(missing):
        _warn_of_other_versions(store, missing, need)
        store.check_writable()
        if answered is not None:
            answered.answers.check_writable()
        store.tidy()
        lacking, loader = store.lacking(missing, need), loader or Loader(config)
        failures += _Pass(store, config, lacking, need, picks, loader, answered, name).run(missing[start:])
    for failure in failures[:5]:
        log.warning("Sample %s failed: %s", failure.sample_id, failure.reason)
    if len(failures) > 5:
        log.warning("... and %d more samples failed; all are in predictions.parquet.", len(failures) - 5)
    return failures


def _warn_of_changed_images(store: AttentionStore, missing: Sequence[ImageGroup]) -> None:
    if changed := store.changed(missing):
        log.warning("%s from those that were attended: they are attended again.", images_differ(changed))


def images_differ(paths: Sequence[Path]) -> str:
    """As "3 images differ (a.jpg, b.jpg, c.jpg)"."""
    names = ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
    return f"{len(paths)} {'image differs' if len(paths) == 1 else 'images differ'} ({names})"


def _warn_of_other_versions(store: AttentionStore, missing: Sequence[ImageGroup], need: NeededMaps) -> None:
    if store.is_of_other_versions:  # which is refused
        return
    for n, folder, key in store.coverage_in_other_versions(missing, need):
        if n:
            log.warning(
                "%s holds %d of the %d expressions to be attended, made with other versions: %s. They are attended "
                "again, into a store of their own; engine.other_versions=take reads the others as they are.",
                folder, n, count(missing), difference(key.made_with, store.key.made_with),
            )  # fmt: skip


@dataclass
class _Pass:
    """One pass of the model over images of which the store lacks something."""

    store: AttentionStore
    config: Config
    lacking: NeededMaps
    """What is missing of any sample."""
    need: NeededMaps
    picks: Picks | None
    loader: Loader
    answered: AnsweredRows | None
    """None where no row of an answer is asked for."""
    name: str = "attention"

    def run(self, groups: list[ImageGroup]) -> list[Failure]:
        """-> the samples that failed."""
        every = self.lacking.whole_model() or self.answered is not None  # words come of the last layer
        layers = None if every else 1 + max(head.layer for head in self._all_heads(groups))
        lvlm = self.loader.get(layers)
        if self.answered is not None:
            check_makes_words(lvlm)
        watch = Stopwatch(lvlm.device)
        failures: list[Failure] = []
        with StoreWriter(self.store, self.config.engine) as writer:
            for attended in self._attended(groups, lvlm, failures):
                writer.put(partial(self._stored, attended))
        failures += writer.failures
        keep_found(self.store.folder, lvlm.adapter.found())
        n_asked = sum(len(group.samples) for group in groups) - len(failures)
        watch.stop(self.store.folder, n_asked, of=self.name, layers=layers, maps=_maps_kept(self.lacking))
        return failures

    def _attended(self, groups: list[ImageGroup], lvlm: Lvlm, failures: list[Failure]) -> Iterator["_Attended"]:
        """The images that were asked about; why others cannot is added to `failures`."""
        budget = Budget.of(self.config.engine.token_budget, lvlm.device)
        opened = self._opened(groups, lvlm.adapter, failures)
        if self.answered is not None:
            opened = self.answered.behind(lvlm, opened, budget, failures)
        for batch in gather(opened, lambda prepared: strips_of(lvlm, prepared), budget):
            heads = None if self.lacking.whole_model() else self._all_heads([group for group, _ in batch])
            found = attend_groups(lvlm, batch, budget, heads)
            for (group, prepared), rows in zip(batch, found, strict=True):
                packed = [None if one is None else packing(one) for one in rows]
                yield _Attended(group, prepared.geometry, packed, None if heads is None else tuple(heads))

    def _all_heads(self, groups: Iterable[ImageGroup]) -> list[HeadIndex]:
        own = {h for group in groups for s in group.samples for h in self.need.own.get(s.sample_id, ())}
        return sorted((self.lacking.heads or frozenset()) | own)

    def _opened(
        self, groups: list[ImageGroup], adapter: FamilyAdapter, failures: list[Failure]
    ) -> Iterator[tuple[ImageGroup, PreparedInput]]:
        workers = self.config.engine.workers
        adapters = ToolCopies(adapter, workers)

        def work(group: ImageGroup) -> PreparedImage:
            with adapters.one() as own:
                return prepare_image(group, own, self.config.prompt)

        for _, opened in zip(track(groups, "attend", "images"), in_background(work, groups, workers), strict=True):
            failures += opened.failures
            if opened.prepared is not None:
                yield opened.group, opened.prepared

    def _stored(self, attended: "_Attended") -> Storable:
        """What is kept of one image, and its samples that have no maps, or some that mean nothing."""
        group, found = attended.group, [None if one is None else one() for one in attended.packed]
        failed = {i: reason for i, one in enumerate(found) if (reason := _unusable(one)) is not None}
        failures = [Failure(group.samples[i].sample_id, group.image_id, reason) for i, reason in failed.items()]
        finite = [(group.samples[i], one) for i, one in enumerate(found) if one is not None and i not in failed]
        if not finite:
            return Storable(None, failures)
        packed = PackedMaps(
            np.stack([maps.scaled for _, (maps, _) in finite]), np.stack([maps.peaks for _, (maps, _) in finite])
        )
        attention = Attention(
            group.image_id,
            tuple(sample.sample_id for sample, _ in finite),
            packed.unpacked(),
            np.stack([sums for _, (_, sums) in finite]) if attended.heads is None else None,
            attended.geometry,
            self.store.image(group),
            attended.heads,
        )
        if attended.heads is not None:
            return Storable(Part.of(attention, packed), failures)
        need = replace(self.lacking, own=self.need.own)
        kept = to_store(attention, packed, need, self.config.criterion, self.picks)
        return Storable(Part.of(*kept, *self._overlaps([sample for sample, _ in finite], attention)), failures)

    def _overlaps(self, samples: Sequence[Sample], whole: Attention) -> tuple[Overlaps | None, str | None]:
        """-> (of an image's samples, what they depend on); nothing where none is needed, or all maps are kept."""
        key = next((self.lacking.overlaps[s.sample_id] for s in samples if s.sample_id in self.lacking.overlaps), None)
        if key is None:
            return None, None
        smooth = smoothed(whole.maps, self.config.grounding)
        return overlaps_of(smooth, pairs_of(samples, self.config.prompt)), key


@dataclass(frozen=True)
class _Attended:
    """One image that the model has seen."""

    group: ImageGroup
    geometry: Geometry
    packed: list[Callable[[], Packed] | None]
    """Of each of its samples; None where even one does not fit into the memory."""
    heads: tuple[HeadIndex, ...] | None
    """Whose maps they are; None: those of the whole model."""


def _unusable(found: Packed | None) -> str | None:
    """Why a sample's maps cannot be stored. One that is not finite would spoil every mean that it goes into."""
    if found is None:
        return NO_MEMORY
    return None if np.isfinite(found[0].peaks).all() else NOT_FINITE


def _maps_kept(need: NeededMaps) -> str:
    return "all" if need.heads is None else "some"


def to_store(
    whole: Attention, packed: PackedMaps, need: NeededMaps, criterion: CriterionConfig, picks: Picks | None = None
) -> tuple[Attention, PackedMaps]:
    """What is stored of one image: what `need` names, and the maps of the heads that `picks` finds in the scores.

    With the maps of all heads come their numbers and their mean, which everybody reads. All of it is worked out from
    the maps as the store gives them back, so that it is the same to the bit whether all maps are kept or not.

    Args:
        whole: the maps of all heads as they come back of `packed`, and their sums.
        packed: the maps.
        need: what is needed of the image's samples.
        criterion: whose numbers.
        picks: see `fill`.
    """
    all_maps = need.heads is None
    scored_by = criterion.numbers_key() if all_maps else need.scored_by
    scores = score(whole, criterion) if scored_by or picks else None
    found = replace(
        whole,
        scores=scores if scored_by else None,
        scored_by=scored_by,
        mean=whole.maps.mean(axis=(1, 2)) if all_maps or need.mean else None,
    )
    if all_maps:
        return found, packed
    order = _wanted_heads(whole, need, picks(scores) if picks and scores else ())
    where = slice(None), [head.layer for head in order], [head.head for head in order]
    some = PackedMaps(packed.scaled[where], packed.peaks[where])
    cells = binarise(whole.maps) if need.cells else None
    return replace(found, heads=order, maps=some.unpacked(), sums=None, cells=cells), some


def _wanted_heads(whole: Attention, need: NeededMaps, picked: Iterable[HeadIndex]) -> tuple[HeadIndex, ...]:
    named = {head for sample_id in whole.sample_ids for head in need.of_sample(sample_id)}
    return tuple(sorted(named.union(picked)))
