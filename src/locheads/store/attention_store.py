"""The attention store: what the attention pass found, so that the LVLM is never asked the same thing twice.

A folder per digest of everything that determines the maps (see `key`). In it, shards of some images each (see
`store_files`). A shard whose bytes do not match is set aside when they are read, and computed again. Nothing is
rewritten, so several runs may fill the same store. What a sample needs may lie in several shards: maps of some heads
in one, of others in the next.
"""

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from locheads.errors import StoreError
from locheads.store.atomic import check_writable, write_json
from locheads.store.digest import file_digest
from locheads.store.kept import Arrays, kept
from locheads.store.key import Key, MadeWith, difference, lacks_some, of_other_versions
from locheads.store.needed_maps import EVERYTHING, NeededMaps, lacking, union
from locheads.store.store_files import (
    BROKEN,
    LISTING,
    DamagedShard,
    Entry,
    Part,
    listing_of,
    load,
    load_overlaps,
    read_listing,
    shard_of,
    write_shard,
)
from locheads.types import Attention, HeadIndex, ImageGroup, Overlaps

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 5
"""Raise it when the layout changes, so that old stores are not read as new ones. What the maps are made with is in the
key besides."""
KEY = "key.json"

LITTER_S = 3600.0
"""No file takes an hour to write."""


