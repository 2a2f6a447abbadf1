"""One shard of the attention store: a safetensors file with the arrays of some images, and a listing of them.

The listing, JSON, is written after the arrays: a shard without one does not exist. It holds a checksum of itself and of
each array but the maps, which have one each, so that a reader of a few heads reads and checks no other bytes. Whether
the arrays are whole is found when they are read.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from safetensors.numpy import save_file

from locheads.errors import StoreError
from locheads.geometry import Geometry
from locheads.store.atomic import replacing, write_json
from locheads.store.digest import json_digest
from locheads.store.packed_maps import PackedMaps
from locheads.types import Attention, HeadIndex, HeadScores, Overlaps

LISTING = ".shard.json"

FIRST_NUMBERS = ("sums", "entropy", "bottom_row")
"""The scores whose arrays have their names."""

DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32}
"""The names that safetensors has for what is in a shard."""

BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a damaged shard raises."""


class DamagedShard(StoreError):
    """A shard whose bytes are not those that were written; whoever reads the store sets it aside."""

    def __init__(self, shard: Path, why: str) -> None:
        super().__init__(shard, why)
        self.shard, self.why = shard, why

    def __str__(self) -> str:
        return f"Shard {self.shard} is damaged ({self.why}): start again, and what it held is computed again."


@dataclass(frozen=True)
class Part:
    """What a shard holds of one image, ready to be written."""

    arrays: Mapping[str, np.ndarray]
    record: Mapping[str, Any]
    """Of the listing."""

    @classmethod
    def of(
        cls,
        attention: Attention,
        packed: PackedMaps | None = None,
        overlaps: Overlaps | None = None,
        overlaps_key: str | None = None,
    ) -> "Part":
        """The arrays of one image.

        Args:
            attention: of some of its samples.
            packed: its maps, where they are packed already.
            overlaps: of the maps of all heads of the same samples.
            overlaps_key: what they depend on.
        """
        arrays = _arrays(attention, packed or PackedMaps.of(attention.maps))
        if overlaps is not None:
            arrays |= {"overlap": overlaps.overlap, "cell_of_peak": overlaps.peaks}
        return cls(arrays, _describe(attention, arrays) | {"overlaps": overlaps_key})

    @property
    def image_id(self) -> str:
        image_id: str = self.record["image_id"]
        return image_id

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class Entry:
    """Where one image's arrays lie, which samples their rows are, and what is known of them."""

    shard: Path
    position: int
    """Which of the shard's images, from 0, because a shard may hold an image twice."""
    image_id: str
    image: str | None
    """sha256 of the image's file."""
    sample_ids: tuple[str, ...]
    geometry: Geometry
    heads: tuple[HeadIndex, ...] | None
    """Whose maps are there; None: everybody's, from which all the rest follows."""
    scored_by: tuple[str, ...] | None
    numbers: tuple[str, ...]
    """Names of the scores that are there."""
    mean: bool
    cells: tuple[int, int] | None
    """(rows, columns) of a map where the cells above the mean are there."""
    overlaps: str | None
    """What the overlaps of the samples depend on, where they are there."""
    checksums: Mapping[str, int]
    """crc32 of each array but the maps."""
    head_checksum: int
    """crc32 of the shard's first bytes, which say where its arrays lie."""

    @cached_property
    def places(self) -> dict[HeadIndex, int]:
        """Head -> its place among the stored maps, where not everybody's are there."""
        return {head: i for i, head in enumerate(self.heads or ())}


def write_shard(path: Path, parts: Sequence[Part]) -> list[Entry]:
    """Writes the arrays to `path` and then their listing. -> its entries. Raises StoreError; then neither remains."""
    arrays = {f"{position}.{name}": array for position, part in enumerate(parts) for name, array in part.arrays.items()}
    with replacing(path) as temporary:
        _save(arrays, temporary)
        head = zlib.crc32(_head(temporary))
        content = {"bytes": temporary.stat().st_size, "head": head, "pictures": [dict(part.record) for part in parts]}
    try:
        write_json(listing_of(path), content | {"listing_sha256": json_digest(content)})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return [_entry(path, position, part.record, head) for position, part in enumerate(parts)]


def read_listing(shard: Path) -> list[Entry]:
    """The shard's images. Raises one of BROKEN where the listing is damaged, or the arrays have another size."""
    content = json.loads(listing_of(shard).read_text())
    if content.pop("listing_sha256") != json_digest(content):
        raise ValueError("the checksum of its listing does not match")
    if shard.stat().st_size != content["bytes"]:
        raise ValueError(f"it has {shard.stat().st_size} bytes, and its listing says {content['bytes']}")
    return [_entry(shard, position, image, content["head"]) for position, image in enumerate(content["pictures"])]


