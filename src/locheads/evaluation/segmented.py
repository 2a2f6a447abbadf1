"""Masks by a segmenter instead of pseudo-masks, in the rows of one image's predictions."""

import numpy as np
from pycocotools import mask as coco

from locheads.data.image_files import open_image
from locheads.errors import DataError, ModelError
from locheads.evaluation.rows import Row, mask_counts
from locheads.grounding.boxes import tight_boxes
from locheads.segmenters.config import SegmenterConfig
from locheads.segmenters.prompting import prompt_of
from locheads.segmenters.segmenter import Prompt, Segmentation, Segmenter
from locheads.types import ImageGroup

NO_MEMORY = "the segmentation of the image does not fit into the memory"


def segment_rows(rows: list[Row], group: ImageGroup, segmenter: Segmenter, config: SegmenterConfig) -> list[Row]:
    """The rows with the segmenter's masks, `mask_score` and what it was asked; the image is embedded once for all.

    Rows without a box keep their empty mask. An image that cannot be opened or a box without area is recorded in
    the row's error; its box stays, its mask is a miss. With config.box the box becomes the mask's tight box.
    """
    asked: list[Row] = []
    done = [dict(row, mask_score=None, asked=None) for row in rows]
    for row in done:
        if row["x0"] is None:
            continue
        try:
            row["asked"] = _prompt(row, config)
            asked.append(row)
        except ValueError as error:
            _fail(row, str(error))
    prompts = [row["asked"] for row in asked]
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
        _fill(row, answer, config.box)
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


def _prompt(row: Row, config: SegmenterConfig) -> Prompt:
    mask, size = None, (row["mask_width"], row["mask_height"])
    if row["mask_counts"] is not None:
        mask = coco.decode({"size": size[::-1], "counts": row["mask_counts"]}).astype(bool)
    peak = None if row["peak_x"] is None else (row["peak_x"], row["peak_y"])
    return prompt_of(config, (row["x0"], row["y0"], row["x1"], row["y1"]), size, peak, mask, row.get("fused"))


def _fill(row: Row, answer: Segmentation, box_of_mask: bool) -> None:
    row |= {"mask_counts": mask_counts(answer.mask), "mask_score": answer.score}
    if box_of_mask and answer.mask.any():
        row |= dict(zip(("x0", "y0", "x1", "y1"), tight_boxes(answer.mask[None])[0].tolist(), strict=True))


def _fail(row: Row, reason: str) -> None:
    row |= {"mask_counts": None, "error": f"no mask: {reason}"}