class AttentionStore:
    """Reads and appends; holds an index in memory, never the maps."""

    def __init__(
        self,
        cache: Path,
        question: Mapping[str, Any],
        made_with: MadeWith | None = None,
        take: bool = False,
        images: Mapping[Path, str | None] | None = None,
    ) -> None:
        """Opens the store, or begins one.

        Args:
            cache: folder of all stores.
            question: everything that determines the maps but `made_with`, as plain values.
            made_with: the versions and the code that would make the maps now.
            take: where nothing is stored of `made_with`, but of other versions, that store is opened, the newest one
                where there are several. It must not be written.
            images: sha256 of images that are known already; see `image`.

        Raises:
            StoreError: it cannot be written.
        """
        self.key = Key({"format": FORMAT, **question}, made_with)
        self.current_key = self.key
        """The key of what would be made now; `key`: of what is there."""
        self._root = cache / "attention"
        if take and not self._begun() and (others := self.other_versions()):
            self.key = others[0][1]
        self._entries: dict[str, list[Entry]] = {}
        self._images: dict[Path, str | None] = dict(images or {})
        self.sets_aside = True
        """Whether `read` does so with what proves damaged, or only raises."""
        self.keeps = not self.is_of_other_versions
        """Whether what is worked out of the maps is kept beside them."""
        self.appended: Callable[[Sequence[Part]], None] | None = None
        """Called with what was just stored."""
        if not (self.folder / KEY).exists():
            self._begin()
        self._indexed: set[Path] = set()
        self.refresh()

    @property
    def digest(self) -> str:
        """Of the key."""
        return self.key.digest

    @property
    def folder(self) -> Path:
        return self._root / self.digest[:16]

    @property
    def is_of_other_versions(self) -> bool:
        """Whether the maps are those of other versions, taken as they are."""
        return self.key != self.current_key

    def other_versions(self) -> list[tuple[Path, Key]]:
        """The stores that hold maps for the same question, but of other versions, the newest first."""
        keys = of_other_versions(self.current_key, self._root.glob(f"*/{KEY}"))
        return [(file.parent, key) for file, key in keys if any(file.parent.glob(f"*{LISTING}"))]

    def coverage_in_other_versions(
        self, groups: Sequence[ImageGroup], need: NeededMaps = EVERYTHING
    ) -> Iterator[tuple[int, Path, Key]]:
        """-> (how many of the groups' samples it has whole, folder, key) of each of `other_versions`."""
        for folder, key in self.other_versions():
            question = {name: value for name, value in key.question.items() if name != "format"}
            store = AttentionStore(self._root.parent, question, key.made_with, images=self._images)
            yield count(groups) - count(store.missing(groups, need)), folder, key

    def check_writable(self) -> None:
        """Raises StoreError where nothing could be stored, or where it must not be: in a store of other versions."""
        if self.is_of_other_versions:
            raise lacks_some(self.folder, self.key, self.current_key)
        check_writable(self.folder)

    def _begun(self) -> bool:
        return any(self.folder.glob(f"*{LISTING}"))

    def _begin(self) -> None:
        try:
            write_json(self.folder / KEY, self.key.content)
        except StoreError as error:
            if not (others := self.other_versions()):
                raise
            folder, key = others[0]
            raise StoreError(
                f"{error} {folder} holds what other versions made "
                f"({difference(key.made_with, self.current_key.made_with)}): engine.other_versions=take reads that."
            ) from error

    def refresh(self) -> None:
        """Takes in what other workers have stored meanwhile."""
        for listing in sorted(self.folder.glob(f"*{LISTING}")):
            if (shard := shard_of(listing)) not in self._indexed:
                self._index(shard)

    def missing(self, groups: Iterable[ImageGroup], need: NeededMaps = EVERYTHING) -> list[ImageGroup]:
        """The images and expressions of which not all that is needed is stored, each group with only those."""
        result = []
        for group in groups:
            absent = tuple(s for s in group.samples if self._lacks(group, s.sample_id, need))
            if absent:
                result.append(replace(group, samples=absent))
        return result

    def lacking(self, groups: Iterable[ImageGroup], need: NeededMaps) -> NeededMaps:
        """What a pass over the groups must find so that nothing is missing of them any more."""
        found = (self._lacks(group, sample.sample_id, need) for group in groups for sample in group.samples)
        return union(need for need in found if need is not None)

    def changed(self, groups: Iterable[ImageGroup]) -> list[Path]:
        """The images that are others than those that were attended under the same samples' ids."""
        return [
            group.path
            for group in groups
            if any(self._entries.get(s.sample_id) and not self._valid(group, s.sample_id) for s in group.samples)
        ]

    def write(self, attentions: Sequence[Attention]) -> None:
        """As `append`, of attention whose maps are not packed yet."""
        self.append([Part.of(attention) for attention in attentions])

    def append(self, parts: Sequence[Part]) -> None:
        """Appends one shard. Raises StoreError; then nothing of this shard remains, and all earlier ones do."""
        if parts:
            path = self.folder / f"{uuid.uuid4().hex}.safetensors"
            self._add(path, write_shard(path, parts))
            if self.appended is not None:
                self.appended(parts)

    def tidy(self, older_s: float = LITTER_S) -> None:
        """Deletes what killed runs left: half-written files, and arrays that never got their listing.

        Only what is `older_s` old, because another run may be writing right now.
        """
        leftovers = [path for path in self.folder.glob(".*") if path.is_file()]
        leftovers += [path for path in self.folder.glob("*.safetensors") if not listing_of(path).exists()]
        for path in leftovers:
            with suppress(OSError):  # another run may be tidying, or the store is read-only
                if time.time() - path.stat().st_mtime > older_s:
                    path.unlink()

    def read(
        self,
        groups: Iterable[ImageGroup],
        scored_by: tuple[str, ...] | None = None,
        heads: Collection[HeadIndex] | None = None,
    ) -> Iterator[Attention]:
        """The stored attention of the groups' samples, at most one image at a time; absent samples are left out.

        A sample with the maps of all heads comes with its image's others; any other comes by itself, with everything
        that is stored of it; of several scores those `scored_by` this, else none. With `heads` no other maps are read.

        Raises:
            DamagedShard: what is read is not what was written. Its shard is set aside: what it held is missing now.
        """
        wanted = None if heads is None else sorted(heads)
        for group in groups:
            whole, parts = self._whole_and_parts(group)
            for entry, sample_ids in whole:
                rows = [i for i, sample_id in enumerate(entry.sample_ids) if sample_id in sample_ids]
                yield _scored_by(self._load(entry, rows, wanted), scored_by)
            for sample_id, entries in parts:
                found = [self._load(entry, [entry.sample_ids.index(sample_id)], wanted) for entry in entries]
                yield _merged(found, scored_by)

    def read_numbers(self, groups: Iterable[ImageGroup], scored_by: tuple[str, ...]) -> Iterator[Attention]:
        """As `read`, but the maps of images only of which some scores are not stored."""
        for group in groups:
            without_maps = list(self.read([group], scored_by, heads=()))
            stored = all(attention.scores is not None for attention in without_maps)
            yield from without_maps if stored else self.read([group], scored_by)

    def has_all_maps(self, group: ImageGroup) -> bool:
        """Whether those of the group's samples that have attention have the maps of all heads."""
        return all(map(_whole, filter(None, (self._valid(group, sample.sample_id) for sample in group.samples))))

    def read_overlaps(self, group: ImageGroup, key: str) -> Iterator[tuple[tuple[str, ...], Overlaps]]:
        """-> (ids of samples that were asked together, the overlaps of their maps), of those that depend on `key`.

        Raises DamagedShard as `read`.
        """
        own = (self._together(group, sample.sample_id, key) for sample in group.samples)
        for entry in {id(entry): entry for entry in own if entry is not None}.values():
            yield entry.sample_ids, self._checked(partial(load_overlaps, entry))

    def kept(
        self,
        name: str,
        groups: Sequence[ImageGroup],
        depends_on: Any,
        make: Callable[[], Arrays],
        enough: Callable[[Arrays], bool] = lambda _: True,
    ) -> Arrays:
        """What `make` works out of what is stored of the groups and of what it `depends_on` besides, or what an earlier
        run did; see `kept`. In a store of other versions nothing is kept."""
        if not self.keeps:
            return make()
        places = [
            [sample.sample_id, [[entry.shard.name, entry.position] for entry in self._valid(group, sample.sample_id)]]
            for group in groups
            for sample in group.samples
        ]
        return kept(self.folder, name, [places, depends_on], make, enough)

    def set_aside(self, shard: Path, why: str) -> None:
        """From now on it is not there: its files get other names, and what it held is missing."""
        entries = {sample_id: [one for one in own if one.shard != shard] for sample_id, own in self._entries.items()}
        if entries != self._entries or shard not in self._indexed:
            log.warning("Shard %s is damaged (%s): it is set aside and computed again.", shard, why)
        self._entries = entries
        self._indexed.add(shard)
        for file in (listing_of(shard), shard):
            with suppress(OSError):  # another run may have set it aside already, or the store is read-only
                file.rename(file.with_name(file.name + ".damaged"))

    def set_damaged_aside(self, groups: Iterable[ImageGroup]) -> None:
        """Reads everything that is stored of the groups' samples, and sets aside what is damaged."""
        for group in groups:
            entries = {id(entry): entry for s in group.samples for entry in self._valid(group, s.sample_id)}
            for entry in entries.values():
                with suppress(DamagedShard):
                    self._load(entry, range(len(entry.sample_ids)), None)
                    if entry.overlaps is not None:
                        self._checked(partial(load_overlaps, entry))

    def _load(self, entry: Entry, rows: Sequence[int], heads: Sequence[HeadIndex] | None) -> Attention:
        return self._checked(partial(load, entry, rows, heads))

    def _checked(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except DamagedShard as error:
            if self.sets_aside:
                self.set_aside(error.shard, error.why)
            raise

    def image(self, group: ImageGroup) -> str | None:
        """sha256 of the group's image, read once where it is not known already; None where it is not there. For a part
        of the image the part follows, so that neither is taken for the other.

        Of the bytes, not size and time, which differ between copies of one data set.
        """
        if group.path not in self._images:
            try:
                self._images[group.path] = file_digest(group.path)
            except OSError:
                self._images[group.path] = None
        digest = self._images[group.path]
        return digest if group.crop is None or digest is None else f"{digest}@{','.join(map(str, group.crop))}"

    def grid_of_all_maps(self, group: ImageGroup, sample_id: str) -> tuple[int, int] | None:
        """(rows, columns) of a sample with the maps of all heads, without reading anything; None of any other."""
        whole = _whole(self._valid(group, sample_id))
        return None if whole is None else (whole.geometry.rows, whole.geometry.cols)

    def _whole_and_parts(self, group: ImageGroup) -> tuple[list[tuple[Entry, set[str]]], list[tuple[str, list[Entry]]]]:
        """-> (entries with all maps and the samples to take from each, samples in parts with their entries)."""
        whole: dict[int, tuple[Entry, set[str]]] = {}
        parts = []
        for sample in group.samples:
            entries = self._valid(group, sample.sample_id)
            if (entry := _whole(entries)) is not None:
                whole.setdefault(id(entry), (entry, set()))[1].add(sample.sample_id)
            elif entries:
                parts.append((sample.sample_id, entries))
        return list(whole.values()), parts

    def _valid(self, group: ImageGroup, sample_id: str) -> list[Entry]:
        """The sample's entries that were made from the image that is there now; all where none is there."""
        entries = self._entries.get(sample_id, [])
        if not entries or (image := self.image(group)) is None:
            return entries
        return [entry for entry in entries if entry.image in (None, image)]

    def _lacks(self, group: ImageGroup, sample_id: str, need: NeededMaps) -> NeededMaps | None:
        key = need.overlaps.get(sample_id)
        overlaps = None if key is None or self._has_overlaps(group, sample_id, key) else {sample_id: key}
        return lacking(need, sample_id, self._valid(group, sample_id), overlaps)

    def _has_overlaps(self, group: ImageGroup, sample_id: str, key: str) -> bool:
        """Whether a sample's overlaps with all others of the group that have attention are stored, or all maps of the
        group, from which they follow."""
        stored = {sample.sample_id: self._valid(group, sample.sample_id) for sample in group.samples}
        asked = {name for name, entries in stored.items() if entries}
        entry = self._together(group, sample_id, key)
        return all(map(_whole, stored.values())) or (entry is not None and asked <= set(entry.sample_ids))

    def _together(self, group: ImageGroup, sample_id: str, key: str) -> Entry | None:
        """Of the sample's entries with overlaps that depend on `key`, the one with the most samples."""
        entries = [entry for entry in self._valid(group, sample_id) if entry.overlaps == key]
        return max(entries, key=lambda entry: len(entry.sample_ids), default=None)

    def _index(self, shard: Path) -> None:
        try:
            self._add(shard, read_listing(shard))
        except BROKEN as error:
            self.set_aside(shard, str(error))

    def _add(self, shard: Path, entries: Iterable[Entry]) -> None:
        self._indexed.add(shard)
        for entry in entries:
            for sample_id in entry.sample_ids:
                self._entries.setdefault(sample_id, []).append(entry)


def count(groups: Iterable[ImageGroup]) -> int:
    """How many samples they hold."""
    return sum(len(group.samples) for group in groups)


def _whole(entries: Sequence[Entry]) -> Entry | None:
    """The last with the maps of all heads."""
    return next((entry for entry in reversed(entries) if entry.heads is None), None)


def _scored_by(attention: Attention, scored_by: tuple[str, ...] | None) -> Attention:
    return attention if attention.scored_by == scored_by else replace(attention, scores=None, scored_by=None)


def _merged(parts: Sequence[Attention], scored_by: tuple[str, ...] | None) -> Attention:
    """Everything that several entries hold of one sample."""
    maps = {head: part.maps[:, i] for part in parts for i, head in enumerate(part.heads or ())}
    last = parts[-1]
    empty = np.zeros((1, 0, *last.maps.shape[-2:]), np.float32)
    return replace(
        last,
        heads=tuple(sorted(maps)),
        maps=np.stack([maps[head] for head in sorted(maps)], axis=1) if maps else empty,
        scores=next((part.scores for part in parts if part.scores and part.scored_by == scored_by), None),
        scored_by=scored_by,
        mean=next((part.mean for part in parts if part.mean is not None), None),
        cells=next((part.cells for part in parts if part.cells is not None), None),
    )
