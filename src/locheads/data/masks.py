"""The segmentation of a COCO annotation (polygons or run-length code) as one compressed run-length code.

The masks are pycocotools'. What comes before is checked here, because its C code trusts its input: it reads a
list of four numbers as a box, and turns runs that do not fill the image into whatever lies in memory.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco

from locheads.data.annotation_files import field, is_number, short
from locheads.errors import DataError
from locheads.types import NO_BOX, Box, Sample

_ADVICE = "correct it, or leave it out"


def is_absent(segmentation: object) -> bool:
    """Whether an annotation has no mask, as the boxes of CVAT and Roboflow: nothing, or polygons without a point."""
    return not segmentation or (isinstance(segmentation, list) and not any(segmentation))


def to_rle(segmentation: object, width: int, height: int, where: str, empty: bool = False) -> dict[str, object]:
    """COCO `segmentation` -> `{"size": [height, width], "counts": str}`.

    Takes polygons (`[[x, y, x, y, ...], ...]` in pixels; their union is the mask), an uncompressed code
    (counts are a list) or a compressed one (counts are text). `where` names the annotation in the DataError
    that is raised for anything else, and, unless it may be `empty`, for a mask without a pixel.
    """
    if isinstance(segmentation, list):
        parts = _polygons(segmentation, width, height, where)
        code = coco.merge(coco.frPyObjects(parts, height, width))
    elif isinstance(segmentation, dict):
        code = _code(segmentation, width, height, where)
    else:
        raise DataError(
            f"{where} has a segmentation of type {type(segmentation).__name__}, but polygons (a list) or "
            f"run-length code (a mapping) are needed: {_ADVICE}."
        )
    if not empty and coco.area(code) == 0:
        raise DataError(f"{where} has a segmentation that covers no pixel: {_ADVICE}.")
    counts = code["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def encode(mask: np.ndarray, where: str) -> dict[str, object]:
    """A mask `[height, width]`, non-zero on the object -> run-length code. Raises DataError where it is empty."""
    if not mask.any():
        raise DataError(f"{where} has a mask that covers no pixel: {_ADVICE}.")
    code = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def box_mask(box: Box, width: int, height: int, where: str) -> dict[str, object]:
    """The pixels that an xyxy box touches, as run-length code: stands in where a data set has boxes only."""
    code = box_code(box, width, height)
    if code is None:
        raise DataError(f"{where} has a box that covers no pixel of its image: {_ADVICE}.")
    return code


def empty_code(width: int, height: int) -> dict[str, object]:
    """Run-length code of a mask without a pixel."""
    code = coco.frPyObjects({"size": [height, width], "counts": [width * height]}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def box_code(box: Box, width: int, height: int) -> dict[str, object] | None:
    """As `box_mask`; None where the box touches no pixel of the image."""
    x0, y0, x1, y1 = touched(box, width, height)
    if x1 <= x0 or y1 <= y0:
        return None
    # Whole numbers, of which pycocotools makes exactly these pixels.
    (code,) = coco.frPyObjects(np.array([[x0, y0, x1 - x0, y1 - y0]], dtype=np.float64), height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def decoded(samples: Iterable[Sample]) -> dict[str, Bool[np.ndarray, "height width"]]:
    """The true masks by their run-length code, each once: several expressions mean one object."""
    codes = {str(sample.mask["counts"]): sample.mask for sample in samples}
    return {counts: coco.decode(code).astype(bool) for counts, code in codes.items()}


def boxes_code(boxes: Iterable[Box], width: int, height: int) -> dict[str, object]:
    """The pixels that any of the boxes touches; none where there is no box."""
    codes = [code for box in boxes if (code := box_code(box, width, height)) is not None]
    if not codes:
        empty = coco.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
        return {"size": [height, width], "counts": empty["counts"].decode("ascii")}
    whole = coco.merge(codes)
    return {"size": [height, width], "counts": whole["counts"].decode("ascii")}


def touched(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels that an xyxy box touches, as x0, y0, x1, y1 within the image; right and bottom exclusive.

    The one rounding of boxes to pixels: a truth and a prediction of the same box must be the same mask. x1 <= x0 or
    y1 <= y0 where it touches none; never negative, so that they may be slices.
    """
    x0, y0 = (max(0, math.floor(value)) for value in box[:2])
    x1, y1 = max(0, min(width, math.ceil(box[2]))), max(0, min(height, math.ceil(box[3])))
    return x0, y0, x1, y1


