"""The attend stage: fills the store with what it lacks, and loads the LVLM only if it lacks something."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from locheads.config import Config
from locheads.data.image_files import open_image
from locheads.errors import DataError
from locheads.map_numbers import attention_sum
from locheads.models.adapters.base import Adapter, PreparedInput
from locheads.models.attend import NO_MEMORY, NOT_FINITE, attend_groups, strips_of
from locheads.models.batching import Budget, gather
from locheads.models.engine import OtherVersions, Quantization
from locheads.models.load import Lvlm, ModelIdentity, adapter_identity, load_lvlm
from locheads.models.prompts import render_prompt
from locheads.pipeline.background import Copies, in_background
from locheads.pipeline.compact import Picks, compact
from locheads.pipeline.progress import track
from locheads.pipeline.signals import undisturbed
from locheads.pipeline.timing import Stopwatch
from locheads.store.attention_store import AttentionStore, count
from locheads.store.key import code_digest, difference
from locheads.store.need import EVERYTHING, Need
from locheads.store.provenance import version
from locheads.store.store_files import Stored
from locheads.types import Attention, CompactAttention, Failure, HeadIndex, ImageGroup

log = logging.getLogger(__name__)


MAKERS = ("torch", "transformers", "tokenizers", "pillow", "numpy")
"""Packages that make pixels, tokens and attention; torchvision and bitsandbytes besides, where they are used."""

NO_PART = frozenset(
    f"locheads.{name}"
    for name in (
        # Settings: their values are in the key.
        "config", "dotted", "models.engine", "discovery.config", "grounding.config", "models.config",
        # What is said, when, in which order, and how it is kept.
        "errors", "pipeline.background", "pipeline.progress", "pipeline.signals", "pipeline.timing", "store.atomic",
        "store.attention_store", "store.derived", "store.digest", "store.key", "store.need", "store.provenance",
        "terminal", "text",
    )
)  # fmt: skip
"""Modules that the attention pass imports and that decide nothing of the maps."""


def open_store(
    config: Config,
    identity: ModelIdentity,
    annotations: str,
    verify: bool = True,
    images: Mapping[Path, str | None] | None = None,
) -> AttentionStore:
    """The store of exactly this model, precision, preprocessing, prompt and annotation files, made with what is here.

    The images are not in the key: each entry holds the checksum of its own. Nor is the device: the same versions
    agree to rounding on all of them, and timing.json names those that made the maps. `verify`, `images`: see
    `AttentionStore`.
    """
    model, prompt = dataclasses.asdict(config.model), dataclasses.asdict(config.prompt)
    # Names, and where the checkpoint lies: what it is, its digest says, so that a moved one is not asked again.
    for group, setting in ((model, "name"), (model, "id"), (model, "revision"), (model, "adapter"), (prompt, "name")):
        del group[setting]
    question: dict[str, Any] = {
        "model": model | {"weights": identity.weights} | adapter_identity(config.model),
        "prompt": prompt,
        "annotations": annotations,
    }
    if config.engine.quantization != Quantization.none:
        question["quantization"] = config.engine.quantization.value
    take = config.engine.other_versions == OtherVersions.take
    return AttentionStore(Path(config.paths.cache), question, verify, makers(config, identity), take, images)


def makers(config: Config, identity: ModelIdentity) -> dict[str, str | None]:
    """What the attention pass makes its maps with: versions, image processor, digest of our own code."""
    packages = list(MAKERS)
    if "torchvision" in (identity.image_processor or ""):
        packages.append("torchvision")
    if config.engine.quantization != Quantization.none:
        packages.append("bitsandbytes")
    code = code_digest("locheads.pipeline.attention_pass", without=NO_PART)
    return {name: version(name) for name in packages} | {
        "image processor": identity.image_processor,
        "attention pass": code,
    }


class Loader:
    """Loads the LVLM when it is first needed, and again only if more of its layers are."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lvlm: Lvlm | None = None
        self._layers: int | None = 0

    def get(self, layers: int | None) -> Lvlm:
        """The model with at least its first `layers` decoder layers; None: with all. Raises as `load_lvlm`."""
        enough = self._layers is None or (layers is not None and layers <= self._layers)
        if self._lvlm is None or not enough:
            log.info("Loading %s.", self._config.model.id)
            self._lvlm = None  # not both at once in memory
            self._lvlm, self._layers = load_lvlm(self._config.model, self._config.engine, layers), layers
        return self._lvlm