def listing_of(shard: Path) -> Path:
    """The listing beside the arrays."""
    return shard.with_suffix(LISTING)


def shard_of(listing: Path) -> Path:
    """The arrays beside the listing."""
    return listing.with_name(listing.name.removesuffix(LISTING) + ".safetensors")


def load(entry: Entry, rows: Sequence[int], heads: Sequence[HeadIndex] | None = None) -> Attention:
    """The entry's arrays for some of its samples.

    Args:
        entry: of an image.
        rows: of its samples.
        heads: whose maps are read, of those that are there; None: all.

    Raises:
        DamagedShard: what is read is not what was written.
    """
    with _opened(entry) as arrays:
        return _load(arrays, entry, list(rows), heads)


def load_overlaps(entry: Entry) -> Overlaps:
    """Of all samples of an entry that has them. Raises DamagedShard as `load`."""
    with _opened(entry) as arrays:
        return Overlaps(
            arrays.whole("overlap"), arrays.whole("cell_of_peak"), (entry.geometry.rows, entry.geometry.cols)
        )


@contextmanager
def _opened(entry: Entry) -> Iterator["_Arrays"]:
    try:
        with FileIO(entry.shard) as file:  # maps lie far apart: nothing is read ahead
            yield _Arrays(entry, file)
    except BROKEN as error:
        raise DamagedShard(entry.shard, str(error)) from error


def _load(arrays: "_Arrays", entry: Entry, rows: list[int], heads: Sequence[HeadIndex] | None) -> Attention:
    ids = tuple(entry.sample_ids[i] for i in rows)
    if heads is not None:
        chosen = tuple(heads) if entry.heads is None else tuple(head for head in heads if head in entry.places)
        maps = arrays.maps_of(rows, chosen)
    else:
        chosen, maps = entry.heads, arrays.maps(rows)  # type: ignore[assignment]
    cells = None
    if entry.cells is not None:
        bits = np.unpackbits(arrays.whole("cells")[rows], axis=-1, count=entry.cells[0] * entry.cells[1])
        cells = bits.reshape(*bits.shape[:-1], *entry.cells).astype(bool)
    return Attention(
        entry.image_id,
        ids,
        maps,
        arrays.whole("sums")[rows] if entry.heads is None else None,
        entry.geometry,
        entry.image,
        chosen,
        _scores(arrays, entry, rows),
        entry.scored_by,
        arrays.whole("mean")[rows] if entry.mean else None,
        cells,
    )


def _scores(arrays: "_Arrays", entry: Entry, rows: list[int]) -> HeadScores | None:
    numbers = {name: arrays.whole(_array_of(name))[rows] for name in entry.numbers}
    return HeadScores(tuple(entry.sample_ids[i] for i in rows), numbers) if numbers else None


@dataclass(frozen=True)
class _Arrays:
    """The arrays of one image in an open shard; whatever is read is compared with its checksum."""

    entry: Entry
    file: FileIO

    def whole(self, name: str) -> Shaped[np.ndarray, "..."]:
        """An array that is not the maps."""
        dtype, shape, start = self._layout(name)
        content = self._bytes(name, start, int(np.prod(shape)) * dtype.itemsize)
        if zlib.crc32(content) != self.entry.checksums[name]:
            raise ValueError(f"the checksum of {name} of image {self.entry.image_id} does not match")
        return np.frombuffer(content, dtype).reshape(shape)

    def maps(self, rows: list[int]) -> Float[np.ndarray, "sample *head row col"]:
        """Every map that is there."""
        _, (_, *stored, _, _), _ = self._layout("maps")
        return self._unpacked(np.ix_(rows, *map(range, stored)))

    def maps_of(self, rows: list[int], heads: Sequence[HeadIndex]) -> Float[np.ndarray, "sample head row col"]:
        """Those of some heads, all of which are there."""
        everybodys = self.entry.heads is None
        places = [(head.layer, head.head) if everybodys else (self.entry.places[head],) for head in heads]
        columns = np.array(places, dtype=np.int64).reshape(len(heads), 2 if everybodys else 1).T
        return self._unpacked((np.array(rows)[:, None], *columns[:, None]))

    def _unpacked(self, at: tuple[np.ndarray, ...]) -> Float[np.ndarray, "sample *head row col"]:
        """The maps at these indices, which are broadcast."""
        dtype, (*stored, n_rows, n_cols), start = self._layout("maps")
        size, numbers = n_rows * n_cols * dtype.itemsize, np.ravel_multi_index(at, stored)
        content = memoryview(b"".join(self._read_maps(numbers.ravel(), start, size)))
        found = [zlib.crc32(content[i : i + size]) for i in range(0, len(content), size)]
        if found != self.whole("map_checksums")[at].ravel().tolist():
            raise ValueError(f"the checksum of a map of image {self.entry.image_id} does not match")
        scaled = np.frombuffer(content, dtype).reshape(*numbers.shape, n_rows, n_cols)
        return PackedMaps(scaled, self.whole("peaks")[at][..., None, None]).unpacked()

    def _read_maps(self, numbers: np.ndarray, start: int, size: int) -> Iterator[bytes]:
        """Those that follow each other at once."""
        firsts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
        lengths = np.diff(firsts, append=len(numbers))
        for number, length in zip(numbers[firsts].tolist(), lengths.tolist(), strict=True):
            yield self._bytes("maps", start + number * size, length * size)

    def _layout(self, name: str) -> tuple[np.dtype, list[int], int]:
        return _layout(self.entry.shard, self.entry.head_checksum)[f"{self.entry.position}.{name}"]

    def _bytes(self, name: str, start: int, size: int) -> bytes:
        self.file.seek(start)
        content = self.file.read(size)
        while len(content) < size and (more := self.file.read(size - len(content))):
            content += more  # a network's file system may give less than was asked for
        if len(content) != size:
            raise ValueError(f"{name} of image {self.entry.image_id} ends early")
        return content