def union(codes: Sequence[dict[str, object]]) -> dict[str, object]:
    """The union of masks of one size, as run-length code."""
    code = coco.merge(list(codes))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def around(boxes: Iterable[Box]) -> Box:
    """The smallest xyxy box around all of them; NO_BOX around none."""
    if not (corners := list(boxes)):
        return NO_BOX
    x0, y0, x1, y1 = zip(*corners, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def tight_box(code: dict[str, object]) -> Box:
    """The smallest xyxy box around a mask that is not empty, in pixels, right and bottom exclusive."""
    x, y, width, height = (float(value) for value in coco.toBbox(code))
    return x, y, x + width, y + height


def overlapping(segmentation: object, width: int, height: int) -> bool:
    """Whether polygons of one annotation cover pixels twice, so that their summed areas are no area.

    Takes a segmentation that `to_rle` accepts.
    """
    if not isinstance(segmentation, list) or len(segmentation) < 2:
        return False
    parts = coco.frPyObjects([part for part in segmentation if len(part) >= 6], height, width)
    return int(np.sum(coco.area(parts))) > int(coco.area(coco.merge(parts)))


def _polygons(parts: list, width: int, height: int, where: str) -> list[list[float]]:
    reach = max(width, height)
    for part in parts:
        if not isinstance(part, list) or len(part) % 2:
            raise DataError(f"{where} has a polygon that is not a list of x, y pairs: {_ADVICE}.")
        # Annotators overshoot the border a little; a coordinate far outside is an error of units.
        if not all(is_number(value, 2 * reach) for value in part):
            raise DataError(
                f"{where} has a polygon with a coordinate that is no number or far outside its image: {_ADVICE}."
            )
    # Points and lines cover nothing, and pycocotools would take a list of four numbers for a box.
    areas = [part for part in parts if len(part) >= 6]
    if not areas:
        raise DataError(f"{where} has an empty polygon: {_ADVICE}.")
    return areas


def _code(segmentation: dict, width: int, height: int, where: str) -> dict:
    size = field(segmentation, "size", list, f"the segmentation of {where}")
    if size != [height, width]:
        raise DataError(
            f"{where} has run-length code for size {short(size)}, but its image's [height, width] is "
            f"[{height}, {width}]: {_ADVICE}."
        )
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        _check_runs(counts, width * height, where)
        return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    if isinstance(counts, bytes):  # as in pickles, and as pycocotools itself returns it
        counts = counts.decode("latin1")
    if not isinstance(counts, str):
        raise DataError(f"{where} has run-length code whose counts are neither list nor text: {_ADVICE}.")
    _check_runs(_runs_of(counts), width * height, where)
    return {"size": [height, width], "counts": counts}


def _check_runs(runs: list | None, pixels: int, where: str) -> None:
    if runs is None or not all(type(run) is int and 0 <= run <= pixels for run in runs) or sum(runs) != pixels:
        raise DataError(
            f"{where} has damaged run-length code, whose runs do not add up to the image's {pixels} pixels: {_ADVICE}."
        )


def _runs_of(counts: str) -> list[int] | None:
    """The runs of compressed COCO code (cocoapi `common/maskApi.c`, rleFrString); None where it is malformed.

    Five bits a character, the sixth says that more follow; from the fourth run on, the difference to the run
    two before is stored.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > 60:  # no run is that long
                return None
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs if shift == 0 else None