@dataclass
class _Opened:
    """An image on its way to the model."""

    group: ImageGroup
    """With the expressions that can be asked."""
    prepared: PreparedInput | None
    """None where nothing can be asked."""
    failures: list[Failure]


def fill(
    store: AttentionStore,
    groups: Sequence[ImageGroup],
    config: Config,
    need: Need = EVERYTHING,
    picks: Picks | None = None,
    loader: Loader | None = None,
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
    """
    missing = store.missing(groups, need)
    n_samples, n_missing = count(groups), count(missing)
    log.info("Attention store %s: %d of %d expressions are there.", store.folder, n_samples - n_missing, n_samples)
    failures: list[Failure] = []
    # Only once an image opens: where all that is missing is what failed before, no weights load.
    start, failed = _skip_unreadable(missing, config)
    failures += failed
    _say_what_changed(store, missing)
    if start < len(missing):
        _say_what_others_hold(store, missing, need)
        store.check_writable()
        store.tidy()
        lack, loader = store.lack(missing, need), loader or Loader(config)
        failures += _Pass(store, config, lack, need, picks, loader).run(missing[start:])
    for failure in failures[:5]:
        log.warning("Sample %s failed: %s", failure.sample_id, failure.reason)
    if len(failures) > 5:
        log.warning("... and %d more samples failed; all are in predictions.parquet.", len(failures) - 5)
    return failures


def _say_what_changed(store: AttentionStore, missing: Sequence[ImageGroup]) -> None:
    if changed := store.changed(missing):
        log.warning("%s from those that were attended: they are attended again.", images_differ(changed))


def images_differ(paths: Sequence[Path]) -> str:
    """As "3 images differ (a.jpg, b.jpg, c.jpg)"."""
    names = ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
    return f"{len(paths)} {'image differs' if len(paths) == 1 else 'images differ'} ({names})"


def _say_what_others_hold(store: AttentionStore, missing: Sequence[ImageGroup], need: Need) -> None:
    if store.taken:  # which is refused
        return
    for n, folder, key in store.elsewhere(missing, need):
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
    lack: Need
    """What is missing of any sample."""
    need: Need
    picks: Picks | None
    loader: Loader
    pending: list[Stored] = field(default_factory=list)

    def run(self, groups: list[ImageGroup]) -> list[Failure]:
        """-> the samples that failed."""
        layers = None if self.lack.whole_model() else 1 + max(head.layer for head in self._all_heads(groups))
        lvlm = self.loader.get(layers)
        watch = Stopwatch(lvlm.device)
        budget = Budget.of(self.config.engine.token_budget, lvlm.device)
        failures: list[Failure] = []
        opened = self._opened(groups, lvlm.adapter, failures)
        try:
            for batch in gather(opened, lambda prepared: strips_of(lvlm, prepared), budget):
                heads = None if self.lack.whole_model() else self._all_heads([group for group, _ in batch])
                found = attend_groups(lvlm, batch, budget, heads)
                for (group, prepared), maps in zip(batch, found, strict=True):
                    failures += self._keep(group, prepared, maps, heads)
        except (KeyboardInterrupt, SystemExit):
            with undisturbed():
                self._write()
            raise
        self._write()
        n_asked = sum(len(group.samples) for group in groups) - len(failures)
        watch.stop(self.store.folder, n_asked, of="attention", layers=layers, maps=_maps_kept(self.lack))
        return failures

    def _write(self) -> None:
        self.store.write(self.pending)
        self.pending = []

    def _all_heads(self, groups: Iterable[ImageGroup]) -> list[HeadIndex]:
        own = {h for group in groups for s in group.samples for h in self.need.own.get(s.sample_id, ())}
        return sorted((self.lack.heads or frozenset()) | own)

    def _opened(
        self, groups: list[ImageGroup], adapter: Adapter, failures: list[Failure]
    ) -> Iterator[tuple[ImageGroup, PreparedInput]]:
        """The images that can be asked about; why others cannot is added to `failures`."""
        workers = self.config.engine.workers
        adapters = Copies(adapter, workers)

        def work(group: ImageGroup) -> _Opened:
            with adapters.one() as own:
                return _prepare(group, own, self.config)

        for _, opened in zip(track(groups, "attend", "images"), in_background(work, groups, workers), strict=True):
            failures += opened.failures
            if opened.prepared is not None:
                yield opened.group, opened.prepared

    def _keep(
        self,
        group: ImageGroup,
        prepared: PreparedInput,
        maps: list[np.ndarray | None],
        heads: Sequence[HeadIndex] | None,
    ) -> list[Failure]:
        """Stores one image's maps, soon. -> its samples that have none, or some that mean nothing."""
        failed = {i: reason for i, one in enumerate(maps) if (reason := _unusable(one)) is not None}
        there = [i for i in range(len(maps)) if i not in failed]
        if there:
            ids = tuple(group.samples[i].sample_id for i in there)
            arrays = np.stack([one for i, one in enumerate(maps) if one is not None and i not in failed])
            self.pending.append(self._record(group, ids, arrays, prepared, heads))
        if len(self.pending) >= self.config.engine.shard_images:
            self._write()
        return [Failure(group.samples[i].sample_id, group.image_id, reason) for i, reason in failed.items()]

    def _record(
        self,
        group: ImageGroup,
        ids: tuple[str, ...],
        maps: np.ndarray,
        prepared: PreparedInput,
        heads: Sequence[HeadIndex] | None,
    ) -> Stored:
        image = self.store.image(group)
        if heads is not None:
            return CompactAttention(
                group.image_id, ids, tuple(heads), maps, prepared.geometry, image=image
            )  # fmt: skip
        whole = Attention(group.image_id, ids, maps, attention_sum(maps), prepared.geometry, image)
        if self.need.heads is None:
            return whole
        need = replace(self.lack, own=self.need.own)
        return compact(whole, need, self.config.criterion, self.picks)


def _unusable(maps: np.ndarray | None) -> str | None:
    """Why a sample's maps cannot be stored. One that is not finite would spoil every mean that it goes into."""
    if maps is None:
        return NO_MEMORY
    return None if np.isfinite(maps).all() else NOT_FINITE


def _maps_kept(need: Need) -> str:
    return "all" if need.heads is None else "some"


def _skip_unreadable(groups: list[ImageGroup], config: Config) -> tuple[int, list[Failure]]:
    """-> (index of the first image that can be asked about, why those before it cannot)."""
    failures: list[Failure] = []
    for index, group in enumerate(groups):
        asked, failed = _askable(group, config)
        try:
            if asked.samples:
                open_image(asked)
                return index, failures
        except DataError as error:
            failed += _all_failed(asked, error)
        failures += failed
    return len(groups), failures


def _prepare(group: ImageGroup, adapter: Adapter, config: Config) -> _Opened:
    asked, failures = _askable(group, config)
    if not asked.samples:
        return _Opened(asked, None, failures)
    try:
        image = open_image(asked)
    except DataError as error:
        return _Opened(asked, None, failures + _all_failed(asked, error))
    try:
        return _Opened(asked, _ask(asked, image, adapter, config), failures)
    except DataError:
        return _without_culprits(asked, image, adapter, config, failures)


def _without_culprits(
    group: ImageGroup, image: Image, adapter: Adapter, config: Config, failures: list[Failure]
) -> _Opened:
    """One expression that cannot be asked must not take the image's others with it."""
    fine = []
    for sample in group.samples:
        alone = replace(group, samples=(sample,))
        try:
            _ask(alone, image, adapter, config)
            fine.append(sample)
        except DataError as error:
            failures = failures + _all_failed(alone, error)
    asked = replace(group, samples=tuple(fine))
    return _Opened(asked, _ask(asked, image, adapter, config) if fine else None, failures)


def _ask(group: ImageGroup, image: Image, adapter: Adapter, config: Config) -> PreparedInput:
    return adapter.prepare(image, [sample.expression for sample in group.samples], config.prompt)


def _askable(group: ImageGroup, config: Config) -> tuple[ImageGroup, list[Failure]]:
    """-> (the group with the expressions that can be asked, what failed)."""
    askable, failures = [], []
    for sample in group.samples:
        try:
            render_prompt(config.prompt, sample.expression)
            askable.append(sample)
        except DataError as error:
            failures.append(Failure(sample.sample_id, group.image_id, str(error)))
    return replace(group, samples=tuple(askable)), failures


def _all_failed(group: ImageGroup, error: DataError) -> list[Failure]:
    return [Failure(sample.sample_id, group.image_id, str(error)) for sample in group.samples]
