"""Masks by a segmenter instead of pseudo-masks, in the rows of one image's predictions."""

import numpy as np
from pycocotools import mask as coco

from locheads.data.image_files import open_image
from locheads.errors import DataError, ModelError
from locheads.evaluation.rows import Row, mask_counts
from locheads.grounding.boxes import tight_boxes
from locheads.segmenters.segmenter import Prompt, Segmentation, Segmenter
from locheads.types import ImageGroup

NO_MEMORY = "the segmentation of the image does not fit into the memory"


def segment_rows(rows: list[Row], group: ImageGroup, segmenter: Segmenter, box_of_mask: bool = False) -> list[Row]:
    """The rows with the segmenter's masks and `mask_score`; the image is embedded once for all of them.

    Rows without a box keep their empty mask. An image that cannot be opened or a box without area is recorded in
    the row's error; its box stays, its mask is a miss. `box_of_mask`: the box becomes the mask's tight box.
    """
    prompts: list[Prompt] = []
    asked: list[Row] = []
    done = [dict(row, mask_score=None) for row in rows]
    for row in done:
        if row["x0"] is None:
            continue
        try:
            prompts.append(_prompt(row))
            asked.append(row)
        except ValueError as error:
            _fail(row, str(error))
    try:
        found = segmenter.segment(open_image(group), prompts) if prompts else []
    except (DataError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise  # only a lack of memory is a sample's own failure
        for row in asked:
            _fail(row, str(error) if isinstance(error, DataError) else NO_MEMORY)
        return done
    _check(found, prompts, group)
    for row, answer in zip(asked, found, strict=True):
        _fill(row, answer, box_of_mask)
    return done


def _check(found: list[Segmentation], prompts: list[Prompt], group: ImageGroup) -> None:
    """A segmenter of the user's own may answer anything. Raises ModelError."""
    if len(found) != len(prompts):
        raise ModelError(
            f"The segmenter gave {len(found)} masks to {len(prompts)} prompts: give one each, in their order."
        )
    for answer in found:
        mask = np.asarray(answer.mask)
        if mask.dtype != bool or mask.shape != (group.height, group.width):
            raise ModelError(
                f"The segmenter gave a mask of {mask.dtype} {list(mask.shape)} for image {group.image_id}: it must be "
                f"bool [height, width] = [{group.height}, {group.width}]."
            )


def _prompt(row: Row) -> Prompt:
    mask = None
    if row["mask_counts"] is not None:
        size = [row["mask_height"], row["mask_width"]]
        mask = coco.decode({"size": size, "counts": row["mask_counts"]}).astype(bool)
    point = None if row["peak_x"] is None else (row["peak_x"], row["peak_y"])
    return Prompt((row["x0"], row["y0"], row["x1"], row["y1"]), point, mask)


def _fill(row: Row, answer: Segmentation, box_of_mask: bool) -> None:
    row |= {"mask_counts": mask_counts(answer.mask), "mask_score": answer.score}
    if box_of_mask and answer.mask.any():
        row |= dict(zip(("x0", "y0", "x1", "y1"), tight_boxes(answer.mask[None])[0].tolist(), strict=True))


def _fail(row: Row, reason: str) -> None:
    row |= {"mask_counts": None, "error": f"no mask: {reason}"}
