"""One shard of the attention store: a safetensors file with the arrays of some images, and a listing of them.

The listing, JSON, is written after the arrays and holds their checksum and its own: a shard without a listing does
not exist, and one whose bytes do not match is damaged.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from locheads.geometry import Geometry
from locheads.store.atomic import replacing, write_json
from locheads.store.digest import file_digest, json_digest
from locheads.types import Attention, CompactAttention, HeadIndex, HeadScores

LISTING = ".shard.json"

FIRST_NUMBERS = ("sums", "entropy", "bottom_row")
"""The scores that a listing without their names has, and whose arrays have these names."""

Stored = Attention | CompactAttention


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


def write_shard(path: Path, attentions: Sequence[Stored]) -> None:
    """Writes the arrays to `path` and then their listing. Raises StoreError; then neither remains."""
    arrays: dict[str, np.ndarray] = {}
    for position, attention in enumerate(attentions):
        arrays |= {f"{position}.{name}": array for name, array in _arrays(attention).items()}
    with replacing(path) as temporary:
        _save(arrays, temporary)
        checksum = file_digest(temporary)
    content = {"sha256": checksum, "pictures": [_describe(attention) for attention in attentions]}
    try:
        write_json(listing_of(path), content | {"listing_sha256": json_digest(content)})
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_listing(shard: Path, verify: bool = True) -> list[Entry]:
    """The shard's images. Raises OSError, ValueError, LookupError or TypeError where it is damaged."""
    content = json.loads(listing_of(shard).read_text())
    if content.pop("listing_sha256") != json_digest(content):
        raise ValueError("the checksum of its listing does not match")
    if verify and file_digest(shard) != content["sha256"]:
        raise ValueError("its checksum does not match")
    return [_entry(shard, position, image) for position, image in enumerate(content["pictures"])]


def listing_of(shard: Path) -> Path:
    """The listing beside the arrays."""
    return shard.with_suffix(LISTING)


def shard_of(listing: Path) -> Path:
    """The arrays beside the listing."""
    return listing.with_name(listing.name.removesuffix(LISTING) + ".safetensors")


def load(entry: Entry, rows: Sequence[int]) -> Stored:
    """The entry's arrays for some of its samples."""
    ids = tuple(entry.sample_ids[i] for i in rows)
    with safe_open(entry.shard, framework="numpy") as file:
        # One sample of many is read alone; several at once are quicker whole.
        pick = slice(rows[0], rows[0] + 1) if len(rows) == 1 else list(rows)

        def get(name: str) -> np.ndarray:
            full = f"{entry.position}.{name}"
            return file.get_slice(full)[pick] if isinstance(pick, slice) else file.get_tensor(full)[pick]

        maps = get("maps").astype(np.float32) * get("peaks")
        if entry.heads is None:
            return Attention(entry.image_id, ids, maps, get("sums"), entry.geometry, entry.image)
        cells = None
        if entry.cells is not None:
            bits = np.unpackbits(get("cells"), axis=-1, count=entry.cells[0] * entry.cells[1])
            cells = bits.reshape(*bits.shape[:-1], *entry.cells).astype(bool)
        return CompactAttention(
            entry.image_id,
            ids,
            entry.heads,
            maps,
            entry.geometry,
            HeadScores(ids, {name: get(_array_of(name)) for name in entry.numbers}) if entry.numbers else None,
            entry.scored_by,
            get("mean") if entry.mean else None,
            cells,
            entry.image,
        )


def rounded(maps: np.ndarray) -> np.ndarray:
    """What comes back of the maps [..., row, col] once they were stored in 16 bits."""
    peaks, scaled = _scale(maps)
    return scaled.astype(np.float32) * peaks


def _scale(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> (peak of each map, maps over their peaks in 16 bits): weights of faint heads would be subnormal otherwise."""
    peaks = maps.max(axis=(-2, -1), keepdims=True) if maps.size else np.zeros((*maps.shape[:-2], 1, 1), np.float32)
    scaled = np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
    return peaks.astype(np.float32), scaled.astype(np.float16)


def _arrays(attention: Stored) -> dict[str, np.ndarray]:
    peaks, scaled = _scale(attention.maps)
    arrays = {"maps": scaled, "peaks": peaks}
    if isinstance(attention, Attention):
        arrays["sums"] = attention.sums.astype(np.float32)
    if attention.scores is not None:
        arrays |= {_array_of(name): values for name, values in attention.scores.numbers.items()}
    if attention.mean is not None:
        arrays["mean"] = attention.mean
    if attention.cells is not None:
        arrays["cells"] = np.packbits(attention.cells.reshape(*attention.cells.shape[:3], -1), axis=-1)
    return arrays


def _array_of(number: str) -> str:
    """The name of its array, which no other array has."""
    return number if number in FIRST_NUMBERS else f"numbers.{number}"


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    # save_file writes memory as it lies: a permuted array comes back with its axes mixed up.
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        save_file(contiguous, path)
    except SafetensorError as error:  # its word for a full disk, which is no OSError
        raise OSError(str(error)) from error


def _describe(attention: Stored) -> dict[str, Any]:
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
    }


def _entry(shard: Path, position: int, record: dict[str, Any]) -> Entry:
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
        () if scored_by is None else tuple(record.get("numbers", FIRST_NUMBERS)),
        record["mean"],
        None if cells is None else tuple(cells),
    )
