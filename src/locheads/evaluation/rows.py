"""One row per expression and method: what was answered, before anybody looks at the truth.

But for OF_MAPS: they need the map, which is not kept, so they are taken with the answer. Nothing that answers reads
them, and the file of the rows leaves them out (`SCHEMA`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool
from pycocotools import mask as coco

from locheads.data.image_groups import may_name_several
from locheads.evaluation.heat_metrics import HEAT_METRICS
from locheads.evaluation.map_metrics import MAP_METRICS
from locheads.grounding.candidates import Candidates
from locheads.types import Box, HeadIndex, ImageGroup, Sample

Row = dict[str, Any]

OF_MAPS = (*MAP_METRICS, *HEAT_METRICS)
"""What a row tells of its map: the former where the truth is a mask, the latter where it is a heat map."""

SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("draw", pa.int64()),
        *((name, pa.string()) for name in ("sample_id", "image_id", "ref_id", "expression", "heads")),
        *((name, pa.float64()) for name in ("x0", "y0", "x1", "y1", "peak_x", "peak_y")),
        ("mask_counts", pa.string()),
        *((name, pa.int32()) for name in ("mask_height", "mask_width")),
        ("error", pa.string()),
    ]
)
"""Columns of a file of predictions: boxes and peak in pixels of the image, the mask in COCO's run-length code."""

OF_CANDIDATES = pa.schema(
    [
        ("candidate_boxes", pa.list_(pa.list_(pa.float64()))),
        ("candidate_scores", pa.list_(pa.float64())),
        ("n_answered", pa.int32()),
        ("objects_mask", pa.string()),
    ]
)
"""Further columns where expressions may name several objects: boxes with their scores, the best first; how many of them
are the answer, which is none where it is 0; the mask of these together, in COCO's run-length code. Null where the
single box is the answer."""


def of_candidates(groups: Iterable[ImageGroup]) -> list[pa.Field]:
    """The further columns of a data set whose expressions may name several objects."""
    return list(OF_CANDIDATES) if may_name_several(groups) else []


def candidate_columns(found: Candidates) -> Row:
    """The cells of OF_CANDIDATES."""
    return candidate_cells(found.boxes, found.scores, found.n_answered, found.mask)


def candidate_cells(boxes: Sequence[Box], scores: Sequence[float] | None, n_answered: int, mask: str | None) -> Row:
    """The same of candidates that no map gave."""
    return dict(zip(OF_CANDIDATES.names, (boxes, scores, n_answered, mask), strict=True))


def prediction_row(
    group: ImageGroup,
    sample: Sample,
    method: str,
    *,
    draw: int = 0,
    heads: Sequence[HeadIndex] = (),
    box: Box | None = None,
    counts: str | None = None,
    point: tuple[float, float] | None = None,
    error: str | None = None,
) -> Row:
    """What a method answers to an expression: a box, a mask (`counts`, see `mask_counts`), a point, or nothing."""
    return {
        "method": method,
        "draw": draw,
        "sample_id": sample.sample_id,
        "image_id": group.image_id,
        "ref_id": sample.ref_id,
        "expression": sample.expression,
        "heads": " ".join(str(head) for head in heads),
        **dict(zip(("x0", "y0", "x1", "y1"), box or (None,) * 4, strict=True)),
        **dict(zip(("peak_x", "peak_y"), point or (None, None), strict=True)),
        "mask_counts": counts,
        "mask_height": group.height,
        "mask_width": group.width,
        "error": error,
        **dict.fromkeys(OF_MAPS),
    }


def mask_counts(mask: Bool[np.ndarray, "height width"]) -> str:
    """The mask in COCO's run-length code, without its size."""
    counts: bytes = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts.decode("ascii")
