"""Samples as one parquet table: what a data set is converted to once, and read from later."""

from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from locheads.data.annotation_files import no_garbage_collection
from locheads.data.pathnames import find_image
from locheads.store.atomic import write_bytes
from locheads.store.derived import BLANK, KEY, read_derived, with_checksum
from locheads.types import ImageGroup, Sample

VERSION = 3
"""Part of the cache's folder name: raise it when the columns or a reader's result change."""
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "file_name")),
        *((name, pa.int32()) for name in ("width", "height", "same_category")),
        *((name, pa.string()) for name in ("sample_id", "ref_id", "expression", "category", "counts")),
        *((name, pa.float64()) for name in ("x0", "y0", "x1", "y1")),
    ]
)


def write_samples(path: Path, groups: list[ImageGroup], images: Path) -> None:
    """One row per sample. Raises StoreError where it cannot be written."""
    rows = [_row(group, sample, images) for group in groups for sample in group.samples]
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({KEY: BLANK}))
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(path, with_checksum(content.getvalue().to_pybytes()))


@no_garbage_collection()
def read_samples(path: Path, images: Path) -> list[ImageGroup] | None:
    """The groups in the order they were written; None where there is no table, or a damaged one (logged)."""
    return read_derived(path, lambda content: _groups(content, images))


def _groups(content: bytes, images: Path) -> list[ImageGroup]:
    rows = pq.read_table(pa.BufferReader(content), schema=_SCHEMA).to_pylist()
    return [_group(list(of_image), images) for _, of_image in groupby(rows, lambda row: row["image_id"])]


def _row(group: ImageGroup, sample: Sample, images: Path) -> dict:
    name = group.path.relative_to(images) if group.path.is_relative_to(images) else group.path
    row = {"image_id": group.image_id, "file_name": str(name), "width": group.width, "height": group.height}
    row |= {"sample_id": sample.sample_id, "ref_id": sample.ref_id, "expression": sample.expression}
    row |= {"category": sample.category, "same_category": sample.same_category, "counts": sample.mask["counts"]}
    return row | dict(zip(("x0", "y0", "x1", "y1"), sample.box, strict=True))


def _group(rows: list[dict], images: Path) -> ImageGroup:
    first = rows[0]
    width, height = first["width"], first["height"]
    samples = tuple(
        Sample(
            row["sample_id"],
            row["ref_id"],
            row["expression"],
            (row["x0"], row["y0"], row["x1"], row["y1"]),
            {"size": [height, width], "counts": row["counts"]},
            row["category"],
            row["same_category"],
        )
        for row in rows
    )
    return ImageGroup(first["image_id"], find_image(images, first["file_name"]), width, height, samples)
