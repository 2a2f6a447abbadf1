"""The attention store: what the attention pass found, so that the LVLM is never asked the same thing twice.

A folder per digest of everything that determines the maps. In it, shards of some pictures each: a safetensors
file with the arrays and, written after it, a JSON file that lists its content and its checksum. A shard without
its JSON does not exist; a shard whose bytes do not match is set aside and computed again. Nothing is rewritten,
so several runs may fill the same store.
"""

import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from locheads.models.geometry import Geometry
from locheads.store.atomic import replacing, write_json
from locheads.store.digest import file_digest, json_digest
from locheads.types import Attention, ImageGroup

log = logging.getLogger(__name__)

FORMAT = 3
"""Raise it when the capture or the layout changes, so that old stores are not read as new ones."""


@dataclass(frozen=True)
class _Entry:
    """Where one picture's arrays lie, and which samples their rows are."""

    shard: Path
    position: int
    """Which of the shard's pictures, from 0."""
    image_id: str
    sample_ids: tuple[str, ...]
    geometry: Geometry


class AttentionStore:
    """Reads and appends; holds an index in memory, never the maps."""

    def __init__(self, cache: Path, key: dict[str, Any]) -> None:
        """`key` holds everything that determines the maps, as plain values. Raises StoreError if unwritable."""
        self.digest = json_digest({"format": FORMAT, **key})
        self.folder = cache / "attention" / self.digest[:16]
        self._entries: dict[str, _Entry] = {}
        if not (self.folder / "key.json").exists():
            write_json(self.folder / "key.json", {"format": FORMAT, **key})
        for listing in sorted(self.folder.glob("*.shard.json")):
            self._index(listing)

    def missing(self, groups: Iterable[ImageGroup]) -> list[ImageGroup]:
        """The pictures and expressions that are not stored yet, each group with only those samples."""
        result = []
        for group in groups:
            absent = tuple(s for s in group.samples if s.sample_id not in self._entries)
            if absent:
                result.append(ImageGroup(group.image_id, group.path, group.width, group.height, absent))
        return result

    def write(self, attentions: Sequence[Attention]) -> None:
        """Appends one shard. Raises StoreError; then nothing of this shard remains, and all earlier ones do."""
        if not attentions:
            return
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        arrays: dict[str, np.ndarray] = {}
        for position, attention in enumerate(attentions):
            arrays |= _pack(position, attention)
        with replacing(path) as temporary:
            _save(arrays, temporary)
            checksum = file_digest(temporary)
        listing = path.with_suffix(".shard.json")
        try:
            write_json(listing, {"sha256": checksum, "pictures": [_describe(a) for a in attentions]})
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._index(listing, verify=False)

    def read(self, groups: Iterable[ImageGroup]) -> Iterator[Attention]:
        """The stored attention of the groups' samples, one picture at a time; absent samples are left out."""
        for group in groups:
            entries = {id(e): e for s in group.samples if (e := self._entries.get(s.sample_id))}
            wanted = {sample.sample_id for sample in group.samples}
            for entry in entries.values():
                yield _load(entry, [i for i, sample_id in enumerate(entry.sample_ids) if sample_id in wanted])

    def _index(self, listing: Path, verify: bool = True) -> None:
        shard = listing.with_name(listing.name.removesuffix(".shard.json") + ".safetensors")
        try:
            content = json.loads(listing.read_text())
            if verify and file_digest(shard) != content["sha256"]:
                raise ValueError("its checksum does not match")
            entries = [_entry(shard, i, picture) for i, picture in enumerate(content["pictures"])]
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("Shard %s is damaged (%s): it is set aside and computed again.", shard, error)
            with suppress(OSError):  # another run may have set it aside already, or the store is read-only
                listing.rename(listing.with_suffix(".damaged"))
            return
        self._entries |= {sample_id: entry for entry in entries for sample_id in entry.sample_ids}


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    # save_file writes memory as it lies: a permuted array (the pass gives [sample, layer, head, ...] so) comes back
    # with its axes mixed up.
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        save_file(contiguous, path)
    except SafetensorError as error:  # its word for a full disk, which is no OSError
        raise OSError(str(error)) from error


def _pack(position: int, attention: Attention) -> dict[str, np.ndarray]:
    """Maps in 16 bits, each scaled by its peak: weights of faint heads would be subnormal otherwise.

    Named by the place in the shard, because a shard may hold a picture twice.
    """
    peaks = attention.maps.max(axis=(-2, -1), keepdims=True)
    scaled = np.divide(attention.maps, peaks, out=np.zeros_like(attention.maps), where=peaks > 0)
    return {
        f"{position}.maps": scaled.astype(np.float16),
        f"{position}.peaks": peaks.astype(np.float32),
        f"{position}.sums": attention.sums.astype(np.float32),
    }


def _describe(attention: Attention) -> dict[str, Any]:
    return {
        "image_id": attention.image_id,
        "sample_ids": list(attention.sample_ids),
        "geometry": attention.geometry.as_dict(),
    }


def _entry(shard: Path, position: int, picture: dict[str, Any]) -> _Entry:
    geometry = Geometry.from_dict(picture["geometry"])
    return _Entry(shard, position, picture["image_id"], tuple(picture["sample_ids"]), geometry)


def _load(entry: _Entry, rows: list[int]) -> Attention:
    with safe_open(entry.shard, framework="numpy") as file:
        arrays: dict[str, Float[np.ndarray, ...]] = {
            name: file.get_tensor(f"{entry.position}.{name}")[rows] for name in ("maps", "peaks", "sums")
        }
    maps = arrays["maps"].astype(np.float32) * arrays["peaks"]
    return Attention(entry.image_id, tuple(entry.sample_ids[i] for i in rows), maps, arrays["sums"], entry.geometry)