@lru_cache(maxsize=64)
def _layout(shard: Path, checksum: int) -> dict[str, tuple[np.dtype, list[int], int]]:
    """Name -> (type, shape, where it begins in the file)."""
    head = _head(shard)
    if zlib.crc32(head) != checksum:
        raise ValueError("the checksum of its head does not match")
    return {
        name: (np.dtype(DTYPES[array["dtype"]]), array["shape"], len(head) + array["data_offsets"][0])
        for name, array in json.loads(head[8:]).items()
    }


def _head(shard: Path) -> bytes:
    """How a safetensors file begins: 8 bytes say how long the JSON behind them is, which says where the arrays lie."""
    with shard.open("rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), shard.stat().st_size))


def _arrays(attention: Attention, packed: PackedMaps) -> dict[str, np.ndarray]:
    arrays = {"maps": packed.scaled, "peaks": packed.peaks[..., 0, 0]}
    if attention.sums is not None:
        arrays["sums"] = attention.sums.astype(np.float32)
    if attention.scores is not None:
        numbers = {name: values for name, values in attention.scores.numbers.items() if name not in arrays}
        arrays |= {_array_of(name): values for name, values in numbers.items()}
    if attention.mean is not None:
        arrays["mean"] = attention.mean
    if attention.cells is not None:
        arrays["cells"] = np.packbits(attention.cells.reshape(*attention.cells.shape[:3], -1), axis=-1)
    # safetensors writes memory as it lies: a permuted array would come back with its axes mixed up.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return arrays | {"map_checksums": _map_checksums(arrays["maps"])}


def _map_checksums(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(-1, maps.shape[-2] * maps.shape[-1])
    return np.array([_checksum(one) for one in flat], np.uint32).reshape(maps.shape[:-2])


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.data)


def _array_of(number: str) -> str:
    """The name of its array, which no other array has."""
    return number if number in FIRST_NUMBERS else f"numbers.{number}"


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        save_file(arrays, path)
    except SafetensorError as error:  # its word for a full disk, which is no OSError
        raise OSError(str(error)) from error


def _describe(attention: Attention, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    scores, cells = attention.scores, attention.cells
    return {
        "image_id": attention.image_id,
        "picture": attention.image,
        "sample_ids": list(attention.sample_ids),
        "geometry": attention.geometry.as_dict(),
        "heads": None if attention.heads is None else [[head.layer, head.head] for head in attention.heads],
        "scored_by": None if scores is None else list(attention.scored_by or ()),
        "numbers": [] if scores is None else list(scores.numbers),
        "mean": attention.mean is not None,
        "cells": None if cells is None else list(cells.shape[-2:]),
        "checksums": {name: _checksum(array) for name, array in arrays.items() if name != "maps"},
    }


def _entry(shard: Path, position: int, record: Mapping[str, Any], head_checksum: int) -> Entry:
    heads, scored_by, cells = (record[name] for name in ("heads", "scored_by", "cells"))
    return Entry(
        shard,
        position,
        record["image_id"],
        record["picture"],
        tuple(record["sample_ids"]),
        Geometry.from_dict(record["geometry"]),
        None if heads is None else tuple(HeadIndex(*head) for head in heads),
        None if scored_by is None else tuple(scored_by),
        tuple(record["numbers"]),
        record["mean"],
        None if cells is None else tuple(cells),
        record.get("overlaps"),  # earlier versions have none
        record["checksums"],
        head_checksum,
    )
