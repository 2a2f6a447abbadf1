"""Samples as one parquet table: what a data set is converted to once, and read from later."""

import logging
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from locheads.data.pathnames import find_picture
from locheads.data.records import no_garbage_collection
from locheads.store.atomic import replacing
from locheads.types import ImageGroup, Sample

log = logging.getLogger(__name__)

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
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary)


@no_garbage_collection()
def read_samples(path: Path, images: Path) -> list[ImageGroup] | None:
    """The groups in the order they were written; None where there is no table, or a damaged one (logged)."""
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    # pyarrow raises its own errors, OSError or ValueError, by where the damage is.
    except Exception as error:
        log.warning("%s is damaged (%s) and is made again.", path, type(error).__name__)
        return None
    rows = table.to_pylist()
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
    return ImageGroup(first["image_id"], find_picture(images, first["file_name"]), width, height, samples)
